"""A mesh file that no problem has seen: the unit square in triangles, with named groups."""

from __future__ import annotations

from pathlib import Path

import meshio
import numpy as np
from geometry.shapes import unit_grid  # pyright: ignore[reportMissingImports]

LEFT, RIGHT, BOTTOM, TOP = (0, 0.0), (0, 1.0), (1, 0.0), (1, 1.0)
"""A side: its axis and where it lies."""


def write_square(path: Path, cells: int, groups: dict[str, list[tuple[int, float]]]) -> Path:
    """Gmsh's format, ``cells`` along each side; region ``plate``, boundaries by their sides."""
    nodes, blocks_of = unit_grid("triangle", cells)

    def edges(axis: int, value: float) -> np.ndarray:
        on = np.flatnonzero(nodes[:, axis] == value)
        return np.stack([on[:-1], on[1:]], axis=1)

    lines = [np.concatenate([edges(*side) for side in sides]) for sides in groups.values()]
    blocks = [("triangle", blocks_of["triangle"]), *(("line", rows) for rows in lines)]
    tags = [np.full(len(rows), tag) for tag, (_, rows) in enumerate(blocks, start=1)]
    names = {"plate": np.array([1, 2])} | {name: np.array([tag, 1]) for tag, name in enumerate(groups, start=2)}
    meshio.Mesh(
        np.c_[nodes, np.zeros(len(nodes))],
        blocks,
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data=names,
    ).write(path, file_format="gmsh22", binary=False)
    return path
