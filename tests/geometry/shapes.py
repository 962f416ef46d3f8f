"""Small meshes for the tests: the unit interval, square and cube in every type of cell, with names."""

from __future__ import annotations

import itertools
from pathlib import Path

import meshio
import numpy as np

from pescitrain.geometry import CELL_TYPES, Mesh

KINDS = ("line", "triangle", "quad", "mixed", "tetra", "hexahedron")
SIMPLE_KINDS = ("line", "triangle", "quad", "tetra", "hexahedron")
AXES = "xyz"


def unit_grid(kind: str, n: int = 2) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Nodes and cells of the unit cube of the dimension of ``kind``, n (even) cells along each axis."""
    dimension = 2 if kind == "mixed" else CELL_TYPES[kind].dimension
    axes = [np.linspace(0.0, 1.0, n + 1)] * dimension
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dimension)
    number = np.arange(len(nodes)).reshape((n + 1,) * dimension)
    cube = CELL_TYPES[("line", "quad", "hexahedron")[dimension - 1]]
    cells = np.array(
        [
            [number[tuple(np.add(cell, corner))] for corner in cube.corners]
            for cell in itertools.product(range(n), repeat=dimension)
        ]
    )
    if kind == cube.name:
        return nodes, {kind: cells}
    if kind == "mixed":
        return nodes, {"triangle": split(cells[::2], cube.simplices), "quad": cells[1::2]}
    return nodes, {kind: split(cells, cube.simplices)}


def split(cells: np.ndarray, simplices: tuple[tuple[int, ...], ...]) -> np.ndarray:
    return cells[:, simplices].reshape(-1, len(simplices[0]))


def named(nodes: np.ndarray, cells: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Regions ``east`` (x > 1/2) and ``west``; boundaries ``x_min``, …, and the interface ``middle`` (x = 1/2)."""
    centres = np.concatenate([nodes[rows].mean(axis=1) for rows in cells.values()])
    regions = {"east": np.flatnonzero(centres[:, 0] > 0.5), "west": np.flatnonzero(centres[:, 0] < 0.5)}
    width = 4 if "hexahedron" in cells else nodes.shape[1]
    facets = [rows[:, facet] for name, rows in cells.items() for facet in CELL_TYPES[name].facets]
    every = np.unique(
        np.sort(np.concatenate([np.reshape(rows, (len(rows), width)) for rows in facets]), axis=1), axis=0
    )
    if width == 4:  # from sorted vertices back to a walk around the square: 0 1 3 2
        every = every[:, [0, 1, 3, 2]]
    boundaries = {}
    for axis in range(nodes.shape[1]):
        for value, side in ((0.0, "min"), (1.0, "max")):
            boundaries[f"{AXES[axis]}_{side}"] = every[(nodes[every][..., axis] == value).all(axis=1)]
    boundaries["middle"] = every[(nodes[every][..., 0] == 0.5).all(axis=1)]
    return regions, boundaries


def unit_mesh(kind: str, n: int = 2, distortion: float = 0.0, seed: int = 0) -> Mesh:
    """The named unit cube; ``distortion`` moves every node at random by that fraction of the cell size."""
    nodes, cells = unit_grid(kind, n)
    regions, boundaries = named(nodes, cells)
    moved = nodes + distortion / n * np.random.default_rng(seed).uniform(-1, 1, nodes.shape)
    return Mesh(moved, cells, regions, boundaries)


def bend(x: np.ndarray) -> np.ndarray:
    """A quadratic map of the unit cube that bends all of its faces; (N, d) -> (N, d)."""
    y, z = np.roll(x, 1, axis=1), np.roll(x, 2, axis=1)
    return x + 0.15 * y * (1.0 - y) + 0.05 * y * (x + z) - 0.05 * x**2


