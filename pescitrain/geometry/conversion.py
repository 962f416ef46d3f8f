"""From what meshio gives to cells of one dimension with named groups."""

from __future__ import annotations

from dataclasses import dataclass

import meshio
import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import MeshError
from pescitrain.geometry.cells import CELL_TYPES, SECOND_ORDER, CellType, first_order_type
from pescitrain.geometry.points import Floats, Integers
from pescitrain.geometry.topology import group_rows

PHYSICAL = "gmsh:physical"

TAG_ARRAYS = (PHYSICAL, "cell_tags", "region", "regions", "group", "groups", "physical", "material", "medit:ref")
"""Integer cell data that number the groups; the first one that a file has is used."""


@dataclass(frozen=True)
class MeshFile:
    """The cells of highest dimension of a mesh file, and its groups.

    Attributes
    ----------
    points : (n, c) float64             as in the file, all of them
    cells : {type: (M, k) int64}        vertices; cells are numbered type after type
    regions : {name: (m,) int64}        cells of each group
    boundaries : {name: (m, w) int64}   vertices of the facets of each group, padded with -1
    point_data : {name: (n, ...)}       arrays on the points
    middles : {type: (M, E) int64}      points in the middles of the edges, of types of second order; -1: none
    """

    points: Floats
    cells: dict[str, Integers]
    regions: dict[str, Integers]
    boundaries: dict[str, Integers]
    point_data: dict[str, NDArray]
    middles: dict[str, Integers]


def convert(mesh: meshio.Mesh) -> MeshFile:
    """The part of a meshio mesh that is used here, checked.

    Raises MeshError, without the name of the file: no points or not finite ones, no cells, cells of a kind that is not
    supported, cells that refer to points which are not there.
    """
    points = np.asarray(mesh.points, dtype=np.float64)
    if points.ndim != 2 or len(points) == 0:
        raise MeshError("it has no points; write it again")
    if not np.isfinite(points).all():
        bad = np.count_nonzero(~np.isfinite(points).all(axis=1))
        raise MeshError(f"{bad} of its points have coordinates that are not finite numbers; repair the mesh")
    types = [_supported_type(block.type) for block in mesh.cells]
    rows = [np.asarray(block.data, dtype=np.int64).reshape(len(block.data), -1) for block in mesh.cells]
    blocks = [every[:, : cell.vertex_count] for cell, every in zip(types, rows, strict=True)]
    dimension = max((cell.dimension for cell, block in zip(types, blocks, strict=True) if len(block)), default=0)
    if dimension == 0:
        raise MeshError("it has no cells (lines, triangles, tetrahedra, …); save the mesh, not only its points")
    for block in rows:
        if block.size and not (block.min() >= 0 and block.max() < len(points)):
            raise MeshError("some of its cells refer to points that it does not have; write it again")
    groups = _groups(mesh, types)
    middles = [
        every[:, cell.vertex_count : cell.vertex_count + len(cell.edges)] if block.type in SECOND_ORDER else None
        for cell, every, block in zip(types, rows, mesh.cells, strict=True)
    ]
    cells, regions, of_edges = _collect_cells(dimension, types, blocks, middles, groups)
    return MeshFile(
        points,
        cells,
        regions,
        _collect_facets(dimension, types, blocks, groups),
        {name: np.asarray(array) for name, array in mesh.point_data.items()},
        of_edges,
    )


def _supported_type(name: str) -> CellType:
    cell = first_order_type(name)
    if cell is None:
        raise MeshError(
            f"it has cells of the kind '{name}', which are not supported; use lines, triangles, quadrilaterals, "
            "tetrahedra or hexahedra"
        )
    return cell


