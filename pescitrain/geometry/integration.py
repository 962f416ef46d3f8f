"""Integrals over cells and facets: measures, quadrature points, sampled points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pescitrain.geometry.cells import CELL_TYPES
from pescitrain.geometry.domain import Sampling
from pescitrain.geometry.maps import Block, area_vector, map_each, map_reference, signed_density, unit_normals
from pescitrain.geometry.points import Floats, Integers, PointSequence, PointSet
from pescitrain.geometry.quadrature import quadrature_rule
from pescitrain.geometry.sampling import cube_to_simplex, unit_points

MEASURE_ORDER = 3
"""Exact for the Jacobian of every straight cell: linear in each coordinate of a quadrilateral, quadratic in a cube."""

CURVED_MEASURE_ORDER = 5
"""Exact for that of curved cells: of total degree 3 in a tetrahedron, 5 in each coordinate of a cube."""

SIMPLICES = tuple(CELL_TYPES[name] for name in ("vertex", "line", "triangle", "tetra"))


def signed_measures(nodes: Floats, block: Block) -> Floats:
    """Lengths, areas or volumes (M,) of cells; negative where the orientation is; never negative for facets."""
    measures: list[Floats] = []
    for part in block.parts():
        order = MEASURE_ORDER if part.offsets is None else CURVED_MEASURE_ORDER
        points, weights = quadrature_rule(block.cell, order)
        measures.append(_densities(nodes, part, points)[0] @ weights)
    return np.concatenate([np.empty(0), *measures])


def quadrature_points(nodes: Floats, blocks: Sequence[Block], order: int) -> PointSequence:
    """The quadrature points of each cell, cell after cell; facets come with normals. (Σ M Q, c)"""
    return PointSequence.concatenate([_quadrature_of(nodes, block, order) for block in blocks])


def _quadrature_of(nodes: Floats, block: Block, order: int) -> PointSequence:
    points, weights = quadrature_rule(block.cell, order)
    cells, each = len(block.vertices), len(points)

    def draw(begin: int, end: int) -> PointSet:
        first, last = begin // each, -(-end // each)
        part = block.take(slice(first, last))
        x = map_reference(nodes, part, points)[0]
        density, normals = _densities(nodes, part, points)
        whole = PointSet(
            x.reshape(-1, x.shape[-1]),
            (density * weights).ravel(),
            None if normals is None else normals.reshape(-1, x.shape[-1]),
            np.repeat(part.owner, each),
        )
        return whole.take(slice(begin - first * each, end - first * each))

    measure = sum(float((_densities(nodes, part, points)[0] * weights).sum()) for part in block.parts())
    return PointSequence(cells * each, measure, draw)


def sampled_points(nodes: Floats, blocks: Sequence[Block], sampling: Sampling, seed: int, name: str) -> PointSequence:
    """Points spread evenly over the union of cells or facets, with equal weights. (count, c)

    Cells are cut into simplices; the first coordinate of a point of the unit cube chooses the simplex by cumulative
    measure, the others the place in it. Exact for straight cells with flat faces; in a curved one the points are spread
    evenly before it is bent.
    """
    pieces = [_Pieces(nodes, block) for block in blocks]
    dimension = blocks[0].cell.dimension
    starts = np.cumsum([0, *(len(piece) for piece in pieces)])
    cumulative = np.cumsum(np.concatenate([piece.measures for piece in pieces]))
    weight = float(cumulative[-1] / sampling.points)

    def draw(begin: int, end: int) -> PointSet:
        unit = unit_points(sampling.points, dimension + 1, sampling.kind, seed, name, begin, end)
        chosen = np.searchsorted(cumulative, unit[:, 0] * cumulative[-1], side="right").clip(max=len(cumulative) - 1)
        of_block = np.searchsorted(starts, chosen, side="right") - 1
        points = PointSet(
            np.empty((len(unit), nodes.shape[1])),
            np.full(len(unit), weight),
            np.empty((len(unit), nodes.shape[1])) if dimension < nodes.shape[1] else None,
            np.empty(len(unit), dtype=np.int64),
        )
        for number, piece in enumerate(pieces):
            mine = np.flatnonzero(of_block == number)
            piece.place(points, mine, chosen[mine] - starts[number], cube_to_simplex(unit[mine, 1:]))
        return points

    return PointSequence.weighing(weight, sampling.points, draw)


class _Pieces:
    """Cells or facets of one type cut into simplices: the measures (P,) of these, and places in them."""

    def __init__(self, nodes: Floats, block: Block) -> None:
        self.nodes, self.block = nodes, block
        self.each = len(block.cell.simplices)
        simplex = SIMPLICES[block.cell.dimension]
        vertices = block.vertices[:, block.cell.simplices].reshape(-1, simplex.vertex_count)
        self.simplices = Block(simplex, vertices, np.repeat(block.owner, self.each))
        density, self.normals = _densities(nodes, self.simplices, np.zeros((1, simplex.dimension)))
        self.measures = np.abs(density[:, 0]) * quadrature_rule(simplex, 0)[1][0]
        if len(block.bends):
            straight = self.measures.reshape(-1, self.each)
            self.measures = (straight * (signed_measures(nodes, block) / straight.sum(axis=1))[:, None]).ravel()

    def __len__(self) -> int:
        return len(self.measures)

    def place(self, points: PointSet, which: Integers, pieces: Integers, barycentric: Floats) -> None:
        """Give the points ``which`` (N,) their places in the pieces (N,), with barycentric coordinates (N, e + 1)."""
        if len(self.block.bends) == 0:
            x = np.einsum("nk,nkc->nc", barycentric, self.nodes[self.simplices.vertices[pieces]])
            normals = None if self.normals is None else self.normals[pieces, 0]
        else:
            cells, parts = np.divmod(pieces, self.each)
            corners = np.array(self.block.cell.corners, dtype=float)[np.array(self.block.cell.simplices)[parts]]
            reference = np.einsum("nk,nke->ne", barycentric, corners)
            x, jacobian = map_each(self.nodes, self.block.take(cells), reference)
            normals = None if self.normals is None else unit_normals(jacobian)
        points.x[which] = x
        if points.normals is not None and normals is not None:
            points.normals[which] = normals
        if points.cells is not None:
            points.cells[which] = self.simplices.owner[pieces]


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
