"""Many small networks, each in its own overlapping subdomain, joined by a partition of unity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.jets import activate, multiply
from pescitrain.networks.meetings import Meeting, meetings
from pescitrain.networks.network import Network
from pescitrain.networks.tape import Tape
from pescitrain.networks.windows import Windows

ROW_COST = 32
"""What a row costs beside its points, in points."""


@dataclass(frozen=True)
class SubdomainJets:
    """Where the networks of subdomains are evaluated: A rows of up to P of M points, and what is constant there.

    A subdomain has one row or several. A row with fewer points than P has points where the window is set to zero.
    ``rest``: the jet that the frozen networks of other subdomains add, where there are any.
    """

    subdomains: Tensor  # (A,) int64: their numbers, ascending
    points: Tensor  # (A, P) int64: numbers of the points, 0 where there is none
    inputs: Tensor  # (C, A, d, P): the jets of the coordinates, scaled to the support
    windows: Tensor  # (C, A, 1, P): the jets of the windows
    count: int  # M
    rest: Tensor | None = None  # (C, outputs, M)

    @cached_property
    def here(self) -> Tensor:
        """(A, P): which entries are points of the subdomain of the row."""
        return self.windows[:, :, 0].abs().amax(0) > 0.0

    @cached_property
    def meetings(self) -> list[Meeting]:
        """The points that two of the subdomains have in common, as places in the A rows one after the other."""
        _, numbers = torch.unique_consecutive(self.subdomains, return_inverse=True)
        owners = numbers.unsqueeze(1).expand_as(self.here)[self.here]
        return meetings(owners, self.points[self.here], self.here.flatten().nonzero()[:, 0])

    def at(self, chosen: Tensor) -> SubdomainJets:
        """At some of the points (indices, no two alike), which are numbered anew."""
        place = torch.full((self.count,), -1, dtype=torch.int64, device=chosen.device)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        moved = place[self.points]
        here = (moved >= 0) & self.here
        jets = SubdomainJets.packed(
            self.subdomains.unsqueeze(1).expand_as(here)[here],
            moved[here],
            self.inputs.movedim(2, 3)[:, here],
            self.windows.movedim(2, 3)[:, here],
            len(chosen),
        )
        return jets if self.rest is None else replace(jets, rest=self.rest.index_select(2, chosen))

    def of(self, rows: Tensor) -> SubdomainJets:
        """Of some of the rows (bool (A,)) alone."""
        return replace(
            self,
            subdomains=self.subdomains[rows],
            points=self.points[rows],
            inputs=self.inputs[:, rows],
            windows=self.windows[:, rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[SubdomainJets], numbers: Sequence[Tensor], count: int) -> SubdomainJets:
        """Several as one; ``numbers`` (M of the part,): those of its points among all M = ``count``."""
        entries = [part.here for part in parts]
        owners = torch.cat([p.subdomains.unsqueeze(1).expand_as(h)[h] for p, h in zip(parts, entries, strict=True)])
        points = torch.cat([own[p.points[h]] for p, h, own in zip(parts, entries, numbers, strict=True)])
        inputs, windows = (
            torch.cat([getattr(p, name).movedim(2, 3)[:, h] for p, h in zip(parts, entries, strict=True)], dim=1)
            for name in ("inputs", "windows")
        )
        return cls.packed(owners, points, inputs, windows, count)

    @classmethod
    def packed(cls, owners: Tensor, points: Tensor, inputs: Tensor, windows: Tensor, count: int) -> SubdomainJets:
        """From entries: their subdomains and points (K,), the jets (C, K, d) of inputs and (C, K, 1) of windows."""
        table = _Table(owners)
        inputs, windows = (table.of(jet).movedim(3, 2).contiguous() for jet in (inputs, windows))
        return cls(table.subdomains, table.of(points.unsqueeze(0))[0], inputs, windows, count)


class _Table:
    """Entries (K,) of subdomains in rows of P, those of one in their order, in one row or more, and zeros behind."""

    def __init__(self, owners: Tensor) -> None:
        subdomains, numbers, sizes = torch.unique(owners, return_inverse=True, return_counts=True)
        length = _row_length(sizes)
        pieces = -(-sizes // max(1, length))
        self.subdomains = subdomains.repeat_interleave(pieces)
        self._order = torch.argsort(numbers, stable=True)
        own = numbers[self._order]
        places = torch.arange(len(own), device=own.device) - (sizes.cumsum(0) - sizes)[own]
        self._rows = (pieces.cumsum(0) - pieces)[own] + places // max(1, length)
        self._columns = places % max(1, length)
        self._shape = (len(self.subdomains), length)

    def of(self, values: Tensor) -> Tensor:
        """(C, K, …) -> (C, A, P, …)."""
        table = values.new_zeros(len(values), *self._shape, *values.shape[2:])
        table[:, self._rows, self._columns] = values[:, self._order]
        return table


def _row_length(sizes: Tensor) -> int:
    """How many entries a row has, so that subdomains with so many of them (S,) take the least work, padding included.

    One row for each would be as long as that of the largest: more than half of it is padding where a chunk lies in few
    subdomains and at the borders of others.
    """
    if not len(sizes):
        return 0
    largest = int(sizes.max())
    lengths = torch.tensor([-(-largest // pieces) for pieces in range(1, 33)], device=sizes.device).unique()
    work = (-(-sizes.unsqueeze(1) // lengths)).sum(0) * (lengths + ROW_COST)
    return int(lengths[work.argmin()])


class SubdomainNetwork(Network):
    """u(x) = Σ_s w_s(x) N_s((x − c_s) / h_s): S perceptrons of one shape, ``depth`` hidden layers of ``width`` neurons.

    The windows w_s are a partition of unity, or several one on the other; c_s and h_s are centre and half widths of
    their supports. The parameters of one network after the other make up θ, each a vector; the networks of all
    subdomains are evaluated together, and only where their window is not zero. Frozen hidden layers are kept apart, so
    that each vector is the output layer of its network alone.
    Source: Moseley, Markham & Nissen-Meyer, Adv. Comput. Math. 49 (2023) 62.
    """

    hidden: Tensor  # (S, numbers that are frozen)

    def __init__(
        self,
        windows: Windows,
        outputs: int,
        width: int,
        depth: int,
        activation: str = "tanh",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(nn.Identity(), activation, adaptive_slope=False)
        self.windows = windows
        self.sizes = [windows.centers.shape[1], *[width] * depth, outputs]
        generator = generator or torch.Generator().manual_seed(0)
        self.subdomains = nn.ParameterList(self._initial(generator) for _ in range(len(windows)))
        self.register_buffer("hidden", torch.zeros(len(windows), 0, dtype=torch.float64))

    def _initial(self, generator: torch.Generator) -> nn.Parameter:
        """Glorot-uniform weights, in the first layer twice as large, and biases of hidden neurons in [−1, 1].

        They spread the bends of the activations over the support, so that the output layers alone, solved for, are a
        good start.
        """
        parts = []
        for layer, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            bound = math.sqrt(6.0 / (inputs + outputs)) * (2.0 if layer == 0 else 1.0)
            spread = 1.0 if layer < len(self.sizes) - 2 else 0.0
            for count, largest in ((outputs * inputs, bound), (outputs, spread)):
                values = torch.empty(count, dtype=torch.float64)
                parts.append(values.uniform_(-largest, largest, generator=generator))
        return nn.Parameter(torch.cat(parts))

    def affine_maps(self, subdomains: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
        """Of each layer the weights (A, out, in) and biases (A, out) of some of the networks, or of all."""
        numbers = range(len(self.subdomains)) if subdomains is None else subdomains.tolist()
        hidden = self.hidden if subdomains is None else self.hidden[subdomains]
        values = torch.cat((hidden, torch.stack([self.subdomains[s] for s in numbers])), dim=1)
        maps, position = [], 0
        for inputs, outputs in pairwise(self.sizes):
            weight = values[:, position : position + outputs * inputs].unflatten(1, (outputs, inputs))
            position += outputs * inputs
            maps.append((weight, values[:, position : position + outputs]))
            position += outputs
        return maps

    def forward(self, x: Tensor) -> Tensor:
        numbers, windows = self.windows.near(x)  # (m, M)
        h = (x - self.windows.centers[numbers]) / self.windows.half_widths[numbers]
        *hidden, (weight, bias) = self.affine_maps()
        for inner, shift in hidden:
            h = self._activate((inner[numbers] @ h.unsqueeze(3)).squeeze(3) + shift[numbers], None)
        values = (weight[numbers] @ h.unsqueeze(3)).squeeze(3) + bias[numbers]  # (m, M, k)
        return (windows.unsqueeze(2) * values).sum(0)

    def embed_jet(self, x: Tensor, components: Components) -> SubdomainJets:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Where each network is evaluated among the points x (M, d), with the windows and coordinates there."""
        numbers, windows = self.windows.jet(x, components)  # (m, M), (C, m, M)
        points, slots = (windows[0].t() > 0.0).nonzero().unbind(1)
        owners = numbers[slots, points]
        half = self.windows.half_widths[owners]
        inputs = x.new_zeros(len(components), *half.shape)
        inputs[0] = (x[points] - self.windows.centers[owners]) / half
        for component, position in components.index.items():
            if isinstance(component, tuple) and len(component) == 1:
                inputs[position, :, component[0]] = 1.0 / half[:, component[0]]
        return SubdomainJets.packed(owners, points, inputs, windows[:, slots, points].unsqueeze(2), len(x))

    def forward_jet(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, jet: SubdomainJets, components: Components, tape: Tape, first: int = 0, last: int | None = None
    ) -> Tensor:
        """The jet (C, outputs, M) of the sum."""
        total = jet.inputs.new_zeros(len(components), self.sizes[-1], jet.count) if jet.rest is None else jet.rest
        if not len(jet.subdomains):
            return total
        h, maps = jet.inputs, self.affine_maps(jet.subdomains)
        for weight, bias in maps[:-1]:
            h = activate(tape.batched_affine(self, weight, bias, h), components, self.activation)
        values = multiply(jet.windows, tape.batched_affine(self, *maps[-1], h), components)  # (C, A, k, P)
        return total.index_add(2, jet.points.flatten(), values.movedim(2, 1).flatten(2))

    def output_parts(self) -> dict[str, slice]:
        last = self.sizes[-1] * (self.sizes[-2] + 1)
        return {f"subdomains.{s}": slice(-last, None) for s in range(len(self.subdomains))}

    def freeze_hidden(self) -> None:
        last = self.sizes[-1] * (self.sizes[-2] + 1)
        whole = torch.cat((self.hidden, torch.stack(list(self.subdomains)).detach()), dim=1)
        self.hidden = whole[:, :-last].clone()
        self.subdomains = nn.ParameterList(nn.Parameter(own.clone()) for own in whole[:, -last:])
        self.trains_output_only = True

    def frozen(self) -> dict[str, Tensor]:
        return {"hidden": self.hidden} if self.trains_output_only else {}

    def layers(self) -> list[tuple[str, list[str]]]:
        """One subdomain after the other: each is a layer of θ."""
        return [(f"subdomain_{s}", [f"subdomains.{s}"]) for s in range(len(self.subdomains))]

    def level_sizes(self) -> list[int]:
        """Numbers of subdomains of the levels."""
        return self.windows.sizes()