def bent_grid(kind: str, n: int = 2) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The unit cube of :func:`unit_grid` under :func:`bend`: points, vertices, and the middles of edges."""
    points, cells = unit_grid(kind, n)
    middles = {}
    for name, rows in cells.items():
        ends = rows[:, CELL_TYPES[name].edges]
        middles[name] = len(points) + np.arange(ends.shape[0] * ends.shape[1]).reshape(ends.shape[:2])
        points = np.concatenate([points, points[ends].mean(axis=2).reshape(-1, points.shape[1])])
    return bend(points), cells, middles


def as_meshio(kind: str, n: int = 2, tags: str = "gmsh:physical", names: bool = True) -> meshio.Mesh:
    """The named unit cube as meshio has it, in three coordinates, groups numbered from 1 in alphabetical order."""
    nodes, cells = unit_grid(kind, n)
    regions, boundaries = named(nodes, cells)
    numbers = {name: i + 1 for i, name in enumerate(sorted([*regions, *boundaries]))}
    dimension = nodes.shape[1]
    facet = ("vertex", "line", "quad" if kind == "hexahedron" else "triangle")[dimension - 1]
    tag_of_cell = np.zeros(sum(len(rows) for rows in cells.values()), dtype=int)
    for name, members in regions.items():
        tag_of_cell[members] = numbers[name]
    blocks, values, start = [], [], 0
    for name, rows in boundaries.items():
        blocks.append((facet, rows))
        values.append(np.full(len(rows), numbers[name]))
    for cell, rows in cells.items():
        blocks.append((cell, rows))
        values.append(tag_of_cell[start : start + len(rows)])
        start += len(rows)
    points = np.zeros((len(nodes), 3))
    points[:, :dimension] = nodes
    data = {tags: values}
    if tags == "gmsh:physical":
        data["gmsh:geometrical"] = values
    field_data = {name: np.array([tag, dimension - (name in boundaries)]) for name, tag in numbers.items()}
    return meshio.Mesh(points, blocks, cell_data=data, field_data=field_data if names else {})


def write_msh41(path: Path, mesh: meshio.Mesh) -> None:
    """A gmsh file of format 4.1 in text: one entity for each group (meshio writes groups of one dimension only)."""
    gmsh_types = {"vertex": 15, "line": 1, "triangle": 2, "quad": 3, "tetra": 4, "hexahedron": 5, "triangle6": 9}
    dimension_of = {name: cell.dimension for name, cell in CELL_TYPES.items()} | {"triangle6": 2}
    blocks = []
    for block, values in zip(mesh.cells, mesh.cell_data["gmsh:physical"], strict=True):
        blocks += [(block.type, int(tag), block.data[values == tag] + 1) for tag in np.unique(values)]
    entities = sorted({(dimension_of[kind], tag) for kind, tag, _ in blocks})
    count = [sum(d == dimension for d, _ in entities) for dimension in range(4)]
    lines = ["$MeshFormat", "4.1 0 8", "$EndMeshFormat", "$PhysicalNames", str(len(mesh.field_data))]
    lines += [f'{dimension} {tag} "{name}"' for name, (tag, dimension) in mesh.field_data.items()]
    lines += ["$EndPhysicalNames", "$Entities", " ".join(map(str, count))]
    lines += [f"{tag} 0 0 0 1 {tag}" if d == 0 else f"{tag} 0 0 0 1 1 1 1 {tag} 0" for d, tag in entities]
    top = max(entities)
    nodes = len(mesh.points)
    lines += ["$EndEntities", "$Nodes", f"1 {nodes} 1 {nodes}", f"{top[0]} {top[1]} 0 {nodes}"]
    lines += [str(i + 1) for i in range(nodes)]
    lines += [" ".join(map(repr, point)) for point in mesh.points.tolist()]
    total = sum(len(rows) for *_, rows in blocks)
    lines += ["$EndNodes", "$Elements", f"{len(blocks)} {total} 1 {total}"]
    element = 0
    for kind, tag, rows in blocks:
        lines.append(f"{dimension_of[kind]} {tag} {gmsh_types[kind]} {len(rows)}")
        for row in rows.tolist():
            element += 1
            lines.append(" ".join(map(str, [element, *row])))
    path.write_text("\n".join([*lines, "$EndElements", ""]))
