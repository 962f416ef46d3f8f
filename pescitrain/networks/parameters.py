"""All trainable numbers as one flat vector θ, of which the modules' parameters are views, and parts of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pescitrain.networks.device import HOST, on_device, on_host
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


class Parameters:
    """A vector of trainable numbers and where they live: all of θ, or some of its layers.

    Attributes
    ----------
    entries : list of Entry         the parameter tensors in the order of the vector
    layers : list of Layer          consecutive entries that belong together, in feed-forward order
    unknowns : dict                 name -> the unknown coefficients of the problem, in this vector or not
    device : torch.device           where the modules are
    """

    entries: list[Entry]
    layers: list[Layer]
    unknowns: dict[str, nn.Parameter]
    device: torch.device

    @property
    def size(self) -> int:
        """Entries of the vector."""
        return self.layers[-1].stop

    def current(self) -> NDArray[np.float64]:
        """The values (size,) in the modules, a copy."""
        raise NotImplementedError

    def put(self, values: NDArray[np.float64]) -> None:
        """Write values (size,) into the modules."""
        raise NotImplementedError

    def zero_gradient(self) -> None:
        """Before a ``backward``."""
        raise NotImplementedError

    def collected_gradient(self) -> NDArray[np.float64]:
        """What ``backward`` has accumulated (size,); the next call may overwrite it."""
        raise NotImplementedError

    def find(self, parameter: Tensor) -> Entry | None:
        """The entry of a module's parameter, or None where it is not in this vector."""
        raise NotImplementedError

    def entries_of(self, layer: Layer) -> list[Entry]:
        """The entries of one of the layers."""
        first, last = (bisect_left(self.entries, end, key=attrgetter("start")) for end in (layer.start, layer.stop))
        return self.entries[first:last]

    def frozen(self) -> Mapping[str, Tensor]:
        """Name -> value of what the networks have beside this vector."""
        return {}


class FlatParameters(Parameters):
    """θ (n,) float64, its gradient (n,), and who lives where.

    Order: network by network, layer by layer in feed-forward order, then the unknowns. Writing into ``values`` changes
    the modules; ``backward`` of torch accumulates into ``gradient`` without a copy.
    """

    def __init__(self, networks: nn.ModuleDict, unknowns: Sequence[tuple[str, float]] = ()) -> None:
        self.device = next((parameter.device for parameter in networks.parameters()), HOST)
        initial = {name: torch.tensor([value], dtype=torch.float64, device=self.device) for name, value in unknowns}
        self.unknowns = {name: nn.Parameter(value) for name, value in initial.items()}
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
        self.values = torch.empty(position, dtype=torch.float64, device=self.device)
        self.gradient = torch.zeros_like(self.values)
        for entry in self.entries:
            shape = entry.parameter.shape
            self.values[entry.start : entry.stop] = entry.parameter.detach().reshape(-1)
            entry.parameter.data = self.values[entry.start : entry.stop].view(shape)
            entry.parameter.grad = self.gradient[entry.start : entry.stop].view(shape)
        self._entry_of = {id(entry.parameter): entry for entry in self.entries}

    def current(self) -> NDArray[np.float64]:
        return on_host(self.values).copy()

    def put(self, values: NDArray[np.float64]) -> None:
        self.values.copy_(on_device(values, HOST))

    def zero_gradient(self) -> None:
        self.gradient.zero_()

    def collected_gradient(self) -> NDArray[np.float64]:
        return on_host(self.gradient)

    def find(self, parameter: Tensor) -> Entry | None:
        return self._entry_of.get(id(parameter))

    def slice(self, parameter: Tensor) -> slice:
        """Where a module's parameter lives in θ."""
        entry = self._entry_of[id(parameter)]
        return slice(entry.start, entry.stop)


class RestrictedParameters(Parameters):
    """Some whole layers of θ as a vector of their own; the others keep their values.

    Parameters
    ----------
    whole : FlatParameters
    active : (k,) int       sorted indices in θ of whole layers
    """

    def __init__(self, whole: FlatParameters, active: NDArray[np.integer]) -> None:
        self.whole, self.active, self.unknowns, self.device = whole, active, whole.unknowns, whole.device
        self._places = on_device(active, self.device)
        inside = np.zeros(whole.size, dtype=bool)
        inside[active] = True
        place = np.cumsum(inside) - 1

        def moved(part: Entry | Layer) -> tuple[int, int]:
            return int(place[part.start]), int(place[part.start]) + part.stop - part.start

        self.layers, self.entries = [], []
        for layer in whole.layers:
            if inside[layer.start : layer.stop].all():
                start, stop = moved(layer)
                self.layers.append(replace(layer, start=start, stop=stop))
                for entry in whole.entries_of(layer):
                    start, stop = moved(entry)
                    self.entries.append(replace(entry, start=start, stop=stop))
        if sum(layer.size for layer in self.layers) != len(active):
            raise ValueError("a part of the parameters is made of whole layers")
        self._entry_of = {id(entry.parameter): entry for entry in self.entries}

    def current(self) -> NDArray[np.float64]:
        return on_host(self.whole.values[self._places])

    def put(self, values: NDArray[np.float64]) -> None:
        self.whole.values[self._places] = on_device(values, self.device)

    def zero_gradient(self) -> None:
        self.whole.zero_gradient()

    def collected_gradient(self) -> NDArray[np.float64]:
        return on_host(self.whole.gradient[self._places])

    def find(self, parameter: Tensor) -> Entry | None:
        return self._entry_of.get(id(parameter))

    def frozen(self) -> Mapping[str, Tensor]:
        return {e.name: e.parameter.detach() for e in self.whole.entries if self.find(e.parameter) is None}

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, torch differentiates with respect to these parameters only."""
        others = [entry.parameter for entry in self.whole.entries if self.find(entry.parameter) is None]
        others = [parameter for parameter in others if parameter.requires_grad]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)


def _layers(networks: nn.ModuleDict) -> Iterator[tuple[str, str, list[tuple[str, nn.Parameter]]]]:
    """(network, layer, [(name, parameter)]) of what is trained.

    Modules without layers() are grouped by their innermost submodule.
    """
    for network, module in networks.items():
        named = dict(module.named_parameters())
        if isinstance(module, Network):
            groups = module.trained_layers()
        else:
            by_owner: dict[str, list[str]] = {}
            for name in named:
                by_owner.setdefault(name.rpartition(".")[0] or network, []).append(name)
            groups = list(by_owner.items())
        prefix = f"{network}." if len(networks) > 1 else ""
        for layer, names in groups:
            yield network, f"{prefix}{layer}", [(f"{network}.{name}", named[name]) for name in names]