def _groups(mesh: meshio.Mesh, types: list[CellType]) -> list[dict[str, Integers]]:
    """For each block of cells: the names of its groups, and which of its cells (m,) belong to them."""
    groups: list[dict[str, list[Integers]]] = [{} for _ in types]

    def add(block: int, name: str, members: Integers) -> None:
        if len(members):
            groups[block].setdefault(name, []).append(members)

    for name, per_block in mesh.cell_sets.items():
        if not name.startswith("gmsh:"):
            for block, members in enumerate(per_block):
                add(block, name, np.asarray([] if members is None else members, dtype=np.int64))
    array = next((name for name in TAG_ARRAYS if _is_integer(mesh.cell_data.get(name))), None)
    if array is not None:
        for block, values in enumerate(mesh.cell_data[array]):
            for tag in np.unique(values).tolist():
                if array != PHYSICAL or tag != 0:  # zero: in no physical group
                    for name in _names_of_tag(mesh, tag, types[block].dimension):
                        add(block, name, np.flatnonzero(np.asarray(values).ravel() == tag))
    return [{name: np.unique(np.concatenate(lists)) for name, lists in of_block.items()} for of_block in groups]


def _is_integer(per_block: object) -> bool:
    return isinstance(per_block, list) and all(np.asarray(values).dtype.kind in "iu" for values in per_block)


def _names_of_tag(mesh: meshio.Mesh, tag: int, dimension: int) -> list[str]:
    """The names that a file gives to a number: gmsh's physical names, or MED's families; else the number itself."""
    families = getattr(mesh, "cell_tags", {}) or {}
    if tag in families:
        return list(families[tag])
    names: list[str] = []
    for name, value in mesh.field_data.items():
        numbers = np.asarray(value).ravel()
        if numbers.dtype.kind in "iu" and numbers.tolist() == [tag, dimension]:
            names.append(name)
    return names or [str(tag)]


def _collect_cells(
    dimension: int,
    types: list[CellType],
    blocks: list[Integers],
    middles: list[Integers | None],
    groups: list[dict[str, Integers]],
) -> tuple[dict[str, Integers], dict[str, Integers], dict[str, Integers]]:
    """Join the blocks of highest dimension type by type: cells, groups, and the middles of edges.

    A cell that is written twice becomes one, in both groups.
    """
    cells: dict[str, Integers] = {}
    of_edges: dict[str, Integers] = {}
    members: dict[str, list[Integers]] = {}
    start = 0
    for name, cell in CELL_TYPES.items():
        mine = [i for i, other in enumerate(types) if other is cell and cell.dimension == dimension and len(blocks[i])]
        if not mine:
            continue
        every = np.concatenate([blocks[i] for i in mine])
        first, inverse, _ = group_rows(np.sort(every, axis=1))
        kept = np.sort(first)
        number = start + np.searchsorted(kept, first[inverse])
        offset = 0
        for i in mine:
            for group, which in groups[i].items():
                members.setdefault(group, []).append(number[offset + which])
            offset += len(blocks[i])
        cells[name] = every[kept]
        of_mine = [(len(blocks[i]), middles[i]) for i in mine]
        if any(given is not None for _, given in of_mine):
            padded = [np.full((count, len(cell.edges)), -1) if given is None else given for count, given in of_mine]
            of_edges[name] = np.concatenate(padded)[kept]
        start += len(kept)
    return cells, {group: np.unique(np.concatenate(parts)) for group, parts in members.items()}, of_edges


def _collect_facets(
    dimension: int, types: list[CellType], blocks: list[Integers], groups: list[dict[str, Integers]]
) -> dict[str, Integers]:
    rows: dict[str, list[Integers]] = {}
    width = 4 if dimension == 3 else dimension
    for cell, vertices, of_block in zip(types, blocks, groups, strict=True):
        if cell.dimension == dimension - 1:
            padded = np.full((len(vertices), width), -1)
            padded[:, : cell.vertex_count] = vertices
            for group, which in of_block.items():
                rows.setdefault(group, []).append(padded[which])
    return {group: np.concatenate(parts) for group, parts in rows.items()}
