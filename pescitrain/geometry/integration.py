"""First-order maps of cells and facets: measures, quadrature points, sampled points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pescitrain.geometry.cells import CELL_TYPES, CellType
from pescitrain.geometry.domain import Sampling
from pescitrain.geometry.points import Floats, Integers, PointSequence, PointSet
from pescitrain.geometry.quadrature import quadrature_rule
from pescitrain.geometry.sampling import cube_to_simplex, unit_points

MEASURE_ORDER = 3
"""Exact for the Jacobian of every supported cell: linear in each coordinate of a quadrilateral, quadratic in a cube."""

CELLS_AT_A_TIME = 4096
"""Of which the quadrature weights are summed."""

SIMPLICES = tuple(CELL_TYPES[name] for name in ("vertex", "line", "triangle", "tetra"))


@dataclass(frozen=True)
class Block:
    """Cells or facets of one type: their vertices (M, k), and the index (M,) of the cell each belongs to."""

    cell: CellType
    vertices: Integers
    owner: Integers

    def take(self, begin: int, end: int) -> Block:
        """Some of them."""
        return Block(self.cell, self.vertices[begin:end], self.owner[begin:end])


def map_reference(nodes: Floats, block: Block, reference: Floats) -> tuple[Floats, Floats]:
    """Map reference points (Q, e) into every cell: points (M, Q, c) and derivatives (M, Q or 1, c, e)."""
    corners = nodes[block.vertices]
    shape = block.cell.shape(reference)
    gradient = block.cell.shape_gradient(reference[:1] if block.cell.is_simplex else reference)
    return np.einsum("qk,mkc->mqc", shape, corners), np.einsum("qke,mkc->mqce", gradient, corners)


def signed_density(jacobian: Floats) -> Floats:
    """Determinants (...) of square derivatives (..., c, c)."""
    return np.linalg.det(jacobian)


def area_vector(jacobian: Floats) -> Floats:
    """Normals (..., c) of facets from derivatives (..., c, c - 1), by the right-hand rule, as long as the density."""
    if jacobian.shape[-2] == 2:
        return np.stack([jacobian[..., 1, 0], -jacobian[..., 0, 0]], axis=-1)
    return np.cross(jacobian[..., 0], jacobian[..., 1])


def signed_measures(nodes: Floats, block: Block) -> Floats:
    """Lengths, areas or volumes (M,) of cells; negative where the orientation is; never negative for facets."""
    points, weights = quadrature_rule(block.cell, MEASURE_ORDER)
    return _densities(nodes, block, points)[0] @ weights


def quadrature_points(nodes: Floats, blocks: Sequence[Block], order: int) -> PointSequence:
    """The quadrature points of each cell, cell after cell; facets come with normals. (Σ M Q, c)"""
    return PointSequence.concatenate([_quadrature_of(nodes, block, order) for block in blocks])


def _quadrature_of(nodes: Floats, block: Block, order: int) -> PointSequence:
    points, weights = quadrature_rule(block.cell, order)
    cells, each = len(block.vertices), len(points)

    def draw(begin: int, end: int) -> PointSet:
        first, last = begin // each, -(-end // each)
        part = block.take(first, last)
        x = map_reference(nodes, part, points)[0]
        density, normals = _densities(nodes, part, points)
        whole = PointSet(
            x.reshape(-1, x.shape[-1]),
            (density * weights).ravel(),
            None if normals is None else normals.reshape(-1, x.shape[-1]),
            np.repeat(part.owner, each),
        )
        return whole.take(slice(begin - first * each, end - first * each))

    starts = range(0, cells, CELLS_AT_A_TIME)
    parts = [block.take(start, start + CELLS_AT_A_TIME) for start in starts]
    measure = sum(float((_densities(nodes, part, points)[0] * weights).sum()) for part in parts)
    return PointSequence(cells * each, measure, draw)


def sampled_points(nodes: Floats, blocks: Sequence[Block], sampling: Sampling, seed: int, name: str) -> PointSequence:
    """Points spread evenly over the union of cells or facets, with equal weights. (count, c)

    Cells are cut into simplices; the first coordinate of a point of the unit cube chooses the simplex by cumulative
    measure, the others the place in it. Exact for straight cells with flat faces.
    """
    simplex = SIMPLICES[blocks[0].cell.dimension]
    pieces = [block.vertices[:, block.cell.simplices].reshape(-1, simplex.vertex_count) for block in blocks]
    owners = [np.repeat(block.owner, len(block.cell.simplices)) for block in blocks]
    union = Block(simplex, np.concatenate(pieces), np.concatenate(owners))
    density, normals = _densities(nodes, union, np.zeros((1, simplex.dimension)))
    cumulative = np.cumsum(np.abs(density[:, 0])) * quadrature_rule(simplex, 0)[1][0]
    weight = float(cumulative[-1] / sampling.points)

    def draw(begin: int, end: int) -> PointSet:
        unit = unit_points(sampling.points, simplex.dimension + 1, sampling.kind, seed, name, begin, end)
        chosen = np.searchsorted(cumulative, unit[:, 0] * cumulative[-1], side="right").clip(max=len(cumulative) - 1)
        barycentric = cube_to_simplex(unit[:, 1:])
        return PointSet(
            np.einsum("nk,nkc->nc", barycentric, nodes[union.vertices[chosen]]),
            np.full(len(unit), weight),
            None if normals is None else normals[chosen, 0],
            union.owner[chosen],
        )

    return PointSequence.weighing(weight, sampling.points, draw)


def _densities(nodes: Floats, block: Block, points: Floats) -> tuple[Floats, Floats | None]:
    """Ratio (M, Q) of measures at reference points, with sign for cells; unit normals (M, Q, c) for facets."""
    count = (len(block.vertices), len(points))
    if block.cell.dimension == 0:
        return np.ones(count), None
    jacobian = map_reference(nodes, block, points)[1]
    if block.cell.dimension == nodes.shape[1]:
        return np.broadcast_to(signed_density(jacobian), count), None
    vectors = area_vector(jacobian)
    lengths = np.linalg.norm(vectors, axis=-1)
    normals = vectors / lengths[..., None]
    return np.broadcast_to(lengths, count), np.broadcast_to(normals, (*count, normals.shape[-1]))
