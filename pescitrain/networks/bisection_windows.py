"""A smooth partition of unity that follows a mesh: parts with equally many cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import OptionError
from pescitrain.networks.components import Components
from pescitrain.networks.jets import activate, divide, multiply, seed
from pescitrain.networks.windows import Windows, bump

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BisectionWindows(Windows):
    """Windows w_1 … w_S of the parts of a mesh, with Σ w_s = 1 in the mesh.

    The centroids of the cells are cut in two again and again, each time by a plane across their principal axis, so
    that the parts have equally many. The support of a window is the box around the cells of its part, and the overlap
    on all sides of it; there the window is the product of (1 + cos πξ)² along the axes, divided by the sum of all. It
    and its first three derivatives are continuous. Outside of all supports windows are zero.
    Source: recursive inertial bisection, Nour-Omid, Raefsky & Lyzenga, Parallel Computations and Their Impact on
    Mechanics, ASME (1987), and Simon, Comput. Syst. Eng. 2 (1991) 135; windows as those of
    :class:`~pescitrain.networks.windows.BoxWindows`.

    Parameters
    ----------
    nodes : (n, d) float        of the mesh
    cells : list of (M, k) int  vertices of its cells, type after type
    parts : int                 S
    overlap : float             in widths of the box of a part
    layers : int, optional      overlap in mean widths of the cells of a part; ``overlap`` then is not used

    Attributes
    ----------
    centers, half_widths : (S, d)       of the supports
    part_of_cell : (C,) int             with C / S cells each, rounded

    Raises
    ------
    OptionError     no overlap, or one that is larger than the domain; more parts than cells
    """

    def __init__(
        self, nodes: Floats, cells: Sequence[Integers], parts: int, overlap: float, layers: int | None = None
    ) -> None:
        super().__init__()
        word, value = ("-net_overlap", overlap) if layers is None else ("-net_overlap_cells", layers)
        if not value > 0.0:
            raise OptionError(
                f"{word} {value:g}: subdomain networks are joined where they overlap, so it must be above 0"
            )
        corners = [nodes[rows] for rows in cells]
        centroids, lowest, highest = (
            np.concatenate([end(1) for end in ends])
            for ends in zip(*((block.mean, block.min, block.max) for block in corners), strict=True)
        )
        if parts > len(centroids):
            raise OptionError(
                f"-net_subdomains {parts}: the mesh has {len(centroids)} cells, and a part needs one; choose at most "
                f"{len(centroids)}"
            )
        self.part_of_cell = _bisect(centroids, parts)
        members = [self.part_of_cell == s for s in range(parts)]
        lower = np.array([lowest[cells_of].min(0) for cells_of in members])
        upper = np.array([highest[cells_of].max(0) for cells_of in members])
        unit = upper - lower
        if layers is not None:
            unit = np.array([(highest - lowest)[cells_of].mean(0) for cells_of in members])
        largest = float((np.ptp(nodes, axis=0) / unit).max(1).min())
        if parts > 1 and value > largest:
            raise OptionError(
                f"{word} {value:g}: with {parts} parts of the mesh that reaches over the whole domain; choose at most "
                f"{math.floor(100.0 * largest) / 100.0:g}"
            )
        half = 0.5 * (upper - lower) + (value * unit if parts > 1 else 0.0)
        self.register_buffer("centers", torch.from_numpy(0.5 * (lower + upper)))
        self.register_buffer("half_widths", torch.from_numpy(half))
        self._count_near()
        self.register_load_state_dict_post_hook(lambda windows, _: windows._count_near())

    def _count_near(self) -> None:
        """How many supports a point is in, at most: they all overlap each other."""
        self._reach = int(np.bincount(self.overlapping(self)[0]).max())

    def near(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outside of all supports none is above zero."""
        if len(self) == 1:  # torch.export takes len as fixed
            return torch.zeros(1, x.shape[0], dtype=torch.int64, device=x.device), x.new_ones(1, x.shape[0])
        scaled = ((x - self.centers.unsqueeze(1)) / self.half_widths.unsqueeze(1)).clamp(-1.0, 1.0)
        first, *others = (1.0 + torch.cos(math.pi * scaled)).square().unbind(2)
        windows, numbers = math.prod(others, start=first).topk(self._reach, dim=0)
        total = windows.sum(0, keepdim=True)
        return numbers, windows / torch.where(total > 0.0, total, 1.0)

    def jet(self, x: Tensor, components: Components) -> tuple[Tensor, Tensor]:
        numbers, values = self.near(x)
        if len(self) == 1:
            return numbers, torch.cat([values.unsqueeze(0), x.new_zeros(len(components) - 1, 1, len(x))])
        numbers = numbers[: int((values > 0.0).sum(0).max())]  # the largest come first
        scaled = seed(x, components).unsqueeze(1).repeat(1, len(numbers), 1, 1)  # (C, m, d, M)
        scaled[0] -= self.centers[numbers].mT
        windows, *others = activate(scaled / self.half_widths[numbers].mT, components, bump).unbind(2)
        for other in others:
            windows = multiply(windows, other, components)
        total = windows.sum(1, keepdim=True)
        total[0] = torch.where(total[0] > 0.0, total[0], 1.0)
        return numbers, divide(windows, total, components)

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the number of the largest window at a point."""
        return self.near(x)[0][0]


def _bisect(centroids: Floats, parts: int) -> Integers:
    """The part (C,) of each cell."""
    count = len(centroids)
    part = np.zeros(count, dtype=np.int64)
    pending = [(0, parts, np.arange(count))]
    while pending:
        first, last, members = pending.pop()
        part[members] = first
        if last - first > 1:
            middle = first + (last - first + 1) // 2
            below = count * middle // parts - count * first // parts  # so that C / S is rounded, not accumulated
            order = np.argsort(centroids[members] @ _principal_axis(centroids[members]), kind="stable")
            pending += [(first, middle, members[order[:below]]), (middle, last, members[order[below:]])]
    return part


def _principal_axis(points: Floats) -> Floats:
    """(N, d) -> (d,): along which they are spread most.

    Where several axes are as good, the one nearest to the first coordinate, and always one sign: round-off decides
    neither.
    """
    values, vectors = np.linalg.eigh(np.cov(points, rowvar=False, ddof=0).reshape(points.shape[1], -1))
    best = vectors[:, values >= (1.0 - 1e-6) * values[-1]]
    axis = next(column for column in best @ best.T if np.linalg.norm(column) > 1e-3)
    axis = axis / np.linalg.norm(axis)
    return axis * np.sign(axis[np.flatnonzero(np.abs(axis) > 1e-8)[0]])
