"""A network that is linear in some of its inputs: products of networks of the others and linear maps of these."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.jets import multiply
from pescitrain.networks.network import Network, linear
from pescitrain.networks.tape import Tape


class ProductNetwork(Network):
    """x = (a, f) -> V (g(a) ⊙ (L f + l)) + c, where g is a perceptron of the first ``gains`` inputs a.

    ``depth`` hidden layers of ``width`` neurons in g; ``terms`` products, whose factors g start near one.
    Source: the products of Jin, Meng & Lu, SIAM J. Sci. Comput. 44 (2022) A3490 (MIONet), for one linear factor.
    """

    def __init__(
        self,
        embedding: nn.Module,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        gains: int,
        terms: int,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(embedding, activation, False)
        generator = generator or torch.Generator().manual_seed(0)
        self.gains, self.terms = gains, terms
        self.gain = nn.ModuleList(linear(a, b, generator) for a, b in pairwise([gains, *[width] * depth, terms]))
        self.linear = linear(inputs - gains, terms, generator)
        self.output = linear(terms, outputs, generator)
        with torch.no_grad():
            last = self.gain[-1]
            assert isinstance(last, nn.Linear)
            last.bias.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        a, f = self.embedding(x).split((self.gains, self.linear.in_features), dim=1)
        for layer in self.gain[:-1]:
            a = self._activate(layer(a), None)
        return self.output(self.gain[-1](a) * self.linear(f))

    def layer_jet(self, index: int, jet: Tensor, components: Components, tape: Tape) -> Tensor:
        """Up to the products, the jets of f go along after those of the hidden layer."""
        if index == len(self.gain):
            return tape.affine(self.output, jet)
        layer, others = self.gain[index], self.linear.in_features
        assert isinstance(layer, nn.Linear)
        a, f = jet.split((jet.shape[1] - others, others), dim=1)
        z = tape.affine(layer, a)
        if index == len(self.gain) - 1:
            return multiply(z, tape.affine(self.linear, f), components)
        return torch.cat((self._activate_jet(z, None, components, tape), f), dim=1)

    def output_layer(self) -> nn.Linear:
        return self.output

    def resized(self, width: int, depth: int) -> ProductNetwork:
        inputs, outputs = self.gains + self.linear.in_features, self.output.out_features
        sizes = (inputs, outputs, width, depth, self.gains, self.terms)
        return ProductNetwork(self.embedding, *sizes, self.activation_name)

    def layers(self) -> list[tuple[str, list[str]]]:
        last = len(self.gain) - 1
        result = [(f"layer_{i}", [f"gain.{i}.weight", f"gain.{i}.bias"]) for i in range(last)]
        product = [f"gain.{last}.weight", f"gain.{last}.bias", "linear.weight", "linear.bias"]
        return [*result, ("product", product), ("output", ["output.weight", "output.bias"])]
