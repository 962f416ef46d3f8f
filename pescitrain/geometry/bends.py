"""Edges that are not straight: what cells of second order say of a curved geometry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pescitrain.geometry.cells import CELL_TYPES, CellType
from pescitrain.geometry.points import Floats, Integers

ROUNDING = 1e-9
"""How far, relative to its length, the middle of a straight edge may lie from that of its ends: files in text round."""


class Bends:
    """The edges of a mesh that are bent, and where the middle of each is.

    A cell is the image of its reference cell under the first-order map and, for each bent edge, its bubble times the
    offset of its middle: the whole second order on triangles and tetrahedra, the serendipity map on the others.

    Parameters
    ----------
    nodes : (n, d) float64              of the mesh
    cells : {type: (M, k) int64}        vertices
    middles : {type: (M, E) int64}      for types of second order: the points in the middles of the edges
    points : (p, d) float64             what ``middles`` numbers
    """

    def __init__(
        self, nodes: Floats, cells: Mapping[str, Integers], middles: Mapping[str, Integers], points: Floats
    ) -> None:
        self._count = len(nodes)
        ends = [cells[name][:, CELL_TYPES[name].edges].reshape(-1, 2) for name in middles]
        every = np.concatenate([np.empty((0, 2), dtype=np.int64), *ends])
        middle = np.concatenate([np.empty(0, dtype=np.int64), *(rows.ravel() for rows in middles.values())])
        known = middle >= 0
        keys, first = np.unique(self._keys(every[known]), return_index=True)
        chords = nodes[every[known][first]]
        offsets = points[middle[known][first]] - chords.mean(axis=1)
        bent = np.linalg.norm(offsets, axis=1) > ROUNDING * np.linalg.norm(chords[:, 1] - chords[:, 0], axis=1)
        self._edges, self._offsets = keys[bent], offsets[bent]
        self._hulls = chords[bent].mean(axis=1) + 2.0 * offsets[bent]

    def __len__(self) -> int:
        """How many edges are bent."""
        return len(self._edges)

    def of(self, cell: CellType, vertices: Integers) -> Floats | None:
        """Offsets (M, E, d) of the edges of cells or facets with these vertices (M, k); None: all are straight."""
        if len(self) == 0 or cell.dimension == 0 or len(vertices) == 0:
            return None
        keys = self._keys(vertices[:, cell.edges])
        places = np.searchsorted(self._edges, keys).clip(max=len(self) - 1)
        bent = self._edges[places] == keys
        return np.where(bent[..., None], self._offsets[places], 0.0) if bent.any() else None

    def box(self, nodes: Floats) -> tuple[Floats, Floats]:
        """Lower and upper corner (d,) of a box around nodes (n, d) and all that is bent (its Bézier control points)."""
        every = np.concatenate([nodes, self._hulls])
        return every.min(axis=0), every.max(axis=0)

    def _keys(self, ends: Integers) -> Integers:
        """A number (...) for each pair (..., 2) of ends, in any order."""
        return ends.min(axis=-1) * self._count + ends.max(axis=-1)


STRAIGHT = Bends(np.empty((0, 0)), {}, {}, np.empty((0, 0)))
"""Of a mesh without bent edges."""
