"""A smooth partition of unity that follows a mesh: parts with equally many cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import OptionError
from pescitrain.networks.windows import Windows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ROUNDING = 1e-9
"""Of distances, relative to the reach of a cut."""


class BisectionWindows(Windows):
    """Windows w_1 … w_S of the parts of a mesh, with Σ w_s = 1 everywhere.

    The centroids of the cells are cut in two again and again, each time by a plane across their principal axis, so
    that the parts have equally many. A point at distance t · δ from a cut counts σ(−t) on the left of it and σ(t) on
    the right; σ is the polynomial of degree 7 that goes from 0 at −1 to 1 at 1 with three derivatives that vanish at
    both. A window is the product of what a point counts at the cuts that bound its part.
    Source: recursive inertial bisection, Nour-Omid, Raefsky & Lyzenga, Parallel Computations and Their Impact on
    Mechanics, ASME (1987), and Simon, Comput. Syst. Eng. 2 (1991) 135; networks as in Moseley, Markham &
    Nissen-Meyer, Adv. Comput. Math. 49 (2023) 62.

    Parameters
    ----------
    nodes : (n, d) float        of the mesh
    cells : list of (M, k) int  vertices of its cells, type after type
    parts : int                 S
    overlap : float             δ in widths, across the cut, of the thinnest part that touches it
    layers : int, optional      δ in mean widths, across the cut, of the cells at it; ``overlap`` then is not used

    Attributes
    ----------
    centers, half_widths : (S, d)       of the boxes around the cells in which a window is not zero
    cells : (S, C) bool                 these cells
    part_of_cell : (C,) int             with C / S cells each, rounded

    Raises
    ------
    OptionError     no overlap, or one that is larger than the domain; more parts than cells
    """

    normals: Tensor
    positions: Tensor
    reaches: Tensor
    paths: Tensor

    def __init__(
        self, nodes: Floats, cells: Sequence[Integers], parts: int, overlap: float, layers: int | None = None
    ) -> None:
        super().__init__()
        centroids = np.concatenate([nodes[rows].mean(1) for rows in cells])
        widest = max(rows.shape[1] for rows in cells)
        vertices = np.concatenate([np.pad(rows, ((0, 0), (0, widest - rows.shape[1])), mode="edge") for rows in cells])
        if layers is None and not overlap > 0.0:
            raise OptionError(
                f"-net_overlap {overlap:g}: subdomain networks are joined where they overlap, so it must be above 0"
            )
        if parts > len(vertices):
            raise OptionError(
                f"-net_subdomains {parts}: the mesh has {len(vertices)} cells, and a part needs one; choose at most "
                f"{len(vertices)}"
            )
        self.part_of_cell, cuts = _bisect(centroids, parts)
        reaches = [_reach(cut, self.part_of_cell, nodes, vertices, overlap, layers) for cut in cuts]
        for cut, reach in zip(cuts, reaches, strict=True):
            largest = np.abs(nodes @ cut.normal - cut.position).max()
            if reach >= largest:
                word, value = ("net_overlap", overlap) if layers is None else ("net_overlap_cells", layers)
                raise OptionError(
                    f"-{word} {value:g}: with {parts} parts of the mesh that reaches over the whole domain; choose "
                    f"less than {value * largest / reach:.3g}"
                )
        normals = np.array([cut.normal for cut in cuts]).reshape(len(cuts), nodes.shape[1])
        self.register_buffer("normals", torch.from_numpy(normals))
        self.register_buffer("positions", torch.tensor([cut.position for cut in cuts], dtype=torch.float64))
        self.register_buffer("reaches", torch.tensor(reaches, dtype=torch.float64))
        self.register_buffer("paths", torch.tensor(_paths(cuts, parts)))
        self.cells = self._reached(torch.from_numpy(nodes), vertices)
        corners = [nodes[vertices[reached]] for reached in self.cells]
        lower, upper = (np.array([end(box, axis=(0, 1)) for box in corners]) for end in (np.min, np.max))
        self.register_buffer("centers", torch.from_numpy(0.5 * (lower + upper)))
        self.register_buffer("half_widths", torch.from_numpy(0.5 * (upper - lower)))

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, S)."""
        return self._along_paths(*_sides(self._distances(x)))

    def owners(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,): the number of the part without overlap that a point is in."""
        t = self._distances(x)
        return self._along_paths(t < 0.0, t >= 0.0).byte().argmax(1)

    def _distances(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, S − 1): signed distances to the cuts, in their reaches."""
        return (x @ self.normals.t() - self.positions) / self.reaches

    def _along_paths(self, left: Tensor, right: Tensor) -> Tensor:
        """Of what holds on the two sides of each cut (M, S − 1), the products for each part (M, S)."""
        sides = torch.cat([left, right, left.new_ones(left.shape[0], 1)], dim=1)
        product = sides[:, self.paths[:, 0]]
        for level in range(1, self.paths.shape[1]):
            product = product * sides[:, self.paths[:, level]]
        return product

    def _reached(self, nodes: Tensor, vertices: Integers) -> NDArray[np.bool_]:
        """(S, C): the cells with a point at which a window may not be zero.

        Never too few: a cell that is in no support as a whole may be reached without one of its nodes.
        """
        t = self._distances(nodes)
        nearest, farthest = t[vertices[:, 0]], t[vertices[:, 0]]
        for column in vertices.T[1:]:
            nearest, farthest = torch.minimum(nearest, t[column]), torch.maximum(farthest, t[column])
        return self._along_paths(nearest < 1.0 + ROUNDING, farthest > -1.0 - ROUNDING).t().contiguous().numpy()


