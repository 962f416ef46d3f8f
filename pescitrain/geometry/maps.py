"""Maps from reference cells to cells and facets, straight or curved, and their derivatives."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pescitrain.geometry.bends import STRAIGHT, Bends
from pescitrain.geometry.cells import CellType
from pescitrain.geometry.points import Floats, Integers

CELLS_AT_A_TIME = 4096
"""Whose derivatives at quadrature points are in memory together."""


@dataclass(frozen=True)
class Block:
    """Cells or facets of one type.

    Attributes
    ----------
    vertices : (M, k) int64
    owner : (M,) int64          the index of the cell each belongs to
    bends : Bends               the edges of the mesh that are bent
    """

    cell: CellType
    vertices: Integers
    owner: Integers
    bends: Bends = STRAIGHT

    def take(self, which: slice | Integers) -> Block:
        """Some of them."""
        return Block(self.cell, self.vertices[which], self.owner[which], self.bends)

    def parts(self) -> Iterator[Block]:
        """All of them, a few at a time."""
        for start in range(0, len(self.vertices), CELLS_AT_A_TIME):
            yield self.take(slice(start, start + CELLS_AT_A_TIME))

    @functools.cached_property
    def offsets(self) -> Floats | None:
        """How far (M, E, c) each edge is bent in its middle; None: all are straight."""
        return self.bends.of(self.cell, self.vertices)

    @property
    def is_affine(self) -> bool:
        """Whether derivatives are the same all over a cell."""
        return self.cell.is_simplex and self.offsets is None


def map_reference(nodes: Floats, block: Block, reference: Floats) -> tuple[Floats, Floats]:
    """Map reference points (Q, e) into every cell: points (M, Q, c) and derivatives (M, Q or 1, c, e)."""
    corners = nodes[block.vertices]
    x = np.einsum("qk,mkc->mqc", block.cell.shape(reference), corners)
    gradient = block.cell.shape_gradient(reference[:1] if block.is_affine else reference)
    jacobian = np.einsum("qke,mkc->mqce", gradient, corners)
    if block.offsets is not None:
        x += np.einsum("qk,mkc->mqc", block.cell.bubbles(reference), block.offsets)
        jacobian += np.einsum("qke,mkc->mqce", block.cell.bubble_gradient(reference), block.offsets)
    return x, jacobian


def map_each(nodes: Floats, block: Block, reference: Floats) -> tuple[Floats, Floats]:
    """Map one reference point (M, e) into each cell: points (M, c) and derivatives (M, c, e)."""
    corners = nodes[block.vertices]
    x = np.einsum("mk,mkc->mc", block.cell.shape(reference), corners)
    jacobian = np.einsum("mke,mkc->mce", block.cell.shape_gradient(reference), corners)
    if block.offsets is not None:
        x += np.einsum("mk,mkc->mc", block.cell.bubbles(reference), block.offsets)
        jacobian += np.einsum("mke,mkc->mce", block.cell.bubble_gradient(reference), block.offsets)
    return x, jacobian


def signed_density(jacobian: Floats) -> Floats:
    """Determinants (...) of square derivatives (..., c, c)."""
    return np.linalg.det(jacobian)


def area_vector(jacobian: Floats) -> Floats:
    """Normals (..., c) of facets from derivatives (..., c, c - 1), by the right-hand rule, as long as the density."""
    if jacobian.shape[-2] == 2:
        return np.stack([jacobian[..., 1, 0], -jacobian[..., 0, 0]], axis=-1)
    return np.cross(jacobian[..., 0], jacobian[..., 1])


def unit_normals(jacobian: Floats) -> Floats:
    """Normals (..., c) of facets of length one."""
    vectors = area_vector(jacobian)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
