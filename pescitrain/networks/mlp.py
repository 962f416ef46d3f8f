"""The multilayer perceptron."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.network import Network, linear
from pescitrain.networks.tape import Tape


class MLP(Network):
    """``depth`` hidden layers of ``width`` neurons with activations, then an affine output layer."""

    def __init__(
        self,
        embedding: nn.Module,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        activation: str = "tanh",
        adaptive_slope: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(embedding, activation, adaptive_slope)
        generator = generator or torch.Generator().manual_seed(0)
        sizes = [inputs, *[width] * depth, outputs]
        self.affine = nn.ModuleList(linear(a, b, generator) for a, b in pairwise(sizes))
        self.slopes = nn.ParameterList(slope for _ in range(depth) if (slope := self.new_slope()) is not None)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        for index, layer in enumerate(self.affine[:-1]):
            h = self._activate(layer(h), self._slope(index))
        return self.affine[-1](h)

    def layer_jet(self, index: int, jet: Tensor, components: Components, tape: Tape) -> Tensor:
        layer = self.affine[index]
        assert isinstance(layer, nn.Linear)
        z = tape.affine(layer, jet)
        return z if index == len(self.affine) - 1 else self._activate_jet(z, self._slope(index), components, tape)

    def output_layer(self) -> nn.Linear:
        layer = self.affine[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def resized(self, width: int, depth: int) -> MLP:
        inputs, outputs = self.affine[0].in_features, self.affine[-1].out_features
        return MLP(self.embedding, inputs, outputs, width, depth, self.activation_name, self.adaptive_slope)

    def _slope(self, index: int) -> Tensor | None:
        return self.slopes[index] if self.adaptive_slope else None

    def layers(self) -> list[tuple[str, list[str]]]:
        last = len(self.affine) - 1
        result = []
        for i in range(last + 1):
            names = [f"affine.{i}.weight", f"affine.{i}.bias"]
            if self.adaptive_slope and i < last:
                names.append(f"slopes.{i}")
            result.append((f"layer_{i}" if i < last else "output", names))
        return result
