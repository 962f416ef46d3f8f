"""The table of cell types: vertices, facets, first-order maps.

Vertices are numbered as in VTK and meshio. Reference cells have their corners at zero and one. The facets of a
positively oriented cell are listed so that the right-hand rule gives their outward normal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from pescitrain.geometry.points import Floats


@dataclass(frozen=True)
class CellType:
    """A kind of first-order cell.

    Attributes
    ----------
    name, dimension : as meshio calls it, and the dimension of its interior
    corners : reference coordinates of the vertices
    facets : vertices of each facet, outward
    mirror : the order of the vertices that turns a negatively oriented cell into a positive one
    simplices : a partition into simplices with the orientation of the cell
    """

    name: str
    dimension: int
    corners: tuple[tuple[int, ...], ...]
    facets: tuple[tuple[int, ...], ...]
    mirror: tuple[int, ...]
    simplices: tuple[tuple[int, ...], ...]

    @property
    def vertex_count(self) -> int:
        """Number of vertices."""
        return len(self.corners)

    @property
    def is_simplex(self) -> bool:
        """Whether the map from the reference cell is affine."""
        return self.vertex_count == self.dimension + 1

    def shape(self, reference: Floats) -> Floats:
        """First-order shape functions (..., vertices) at reference coordinates (..., dimension)."""
        if self.is_simplex:
            return np.concatenate([1.0 - reference.sum(axis=-1, keepdims=True), reference], axis=-1)
        return self._factors(reference).prod(axis=-1)

    def shape_gradient(self, reference: Floats) -> Floats:
        """Their derivatives (..., vertices, dimension) in the reference coordinates."""
        corners = np.array(self.corners, dtype=float).reshape(self.vertex_count, self.dimension)
        if self.is_simplex:
            constant = np.where(corners.any(axis=1, keepdims=True), corners, -1.0)
            return np.broadcast_to(constant, (*reference.shape[:-1], *constant.shape))
        factors = self._factors(reference)
        gradient = np.empty_like(factors)
        for axis in range(self.dimension):
            others = np.delete(factors, axis, axis=-1).prod(axis=-1)
            gradient[..., axis] = (2.0 * corners[:, axis] - 1.0) * others
        return gradient

    def clamp(self, reference: Floats) -> Floats:
        """The nearest coordinates (..., dimension) inside the reference cell, or close to the nearest."""
        inside = np.clip(reference, 0.0, 1.0)
        if self.is_simplex:
            inside /= np.maximum(inside.sum(axis=-1, keepdims=True), 1.0)
        return inside

    def depth(self, reference: Floats) -> Floats:
        """How deep (...) reference coordinates lie inside: zero on the facets, negative outside."""
        if self.is_simplex:
            return self.shape(reference).min(axis=-1)
        return np.minimum(reference, 1.0 - reference).min(axis=-1)

    def _factors(self, reference: Floats) -> Floats:
        """(..., vertices, dimension): the one-dimensional shape functions whose products are the shape functions."""
        corners = np.array(self.corners, dtype=float)
        return 1.0 - corners + (2.0 * corners - 1.0) * reference[..., None, :]


VERTEX = CellType("vertex", 0, ((),), (), (0,), ((0,),))
LINE = CellType("line", 1, ((0,), (1,)), ((0,), (1,)), (1, 0), ((0, 1),))
TRIANGLE = CellType("triangle", 2, ((0, 0), (1, 0), (0, 1)), ((0, 1), (1, 2), (2, 0)), (0, 2, 1), ((0, 1, 2),))
QUAD = CellType(
    "quad",
    2,
    ((0, 0), (1, 0), (1, 1), (0, 1)),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    (0, 3, 2, 1),
    ((0, 1, 2), (0, 2, 3)),
)
TETRA = CellType(
    "tetra",
    3,
    ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
    (0, 2, 1, 3),
    ((0, 1, 2, 3),),
)
HEXAHEDRON = CellType(
    "hexahedron",
    3,
    ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
    ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
    (4, 5, 6, 7, 0, 1, 2, 3),
    ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6)),
)

CELL_TYPES = {kind.name: kind for kind in (VERTEX, LINE, TRIANGLE, QUAD, TETRA, HEXAHEDRON)}


def first_order_type(name: str) -> CellType | None:
    """The type that a cell of any order has when only its vertices are used; None for a kind that is not supported.

    Higher-order cells carry the number of their nodes in their name (``triangle6``) and list the vertices first.
    """
    return CELL_TYPES.get(re.sub(r"\d+$", "", name))


def facet_type(dimension: int, vertex_count: int) -> CellType:
    """The type with this dimension and number of vertices."""
    return next(t for t in CELL_TYPES.values() if (t.dimension, t.vertex_count) == (dimension, vertex_count))
