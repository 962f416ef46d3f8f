"""The residual network as a forward-Euler discretisation of an ordinary differential equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.network import Network, linear
from pescitrain.networks.tape import Tape


class ResNet(Network):
    """Opening layer q₀ = σ(W x + b), ``depth`` − 1 steps q ← q + Δt σ(W q + b), affine output; Δt = T / (depth − 1).

    ``depth`` counts the hidden layers, the opening one among them, as in :class:`~pescitrain.networks.mlp.MLP`.
    Source: Haber & Ruthotto, Stable architectures for deep neural networks, Inverse Problems 34 (2017), eq. (2).
    """

    def __init__(
        self,
        embedding: nn.Module,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        activation: str = "tanh",
        adaptive_slope: bool = False,
        final_time: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(embedding, activation, adaptive_slope)
        generator = generator or torch.Generator().manual_seed(0)
        self.final_time = final_time
        self.time_step = final_time / max(1, depth - 1)
        self.opening = linear(inputs, width, generator)
        self.steps = nn.ModuleList(linear(width, width, generator) for _ in range(depth - 1))
        self.output = linear(width, outputs, generator)
        self.slopes = nn.ParameterList(slope for _ in range(depth) if (slope := self.new_slope()) is not None)

    def forward(self, x: Tensor) -> Tensor:
        slopes = self._slopes()
        q = self._activate(self.opening(self.embedding(x)), slopes[0])
        for layer, slope in zip(self.steps, slopes[1:], strict=True):
            q = q + self.time_step * self._activate(layer(q), slope)
        return self.output(q)

    def layer_jet(self, index: int, jet: Tensor, components: Components, tape: Tape) -> Tensor:
        if index > len(self.steps):
            return tape.affine(self.output, jet)
        slope = self._slopes()[index]
        if index == 0:
            return self._activate_jet(tape.affine(self.opening, jet), slope, components, tape)
        layer = self.steps[index - 1]
        assert isinstance(layer, nn.Linear)
        return jet + self.time_step * self._activate_jet(tape.affine(layer, jet), slope, components, tape)

    def output_layer(self) -> nn.Linear:
        return self.output

    def resized(self, width: int, depth: int) -> ResNet:
        inputs, outputs = self.opening.in_features, self.output.out_features
        return ResNet(
            self.embedding,
            inputs,
            outputs,
            width,
            depth,
            self.activation_name,
            self.adaptive_slope,
            self.final_time,
        )

    def _slopes(self) -> list[Tensor | None]:
        return list(self.slopes) or [None] * (len(self.steps) + 1)

    def layers(self) -> list[tuple[str, list[str]]]:
        names = [("opening", "opening"), *((f"step_{i}", f"steps.{i}") for i in range(len(self.steps)))]
        result = []
        for i, (name, module) in enumerate(names):
            slope = [f"slopes.{i}"] if self.adaptive_slope else []
            result.append((name, [f"{module}.weight", f"{module}.bias", *slope]))
        return [*result, ("output", ["output.weight", "output.bias"])]