@dataclass(frozen=True)
class _Cut:
    """A plane: parts first … middle − 1 are below ``position`` along ``normal``, middle … last − 1 above."""

    normal: Floats
    position: float
    first: int
    middle: int
    last: int


def _bisect(centroids: Floats, parts: int) -> tuple[Integers, list[_Cut]]:
    """The part (C,) of each cell, and the cuts between them."""
    count = len(centroids)
    part, cuts = np.zeros(count, dtype=np.int64), list[_Cut]()
    pending = [(0, parts, np.arange(count))]
    while pending:
        first, last, members = pending.pop()
        part[members] = first
        if last - first == 1:
            continue
        middle = first + (last - first + 1) // 2
        below = count * middle // parts - count * first // parts  # so that C / S is rounded, not accumulated
        normal = _principal_axis(centroids[members])
        heights = centroids[members] @ normal
        order = np.argsort(heights, kind="stable")
        position = 0.5 * float(heights[order[below - 1]] + heights[order[below]])
        cuts.append(_Cut(normal, position, first, middle, last))
        pending += [(middle, last, members[order[below:]]), (first, middle, members[order[:below]])]
    return part, cuts


def _principal_axis(points: Floats) -> Floats:
    """(N, d) -> (d,): along which they are spread most.

    Where several axes are as good, the one nearest to the first coordinate, and always one sign: round-off decides
    neither.
    """
    values, vectors = np.linalg.eigh(np.cov(points, rowvar=False, ddof=0).reshape(points.shape[1], -1))
    best = vectors[:, values >= (1.0 - 1e-6) * values[-1]]
    projections = best @ best.T
    axis = next(column for column in projections.T if np.linalg.norm(column) > 1e-3)
    axis = axis / np.linalg.norm(axis)
    return axis * np.sign(axis[np.flatnonzero(np.abs(axis) > 1e-8)[0]])


def _reach(cut: _Cut, part: Integers, nodes: Floats, vertices: Integers, overlap: float, layers: int | None) -> float:
    """δ of a cut."""
    heights = (nodes @ cut.normal)[vertices]
    left = (part >= cut.first) & (part < cut.middle)
    right = (part >= cut.middle) & (part < cut.last)
    at_cut = (left | right) & np.isin(vertices, np.intersect1d(vertices[left], vertices[right])).any(1)
    if not at_cut.any():  # nothing joins the two sides
        at_cut = left | right
    if layers is not None:
        return layers * float(np.ptp(heights[at_cut], axis=1).mean())
    return overlap * min(float(np.ptp(heights[part == s])) for s in np.unique(part[at_cut]))


def _paths(cuts: Sequence[_Cut], parts: int) -> list[list[int]]:
    """For each part the columns of its cuts: their numbers where it is on the left, behind all of these on the right.

    Shorter paths end with the column behind all.
    """
    paths = [
        [j if s < cut.middle else len(cuts) + j for j, cut in enumerate(cuts) if cut.first <= s < cut.last]
        for s in range(parts)
    ]
    longest = max(1, *map(len, paths))
    return [path + [2 * len(cuts)] * (longest - len(path)) for path in paths]


def _sides(t: Tensor) -> tuple[Tensor, Tensor]:
    """σ(−t) and σ(t): of the sum 1, and the smaller one accurate down to its end."""
    right = t > 0.0
    s = 0.5 * (1.0 + torch.where(right, -t, t).clamp(min=-1.0))
    smaller = s.square().square() * (35.0 + s * (-84.0 + s * (70.0 - 20.0 * s)))
    return torch.where(right, smaller, 1.0 - smaller), torch.where(right, 1.0 - smaller, smaller)
