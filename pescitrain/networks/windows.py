"""Smooth partitions of unity: where each subdomain network counts, and how much."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from pescitrain.errors import OptionError
from pescitrain.networks.components import Components
from pescitrain.networks.jets import activate, divide, multiply, seed


class Windows(nn.Module):
    """Smooth functions w_1 … w_S of a point, (M, d) -> (M, S), each with a support: one partition of unity, or several.

    Attributes
    ----------
    centers, half_widths : (S, d)       of the supports
    """

    centers: Tensor
    half_widths: Tensor

    def __len__(self) -> int:
        return len(self.centers)

    def jet(self, x: Tensor, components: Components) -> Tensor:
        """The jet (C, S, M) of :meth:`forward`."""
        raise NotImplementedError

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the number of the subdomain that a point is most in."""
        raise NotImplementedError

    def sizes(self) -> list[int]:
        """Subdomains of each partition of unity."""
        return [len(self)]


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

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, S); outside the box those of its nearest face."""
        product = x.new_ones(x.shape[0], 1)  # torch.export takes len as fixed
        for axis, count in enumerate(self.shape):
            if count > 1:
                product = (product.unsqueeze(2) * self._along(axis, x[:, axis]).unsqueeze(1)).flatten(1)
        return product

    def _along(self, axis: int, x: Tensor) -> Tensor:
        """(M,) -> (M, n): the windows of the intervals of one axis."""
        centers, half = self.get_buffer(f"_centers_{axis}"), self.half_widths[0, axis]
        inside = x.clamp(centers[0] - 0.99 * half, centers[-1] + 0.99 * half)
        scaled = (inside.unsqueeze(1) - centers) / half
        windows = (1.0 + torch.cos(math.pi * scaled.clamp(-1.0, 1.0))).square()
        return windows / windows.sum(1, keepdim=True)

    def jet(self, x: Tensor, components: Components) -> Tensor:
        coordinates = seed(x, components)
        product = x.new_zeros(len(components), 1, x.shape[0])
        product[0] = 1.0
        for axis, count in enumerate(self.shape):
            if count > 1:
                along = self._jet_along(axis, coordinates[:, axis], components)
                product = multiply(product.unsqueeze(2), along.unsqueeze(1), components).flatten(1, 2)
        return product

    def _jet_along(self, axis: int, x: Tensor, components: Components) -> Tensor:
        """(C, M) -> (C, n, M): the windows of the intervals of one axis."""
        centers, half = self.get_buffer(f"_centers_{axis}"), self.half_widths[0, axis]
        inside = x[0].clamp(centers[0] - 0.99 * half, centers[-1] + 0.99 * half)
        scaled = (x * (inside == x[0])).unsqueeze(1).repeat(1, len(centers), 1)
        scaled[0] = inside - centers.unsqueeze(1)
        windows = activate(scaled / half, components, bump)
        return divide(windows, windows.sum(1, keepdim=True), components)

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

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, S) of all levels."""
        return torch.cat([level(x) for level in self.levels], dim=1)

    def jet(self, x: Tensor, components: Components) -> Tensor:
        return torch.cat([level.jet(x, components) for level in self._each()], dim=1)

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
