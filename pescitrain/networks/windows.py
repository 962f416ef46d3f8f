"""Smooth partitions of unity: where each subdomain network counts, and how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn

from pescitrain.errors import OptionError
from pescitrain.networks.components import Components
from pescitrain.networks.device import on_host
from pescitrain.networks.jets import activate, divide, multiply, seed


class Windows(nn.Module):
    """Smooth functions w_1 … w_S of a point, each with a support: one partition of unity, or several.

    Attributes
    ----------
    centers, half_widths : (S, d)       of the supports
    """

    centers: Tensor
    half_widths: Tensor

    def __len__(self) -> int:
        return len(self.centers)

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, S): all windows."""
        numbers, values = self.near(x)
        return x.new_zeros(x.shape[0], len(self)).scatter_add(1, numbers.t(), values.t())

    def near(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, d) -> numbers (m, M) and values (m, M) of the windows that points may be under; m does not depend on M.

        No two numbers of a point are alike; windows that are left out are zero.
        """
        raise NotImplementedError

    def jet(self, x: Tensor, components: Components) -> tuple[Tensor, Tensor]:
        """Numbers (m, M) as of :meth:`near`, of which m may be less, and the jet (C, m, M) of these windows."""
        raise NotImplementedError

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the number of the subdomain that a point is most in."""
        raise NotImplementedError

    def sizes(self) -> list[int]:
        """Subdomains of each partition of unity."""
        return [len(self)]

    def overlapping(self, other: Windows) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which supports overlap with which of other windows, or of these: rows and columns of (S, S')."""
        rows, columns = [], []
        for first, centers, half in self._each_level():
            for other_first, others, widths in other._each_level():
                reach = half.max(0) + widths.max(0)
                trees = (KDTree(centers / reach), KDTree(others / reach))
                near = trees[0].sparse_distance_matrix(trees[1], 1.0, p=np.inf, output_type="ndarray")
                row, column = near["i"], near["j"]
                apart, together = np.abs(centers[row] - others[column]), half[row] + widths[column]
                overlap = (apart < (1.0 - 1e-9) * together).all(1)
                rows.append(first + row[overlap])
                columns.append(other_first + column[overlap])
        return np.concatenate(rows), np.concatenate(columns)

    def _each_level(self) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
        """Of each partition of unity the number of its first window, and centers and half widths."""
        centers, half, first = on_host(self.centers), on_host(self.half_widths), 0
        for size in self.sizes():
            yield first, centers[first : first + size], half[first : first + size]
            first += size


def bump(z: Tensor, count: int) -> list[Tensor]:
    """(1 + cos πz)² and derivatives, zero where abs(z) > 1; the first ones with 1 + cos πz as a factor, small there."""
    c, s = torch.cos(math.pi * z.clamp(-1.0, 1.0)), torch.sin(math.pi * z)
    rise = 1.0 + c
    rows = [rise.square(), -2.0 * math.pi * s * rise, -2.0 * math.pi**2 * (2.0 * c - 1.0) * rise][: count + 1]
    for k in range(3, count + 1):  # of 3/2 + 2 cos πz + cos(2πz)/2
        phase = 0.5 * math.pi * k
        rows.append(
            2.0 * math.pi**k * torch.cos(math.pi * z + phase)
            + 0.5 * (2.0 * math.pi) ** k * torch.cos(2.0 * math.pi * z + phase)
        )
    return rows[:1] + [row * (z.abs() < 1.0) for row in rows[1:]]


class BoxWindows(Windows):
    """Windows w_1 … w_S on a grid of overlapping boxes, with Σ w_s = 1 in the whole box.

    Along an axis of n intervals of width h, the window of an interval is (1 + cos πξ)² where |ξ| ≤ 1, ξ being the
    coordinate scaled to the interval and ``overlap`` · h on both sides of it, divided by the sum of all n; it and its
    first three derivatives are continuous. A window in d dimensions is the product of those of its axes.
    Source: the windows of Moseley, Markham & Nissen-Meyer, Adv. Comput. Math. 49 (2023) 62 (FBPINN), squared.

    Parameters
    ----------
    lower, upper : (d,)     corners of the box
    shape : (d,) int        intervals along each axis; S is their product, the last axis runs fastest
    overlap : float         how far a subdomain reaches over its interval, in widths of an interval

    Attributes
    ----------
    centers, half_widths : (S, d)       of the supports

    Raises
    ------
    OptionError     no overlap, or one that is larger than the domain
    """

    _reach: int  # supports along an axis that a point may be in

    def __init__(self, lower: Sequence[float], upper: Sequence[float], shape: Sequence[int], overlap: float) -> None:
        super().__init__()
        if not overlap > 0.0:
            raise OptionError(
                f"-net_overlap {overlap:g}: subdomain networks are joined where they overlap, so it must be above 0"
            )
        if any(1 < n < overlap for n in shape):
            raise OptionError(
                f"-net_overlap {overlap:g}: with {'x'.join(map(str, shape))} subdomains that reaches over the whole "
                f"domain; choose at most {min(n for n in shape if n > 1)}"
            )
        self.shape = tuple(shape)
        self._reach = math.ceil(1.0 + 2.0 * overlap - 1e-9)
        axes = []
        for axis, (low, high, count) in enumerate(zip(lower, upper, shape, strict=True)):
            ends, width = np.linspace(low, high, count + 1), (high - low) / count
            beyond = overlap * width if count > 1 else 0.0
            half = 0.5 * width + beyond
            centers = torch.tensor([0.5 * (a + b) for a, b in pairwise(ends)], dtype=torch.float64)
            self.register_buffer(f"_centers_{axis}", centers)
            axes.append((centers, torch.full_like(centers, half)))
        for name, part in (("centers", 0), ("half_widths", 1)):
            grid = torch.meshgrid(*(values[part] for values in axes), indexing="ij")
            self.register_buffer(name, torch.stack(grid, dim=-1).reshape(-1, len(axes)))

    def near(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outside the box the windows of its nearest face."""
        numbers = torch.zeros(1, x.shape[0], dtype=torch.int64, device=x.device)  # torch.export takes len as fixed
        product = x.new_ones(1, x.shape[0])
        for axis, count in enumerate(self.shape):
            if count > 1:
                chosen, scaled = self._along(axis, x[:, axis])
                windows = (1.0 + torch.cos(math.pi * scaled.clamp(-1.0, 1.0))).square()
                windows = windows / windows.sum(0, keepdim=True)
                product = (product.unsqueeze(1) * windows).flatten(0, 1)
                numbers = (count * numbers.unsqueeze(1) + chosen).flatten(0, 1)
        return numbers, product

    def _inside(self, axis: int, x: Tensor) -> Tensor:
        """Coordinates (M,), those outside of the box where the windows are as they are at its face."""
        centers, half = self.get_buffer(f"_centers_{axis}"), self.half_widths[0, axis]
        return x.clamp(centers[0] - 0.99 * half, centers[-1] + 0.99 * half)

    def _along(self, axis: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) -> (n, M): the intervals of one axis that points may be in, and where they are in them, scaled."""
        centers, half = self.get_buffer(f"_centers_{axis}"), self.half_widths[0, axis]
        count = min(self._reach, len(centers))
        inside = self._inside(axis, x)
        first = torch.ceil((inside - half - centers[0]) / (centers[1] - centers[0]))
        chosen = first.clamp(0, len(centers) - count).long() + torch.arange(count, device=x.device).unsqueeze(1)
        return chosen, (inside - centers[chosen]) / half

    def jet(self, x: Tensor, components: Components) -> tuple[Tensor, Tensor]:
        coordinates = seed(x, components)
        numbers = torch.zeros(1, len(x), dtype=torch.int64, device=x.device)
        product = x.new_zeros(len(components), 1, len(x))
        product[0] = 1.0
        for axis, count in enumerate(self.shape):
            if count > 1:
                chosen, along = self._jet_along(axis, coordinates[:, axis], components)
                product = multiply(product.unsqueeze(2), along.unsqueeze(1), components).flatten(1, 2)
                numbers = (count * numbers.unsqueeze(1) + chosen).flatten(0, 1)
        return numbers, product

    def _jet_along(self, axis: int, x: Tensor, components: Components) -> tuple[Tensor, Tensor]:
        """(C, M) -> (n, M), (C, n, M): the intervals of one axis that points may be in, and their windows."""
        chosen, places = self._along(axis, x[0])
        moving = x * (self._inside(axis, x[0]) == x[0])
        scaled = (moving / self.half_widths[0, axis]).unsqueeze(1).repeat(1, len(chosen), 1)
        scaled[0] = places
        windows = activate(scaled, components, bump)
        return chosen, divide(windows, windows.sum(1, keepdim=True), components)

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the number of the box without overlap that a point is in."""
        number = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for axis, count in enumerate(self.shape):
            centers = self.get_buffer(f"_centers_{axis}")
            ends = 0.5 * (centers[1:] + centers[:-1])
            number = count * number + torch.bucketize(x[:, axis].contiguous(), ends)
        return number


class Levels(Windows):
    """Several partitions of unity one on the other, the coarsest first: a network of each level is added up.

    Source: Dolean, Heinlein, Mishra & Moseley, Comput. Methods Appl. Mech. Engrg. 429 (2024) 117116 (multilevel
    FBPINN). Here the levels are added, not averaged.
    """

    def __init__(self, levels: Sequence[Windows]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(levels)
        self._sizes = [len(level) for level in levels]
        for name in ("centers", "half_widths"):
            self.register_buffer(name, torch.cat([getattr(level, name) for level in levels]))

    def near(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of all levels."""
        numbers, values = zip(*(level.near(x) for level in self._each()), strict=True)
        return self._joined(numbers), torch.cat(values)

    def jet(self, x: Tensor, components: Components) -> tuple[Tensor, Tensor]:
        numbers, jets = zip(*(level.jet(x, components) for level in self._each()), strict=True)
        return self._joined(numbers), torch.cat(jets, dim=1)

    def _joined(self, numbers: Sequence[Tensor]) -> Tensor:
        """Numbers of windows of each level as numbers of all."""
        first = [0, *accumulate(self._sizes)]
        return torch.cat([own + before for own, before in zip(numbers, first, strict=False)])

    def _each(self) -> Iterator[Windows]:
        for level in self.levels:
            assert isinstance(level, Windows)
            yield level

    def sizes(self) -> list[int]:
        return self._sizes

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the subdomain of the finest level that a point is in."""
        *_, finest = self._each()
        return finest.owners(x)
