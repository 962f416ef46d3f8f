"""All trainable numbers as one flat vector θ, of which the modules' parameters are views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pescitrain.networks.network import Network


@dataclass(frozen=True)
class Entry:
    """One parameter tensor of a module and its place [start, stop) in θ."""

    name: str
    parameter: nn.Parameter
    start: int
    stop: int


@dataclass(frozen=True)
class Layer:
    """Consecutive entries that belong together: one layer of a network, or the unknowns of a problem."""

    name: str
    network: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.stop - self.start


class FlatParameters:
    """θ (n,) float64, its gradient (n,), and who lives where.

    Order: network by network, layer by layer in feed-forward order, then the unknowns. Writing into ``values`` changes
    the modules; ``backward`` of torch accumulates into ``gradient`` without a copy.
    """

    def __init__(self, networks: nn.ModuleDict, unknowns: Sequence[tuple[str, float]] = ()) -> None:
        self.unknowns = {name: nn.Parameter(torch.tensor([value], dtype=torch.float64)) for name, value in unknowns}
        self.entries: list[Entry] = []
        self.layers: list[Layer] = []
        position = 0
        for network, layer, parameters in _layers(networks):
            start = position
            for name, parameter in parameters:
                self.entries.append(Entry(name, parameter, position, position + parameter.numel()))
                position += parameter.numel()
            self.layers.append(Layer(layer, network, start, position))
        start = position
        for name, parameter in self.unknowns.items():
            self.entries.append(Entry(name, parameter, position, position + 1))
            position += 1
        if self.unknowns:
            self.layers.append(Layer("unknowns", "", start, position))
        self.values = torch.empty(position, dtype=torch.float64)
        self.gradient = torch.zeros(position, dtype=torch.float64)
        for entry in self.entries:
            shape = entry.parameter.shape
            self.values[entry.start : entry.stop] = entry.parameter.detach().reshape(-1)
            entry.parameter.data = self.values[entry.start : entry.stop].view(shape)
            entry.parameter.grad = self.gradient[entry.start : entry.stop].view(shape)
        self.entry_of = {id(entry.parameter): entry for entry in self.entries}

    @property
    def size(self) -> int:
        """n, the number of parameters."""
        return self.values.numel()

    def slice(self, parameter: Tensor) -> slice:
        """Where a module's parameter lives in θ."""
        entry = self.entry_of[id(parameter)]
        return slice(entry.start, entry.stop)


def _layers(networks: nn.ModuleDict) -> Iterator[tuple[str, str, list[tuple[str, nn.Parameter]]]]:
    """(network, layer, [(name, parameter)]); modules without layers() are grouped by their innermost submodule."""
    for network, module in networks.items():
        named = dict(module.named_parameters())
        if isinstance(module, Network):
            groups = module.layers()
        else:
            by_owner: dict[str, list[str]] = {}
            for name in named:
                by_owner.setdefault(name.rpartition(".")[0] or network, []).append(name)
            groups = list(by_owner.items())
        prefix = f"{network}." if len(networks) > 1 else ""
        for layer, names in groups:
            yield network, f"{prefix}{layer}", [(f"{network}.{name}", named[name]) for name in names]
