"""Many small networks, each in its own overlapping subdomain, joined by a partition of unity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.device import on_host
from pescitrain.networks.jets import activate, multiply
from pescitrain.networks.network import Network
from pescitrain.networks.tape import Tape
from pescitrain.networks.windows import Windows

AT_A_TIME = 1_000_000
"""Pairs of supports that are looked at together."""


@dataclass(frozen=True)
class SubdomainJets:
    """Where the networks of A subdomains are evaluated: up to P of M points each, and what is constant there.

    A subdomain with fewer points than P has points where its window is set to zero. ``rest``: the jet that the frozen
    networks of other subdomains add, where there are any.
    """

    subdomains: Tensor  # (A,) int64: their numbers
    points: Tensor  # (A, P) int64: numbers of the points, 0 where there is none
    inputs: Tensor  # (C, A, d, P): the jets of the coordinates, scaled to the support
    windows: Tensor  # (C, A, 1, P): the jets of the windows
    count: int  # M
    rest: Tensor | None = None  # (C, outputs, M)

    @cached_property
    def here(self) -> Tensor:
        """(A, P): which entries are points of the subdomain."""
        return self.windows[:, :, 0].abs().amax(0) > 0.0

    def at(self, chosen: Tensor) -> SubdomainJets:
        """At some of the points (indices, no two alike), which are numbered anew."""
        place = torch.full((self.count,), -1, dtype=torch.int64, device=chosen.device)
        place[chosen] = torch.arange(len(chosen), device=chosen.device)
        moved = place[self.points]
        here = (moved >= 0) & self.here
        jets = _compressed(self.subdomains, here, moved, self.inputs, self.windows, len(chosen))
        return jets if self.rest is None else replace(jets, rest=self.rest.index_select(2, chosen))

    def of(self, rows: Tensor) -> SubdomainJets:
        """Of some of the subdomains (bool (A,)) alone."""
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
        subdomains, rows, sizes = torch.unique(owners, return_inverse=True, return_counts=True)
        order = torch.argsort(rows, stable=True)
        rows = rows[order]
        columns = torch.arange(len(rows), device=rows.device) - (sizes.cumsum(0) - sizes)[rows]
        shape = (len(subdomains), int(sizes.max()) if len(sizes) else 0)
        packed = points.new_zeros(shape)
        packed[rows, columns] = points[order]

        def packed_jet(values: Tensor) -> Tensor:
            jet = values.new_zeros(len(values), *shape, values.shape[2])
            jet[:, rows, columns] = values[:, order]
            return jet.movedim(3, 2).contiguous()

        return cls(subdomains, packed, packed_jet(inputs), packed_jet(windows), count)


def _compressed(
    subdomains: Tensor, here: Tensor, points: Tensor, inputs: Tensor, windows: Tensor, count: int
) -> SubdomainJets:
    """Only the entries (A, P) that are ``here``, moved to the front, in their order."""
    used = here.any(1)
    subdomains, here, points, inputs, windows = (
        subdomains[used],
        here[used],
        points[used],
        inputs[:, used],
        windows[:, used],
    )
    longest = int(here.sum(1).max()) if len(here) else 0
    order = torch.argsort(~here, dim=1, stable=True)[:, :longest]
    valid = torch.gather(here, 1, order)
    columns = order[None, :, None]
    return SubdomainJets(
        subdomains,
        torch.where(valid, torch.gather(points, 1, order), 0),
        torch.gather(inputs, 3, columns.expand(*inputs.shape[:3], -1)),
        torch.gather(windows, 3, columns.expand(*windows.shape[:3], -1)) * valid[None, :, None],
        count,
    )


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
        h = (x.unsqueeze(0) - self.windows.centers.unsqueeze(1)) / self.windows.half_widths.unsqueeze(1)
        *hidden, (weight, bias) = self.affine_maps()
        for inner, shift in hidden:
            h = self._activate(torch.baddbmm(shift.unsqueeze(1), h, inner.mT), None)
        values = torch.baddbmm(bias.unsqueeze(1), h, weight.mT)  # (S, M, k)
        return (self.windows(x).t().unsqueeze(2) * values).sum(0)

    def embed_jet(self, x: Tensor, components: Components) -> SubdomainJets:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Where each network is evaluated among the points x (M, d), with the windows and coordinates there."""
        windows = self.windows.jet(x, components)  # (C, S, M)
        here = windows[0] > 0.0
        numbers = torch.arange(len(x), device=x.device).expand(len(here), -1)
        inputs = x.new_zeros(len(components), len(here), x.shape[1], len(x))
        inputs[0] = (x.t() - self.windows.centers.unsqueeze(2)) / self.windows.half_widths.unsqueeze(2)
        for component, position in components.index.items():
            if isinstance(component, tuple) and len(component) == 1:
                inputs[position, :, component[0]] = 1.0 / self.windows.half_widths[:, component[0], None]
        everything = torch.arange(len(here), device=x.device)
        return _compressed(everything, here, numbers, inputs, windows.unsqueeze(2), len(x))

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

    def overlapping(self, other: SubdomainNetwork) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which supports overlap with which of another network, or of this one: rows and columns of (S, S')."""
        (centers, half), (others, widths) = (
            (on_host(network.windows.centers), on_host(network.windows.half_widths)) for network in (self, other)
        )
        step = max(1, AT_A_TIME // len(others))
        rows, columns = [], []
        for first in range(0, len(centers), step):
            part = slice(first, first + step)
            apart, reach = np.abs(centers[part, None] - others), half[part, None] + widths
            row, column = np.nonzero((apart < (1.0 - 1e-9) * reach).all(2))
            rows.append(row + first)
            columns.append(column)
        return np.concatenate(rows), np.concatenate(columns)

    def level_sizes(self) -> list[int]:
        """Numbers of subdomains of the levels."""
        return self.windows.sizes()
