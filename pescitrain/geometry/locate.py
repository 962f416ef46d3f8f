"""Which cell holds a point, and where in the cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from pescitrain.geometry.bends import Bends
from pescitrain.geometry.cells import CELL_TYPES
from pescitrain.geometry.maps import Block, map_each
from pescitrain.geometry.points import Floats, Integers
from pescitrain.geometry.shaping import diameters

NEWTON_STEPS = 20
"""Newton's method for the inverse of a map of second order doubles its digits: 20 steps are far more than it needs."""

CONVERGED = 1e-9
"""A step this short, in a reference cell of size one, leaves an error of its square: below round-off."""

TOLERANCE = 1e-10
"""How far outside its reference cell a point still counts as inside: well above round-off, well below any cell."""


@dataclass(frozen=True)
class Places:
    """Where points lie: their cell (N,) and their reference coordinates (N, d) in it; cell -1: nowhere."""

    cells: Integers
    reference: Floats


class Locator:
    """Finds the cell of points among cells {type: (M, k)} that are numbered type after type, straight or bent.

    Candidates are the cells with the nearest centres, more and more of them until no farther cell can reach the point.
    """

    def __init__(self, nodes: Floats, cells: Mapping[str, Integers], bends: Bends) -> None:
        self.nodes = nodes
        self.starts = np.cumsum([0, *(len(vertices) for vertices in cells.values())])
        self.count = int(self.starts[-1])
        self.blocks = [
            Block(CELL_TYPES[name], vertices, np.arange(len(vertices)), bends) for name, vertices in cells.items()
        ]
        centres = [nodes[block.vertices].mean(axis=1) for block in self.blocks]
        self.reach = np.concatenate([_reach(nodes, part) for block in self.blocks for part in block.parts()])
        self.sizes = np.concatenate([diameters(nodes, vertices) for vertices in cells.values()])
        self.tree = KDTree(np.concatenate(centres))
        rounding = 16 * np.finfo(float).eps * float(np.abs(nodes).max()) / float(self.sizes.min())
        self.tolerance = max(TOLERANCE, rounding)

    def find(self, x: Floats) -> Places:
        """The cell of each point (N, d): on a shared facet, the one with the nearest centre. Not collective."""
        found = Places(np.full(len(x), -1), np.full(x.shape, np.nan))
        pending = np.flatnonzero(np.isfinite(x).all(axis=1))
        asked = min(2, self.count)
        tested = 0
        margin = 1.0 + self.tolerance
        while len(pending):
            distances, candidates = self._nearest(x[pending], asked)
            near = distances <= self.reach[candidates] * margin
            near[:, :tested] = False
            rows, columns = np.nonzero(near)
            cells = candidates[rows, columns]
            reference, depth = self.invert(cells, x[pending[rows]])
            hits = np.flatnonzero(depth >= -self.tolerance)
            first_rows, first = np.unique(rows[hits], return_index=True)
            found.cells[pending[first_rows]] = cells[hits[first]]
            found.reference[pending[first_rows]] = reference[hits[first]]
            more = (found.cells[pending] < 0) & (distances[:, -1] <= self.reach.max() * margin)
            if asked == self.count:
                break
            pending, tested, asked = pending[more], asked, min(4 * asked, self.count)
        return found

    def closest(self, x: Floats) -> tuple[Places, Floats]:
        """The nearest cell of points (N, d) outside, with unclamped coordinates, and the distances (N,) to it."""
        candidates = self._nearest(x, min(32, self.count))[1]
        count = candidates.shape[1]
        cells, points = candidates.ravel(), np.repeat(x, count, axis=0)
        reference, _ = self.invert(cells, points)
        distances = np.full(len(cells), np.inf)
        for start, block, mine in self._by_type(cells):
            inside = block.cell.clamp(reference[mine])
            nearest = map_each(self.nodes, block.take(cells[mine] - start), inside)[0]
            distances[mine] = np.linalg.norm(points[mine] - nearest, axis=1)
        distances = np.where(np.isfinite(distances), distances, np.inf).reshape(-1, count)
        best = distances.argmin(axis=1)
        rows = np.arange(len(x))
        chosen = rows * count + best
        return Places(cells[chosen], reference[chosen]), distances[rows, best]

    def invert(self, cells: Integers, x: Floats) -> tuple[Floats, Floats]:
        """Reference coordinates (N, d) of points (N, d) in given cells (N,), and how deep (N,) inside they lie."""
        reference, depth = np.full(x.shape, np.nan), np.full(len(x), -np.inf)
        for start, block, mine in self._by_type(cells):
            reference[mine] = _inverse_map(self.nodes, block.take(cells[mine] - start), x[mine])
            depth[mine] = block.cell.depth(reference[mine])
        return reference, np.where(np.isnan(depth), -np.inf, depth)

    def interpolate(self, places: Places, values: Floats) -> Floats:
        """First-order interpolation (N, k) of nodal values (n, k) at places that all have a cell."""
        result = np.empty((len(places.cells), values.shape[1]))
        for start, block, mine in self._by_type(places.cells):
            shape = block.cell.shape(places.reference[mine])
            result[mine] = np.einsum("nk,nkf->nf", shape, values[block.vertices[places.cells[mine] - start]])
        return result

    def _by_type(self, cells: Integers) -> list[tuple[int, Block, NDArray[np.intp]]]:
        """For each type: the number of its first cell, all of its cells, and the positions that ask for them."""
        ranges = zip(self.starts[:-1], self.starts[1:], self.blocks, strict=True)
        return [(int(low), block, np.flatnonzero((cells >= low) & (cells < high))) for low, high, block in ranges]

    def _nearest(self, x: Floats, count: int) -> tuple[Floats, Integers]:
        distances, candidates = self.tree.query(x, k=count)
        return np.reshape(distances, (len(x), count)), np.reshape(candidates, (len(x), count))  # also for count = 1


def _reach(nodes: Floats, part: Block) -> Floats:
    """How far (M,) from the mean of its vertices a point in each cell may be."""
    corners = nodes[part.vertices]
    reach = np.linalg.norm(corners - corners.mean(axis=1, keepdims=True), axis=2).max(axis=1)
    if part.offsets is not None:
        reach += np.linalg.norm(part.offsets, axis=2).sum(axis=1)  # no bubble is larger than one
    return reach


def _inverse_map(nodes: Floats, block: Block, x: Floats) -> Floats:
    """Reference coordinates (N, d) of a point (N, d) in each cell: exact, or by Newton's method."""
    cell = block.cell
    reference = np.full(x.shape, 1.0 / (cell.dimension + 1) if cell.is_simplex else 0.5)
    for _ in range(1 if block.is_affine else NEWTON_STEPS):
        image, jacobian = map_each(nodes, block, reference)
        singular = np.abs(np.linalg.det(jacobian)) < np.finfo(float).tiny
        jacobian[singular] = np.eye(cell.dimension)
        step = np.linalg.solve(jacobian, (x - image)[..., None])[..., 0]
        reference = np.asarray(np.clip(reference + step, -1e3, 1e3), dtype=np.float64)
        if np.abs(step).max(initial=0.0) < CONVERGED:
            break
    return reference
