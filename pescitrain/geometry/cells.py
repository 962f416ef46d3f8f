"""The table of cell types: vertices, edges, facets, shape functions.

Vertices and edges are numbered as in VTK and meshio. Reference cells have their corners at zero and one. The facets of
a positively oriented cell are listed so that the right-hand rule gives their outward normal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from pescitrain.geometry.points import Floats


@dataclass(frozen=True)
class CellType:
    """A kind of cell: its first-order shape functions, and a bubble for each edge, which may be bent.

    Attributes
    ----------
    name, dimension : as meshio calls it, and the dimension of its interior
    corners : reference coordinates of the vertices
    edges : vertices of each edge, in the order of the nodes in their middles that cells of second order have
    facets : vertices of each facet, outward
    mirror : the order of the vertices that turns a negatively oriented cell into a positive one
    simplices : a partition into simplices with the orientation of the cell
    """

    name: str
    dimension: int
    corners: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]
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

    def bubbles(self, reference: Floats) -> Floats:
        """(..., edges): functions of second order, 1 in the middle of one edge and 0 on the others."""
        if self.is_simplex:
            shape = self.shape(reference)
            return np.stack([4.0 * shape[..., a] * shape[..., b] for a, b in self.edges], axis=-1)
        return np.stack([self._bubble_factors(reference, *edge)[0].prod(axis=-1) for edge in self.edges], axis=-1)

    def bubble_gradient(self, reference: Floats) -> Floats:
        """Their derivatives (..., edges, dimension) in the reference coordinates."""
        if self.is_simplex:
            shape, gradient = self.shape(reference)[..., None], self.shape_gradient(reference)
            products = [
                shape[..., a, :] * gradient[..., b, :] + shape[..., b, :] * gradient[..., a, :] for a, b in self.edges
            ]
            return 4.0 * np.stack(products, axis=-2)
        result = np.empty((*reference.shape[:-1], len(self.edges), self.dimension))
        for number, edge in enumerate(self.edges):
            factors, slopes = self._bubble_factors(reference, *edge)
            for axis in range(self.dimension):
                result[..., number, axis] = slopes[..., axis] * np.delete(factors, axis, axis=-1).prod(axis=-1)
        return result

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

    def _bubble_factors(self, reference: Floats, a: int, b: int) -> tuple[Floats, Floats]:
        """(..., dimension) each: the one-dimensional functions whose product is the bubble of an edge; their slopes."""
        first = np.array(self.corners[a], dtype=float)
        factors = 1.0 - first + (2.0 * first - 1.0) * reference
        slopes = np.broadcast_to(2.0 * first - 1.0, factors.shape)
        along = np.array(self.corners[a]) != np.array(self.corners[b])
        return (
            np.where(along, 4.0 * reference * (1.0 - reference), factors),
            np.where(along, 4.0 - 8.0 * reference, slopes),
        )


VERTEX = CellType("vertex", 0, ((),), (), (), (0,), ((0,),))
LINE = CellType("line", 1, ((0,), (1,)), ((0, 1),), ((0,), (1,)), (1, 0), ((0, 1),))
TRIANGLE = CellType(
    "triangle",
    2,
    ((0, 0), (1, 0), (0, 1)),
    ((0, 1), (1, 2), (2, 0)),
    ((0, 1), (1, 2), (2, 0)),
    (0, 2, 1),
    ((0, 1, 2),),
)
QUAD = CellType(
    "quad",
    2,
    ((0, 0), (1, 0), (1, 1), (0, 1)),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    ((0, 1), (1, 2), (2, 3), (3, 0)),
    (0, 3, 2, 1),
    ((0, 1, 2), (0, 2, 3)),
)
TETRA = CellType(
    "tetra",
    3,
    ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 1), (1, 2), (2, 0), (0, 3), (1, 3), (2, 3)),
    ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
    (0, 2, 1, 3),
    ((0, 1, 2, 3),),
)
HEXAHEDRON = CellType(
    "hexahedron",
    3,
    ((0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)),
    ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)),
    ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
    (4, 5, 6, 7, 0, 1, 2, 3),
    ((0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6)),
)

CELL_TYPES = {kind.name: kind for kind in (VERTEX, LINE, TRIANGLE, QUAD, TETRA, HEXAHEDRON)}


SECOND_ORDER = ("line3", "triangle6", "quad8", "quad9", "tetra10", "hexahedron20", "hexahedron27")
"""Whose nodes after the vertices are first those in the middles of the edges."""


def first_order_type(name: str) -> CellType | None:
    """The type that a cell of any order has by its vertices; None for a kind that is not supported.

    Higher-order cells carry the number of their nodes in their name (``triangle6``) and list the vertices first.
    """
    return CELL_TYPES.get(re.sub(r"\d+$", "", name))


def facet_type(dimension: int, vertex_count: int) -> CellType:
    """The type with this dimension and number of vertices."""
    return next(t for t in CELL_TYPES.values() if (t.dimension, t.vertex_count) == (dimension, vertex_count))
