"""From nodes and cells as they come to nodes and cells that can be integrated over."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pescitrain.errors import MeshError
from pescitrain.geometry.bends import Bends
from pescitrain.geometry.cells import CELL_TYPES
from pescitrain.geometry.integration import signed_measures
from pescitrain.geometry.maps import Block, map_reference, signed_density
from pescitrain.geometry.points import Floats, Integers

FLAT = 1e-10
"""How far nodes may leave a coordinate plane, relative to the size of the mesh: above round-off of files in text."""

EMPTY = 1e-14
"""Measure of a cell relative to its diameter to the power d, below which it counts as zero: aspect ratios to 1e7."""


REPAIR = "repair the mesh"
UNFOLD = "optimise its curved cells (Mesh.HighOrderOptimize in gmsh) or save it with straight ones"


def flatten(nodes: Floats, dimension: int) -> tuple[Floats, tuple[int, ...]]:
    """Drop constant coordinates until ``dimension`` are left: nodes (n, dimension), and the columns that were kept.

    Raises MeshError where the nodes do not lie in a coordinate plane (or on a coordinate axis).
    """
    columns = list(range(nodes.shape[1]))
    extents = np.ptp(nodes, axis=0)
    for column in reversed(columns.copy()):
        if len(columns) > dimension and extents[column] <= FLAT * extents.max():
            columns.remove(column)
    if len(columns) != dimension:
        raise MeshError(
            f"its cells of highest dimension are {dimension}-dimensional, but its nodes fill {len(columns)} coordinates"
            ": only cells in a coordinate plane (or on an axis) are a domain; if only the boundary was saved, "
            "save the cells inside as well"
        )
    return np.ascontiguousarray(nodes[:, columns]), tuple(columns)


def diameters(nodes: Floats, vertices: Integers) -> Floats:
    """The longest distance (M,) between two vertices of each cell."""
    corners = nodes[vertices]
    result = np.zeros(len(vertices))
    for shift in range(1, vertices.shape[1] // 2 + 1):
        distance = np.linalg.norm(corners - np.roll(corners, shift, axis=1), axis=2)
        np.maximum(result, distance.max(axis=1), out=result)
    return result


def orient(nodes: Floats, cells: Mapping[str, Integers], bends: Bends) -> dict[str, Integers]:
    """Give every cell a positive orientation.

    Raises MeshError where a cell repeats a vertex, has zero measure, or is folded (a Jacobian that changes sign).
    """
    oriented: dict[str, Integers] = {}
    for name, vertices in cells.items():
        cell = CELL_TYPES[name]
        block = Block(cell, vertices, np.arange(len(vertices)), bends)
        measures = signed_measures(nodes, block)
        scale = diameters(nodes, vertices) ** cell.dimension
        ordered = np.sort(vertices, axis=1)
        repeated = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
        _refuse(repeated | (np.abs(measures) <= EMPTY * scale), "zero measure", name, nodes, vertices)
        signs = np.sign(measures)
        lowest = np.concatenate([np.empty(0), *(_lowest_density(nodes, part, signs) for part in block.parts())])
        _refuse(lowest < -EMPTY * scale, "a folded shape", name, nodes, vertices, UNFOLD if len(bends) else REPAIR)
        oriented[name] = np.where((measures < 0)[:, None], vertices[:, cell.mirror], vertices)
    return oriented


def _lowest_density(nodes: Floats, part: Block, signs: Floats) -> Floats:
    """The smallest density (M,) at the nodes of each cell, times its place in ``signs``."""
    places = np.array(part.cell.corners, dtype=float)
    if part.offsets is not None:
        places = np.concatenate([places, places[np.array(part.cell.edges)].mean(axis=1)])
    densities = signed_density(map_reference(nodes, part, places)[1])
    return (densities * signs[part.owner][:, None]).min(axis=1)


def _refuse(bad: np.ndarray, what: str, name: str, nodes: Floats, vertices: Integers, remedy: str = REPAIR) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        place = ", ".join(f"{value:.6g}" for value in nodes[vertices[first]].mean(axis=0))
        raise MeshError(f"{np.count_nonzero(bad)} of its {name} cells have {what}, the first near ({place}); {remedy}")
