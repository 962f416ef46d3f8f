"""The files in meshes/: sizes, names of groups, geometry, and the reference solutions beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import meshio
import numpy as np
import pytest
from mpi4py import MPI

from pescitrain.geometry import Mesh, Sampling

# Cells of each physical group: of regions triangles, of curves lines.
GROUPS = {
    "lshape": {"domain": 2184, "boundary": 138},
    "plate_with_hole": {"domain": 2593, "hole": 72, "outer": 117},
    "elastic_plate": {"plate": 1336, "hole": 32, "symmetry_x": 17, "symmetry_y": 17, "traction": 20, "free": 20},
    "two_materials": {"matrix": 2196, "inclusion": 660, "interface": 72, "left": 29, "right": 29, "insulated": 58},
}
NODES = {"lshape": 1162, "plate_with_hole": 1391, "elastic_plate": 722, "two_materials": 1487}
FIELDS = {
    "lshape": {"u"},
    "plate_with_hole": {"u"},
    "elastic_plate": {"displacement", "stress"},
    "two_materials": {"T"},
}
# What holds at the nodes of a group, as a function of x and y that vanishes there.
CURVES: dict[tuple[str, str], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ("lshape", "boundary"): lambda x, y: (
        (x**2 - 1) * (y**2 - 1) * np.hypot(y, np.minimum(x, 0)) * np.hypot(x, np.maximum(y, 0))
    ),
    ("plate_with_hole", "hole"): lambda x, y: np.hypot(x - 0.2, y + 0.15) - 0.4,
    ("plate_with_hole", "outer"): lambda x, y: (x**2 - 1) * (y**2 - 1),
    ("elastic_plate", "hole"): lambda x, y: np.hypot(x, y) - 0.4,
    ("elastic_plate", "symmetry_x"): lambda x, y: x,
    ("elastic_plate", "symmetry_y"): lambda x, y: y,
    ("elastic_plate", "traction"): lambda x, y: x - 1,
    ("elastic_plate", "free"): lambda x, y: y - 1,
    ("two_materials", "interface"): lambda x, y: np.hypot(x + 0.1, y - 0.2) - 0.45,
    ("two_materials", "left"): lambda x, y: x + 1,
    ("two_materials", "right"): lambda x, y: x - 1,
    ("two_materials", "insulated"): lambda x, y: y**2 - 1,
}


VERTICES = {"line": 2, "line3": 2, "triangle": 3, "triangle6": 3}


def nodes_of(mesh: meshio.Mesh, group: str) -> np.ndarray:
    """(N, k): all nodes of the cells of a physical group."""
    members = mesh.cell_sets[group]
    parts = [block.data[np.asarray(rows)] for block, rows in zip(mesh.cells, members, strict=True) if np.size(rows)]
    return np.vstack(parts)


def cells_of(mesh: meshio.Mesh, group: str) -> np.ndarray:
    """(N, 2) or (N, 3): the vertices of the cells of a physical group."""
    parts = [
        block.data[np.asarray(rows), : VERTICES[block.type]]
        for block, rows in zip(mesh.cells, mesh.cell_sets[group], strict=True)
        if np.size(rows)
    ]
    return np.vstack(parts)


def vertices_of(mesh: meshio.Mesh) -> np.ndarray:
    """(N,): the nodes that are vertices of triangles, in order."""
    return np.unique(np.vstack([block.data[:, :3] for block in mesh.cells if block.type.startswith("triangle")]))


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """(3N, 2): the edges of triangles, smaller node first."""
    return np.sort(np.vstack([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)


@pytest.fixture(params=GROUPS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def mesh(name: str, meshes: Path) -> meshio.Mesh:
    return meshio.read(meshes / f"{name}.msh")


def test_groups_have_their_names_and_counts(name: str, mesh: meshio.Mesh) -> None:
    assert (len(vertices_of(mesh)), set(mesh.field_data)) == (NODES[name], set(GROUPS[name]))
    assert {group: len(cells_of(mesh, group)) for group in GROUPS[name]} == GROUPS[name]


def test_file_is_ascii_of_version_4_1(name: str, meshes: Path) -> None:
    assert (meshes / f"{name}.msh").read_text(encoding="ascii").startswith("$MeshFormat\n4.1 0 8\n")


def test_nodes_lie_on_the_exact_curves(name: str, mesh: meshio.Mesh) -> None:
    curves = {group: function for (owner, group), function in CURVES.items() if owner == name}
    assert set(curves) == {group for group in GROUPS[name] if cells_of(mesh, group).shape[1] == 2}
    for group, function in curves.items():
        x, y, _ = mesh.points[np.unique(nodes_of(mesh, group))].T
        assert np.abs(function(x, y)).max() < 1e-15, group
    assert np.all(mesh.points[:, 2] == 0.0)


def test_groups_of_curves_are_the_boundary_and_the_interface(name: str, mesh: meshio.Mesh) -> None:
    regions = [g for g in GROUPS[name] if cells_of(mesh, g).shape[1] == 3]
    curves = [g for g in GROUPS[name] if cells_of(mesh, g).shape[1] == 2]
    expected: set[tuple[int, ...]] = set()
    for region in regions:
        edges, times = np.unique(edges_of(cells_of(mesh, region)), axis=0, return_counts=True)
        expected |= {tuple(edge) for edge in edges[times == 1]}
    found = [tuple(edge) for group in curves for edge in np.sort(cells_of(mesh, group), axis=1)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_triangles_are_well_shaped_and_cover_the_domain(name: str, mesh: meshio.Mesh) -> None:
    triangles = np.vstack([cells_of(mesh, g) for g in GROUPS[name] if cells_of(mesh, g).shape[1] == 3])
    a, b, c = (mesh.points[triangles[:, k], :2] for k in range(3))
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    assert area.min() > 0.0
    lengths = np.array([np.hypot(*(p - q).T) for p, q in ((a, b), (b, c), (c, a))])
    assert (4.0 * np.sqrt(3.0) * area / (lengths**2).sum(axis=0)).min() > 0.7
    holes = {"plate_with_hole": np.pi * 0.4**2, "elastic_plate": np.pi * 0.2**2}
    whole = {"lshape": 3.0, "elastic_plate": 1.0}
    assert area.sum() == pytest.approx(whole.get(name, 4.0) - holes.get(name, 0.0), abs=8e-4)


def test_the_domain_is_as_exact_as_second_order_makes_it(name: str, meshes: Path) -> None:
    """The radius of a parabola through three points of an arc of angle 2α is off by up to r α⁴/32: 1.2e-7 r here."""
    mesh = Mesh.read(meshes / f"{name}.msh", MPI.COMM_SELF)
    areas = {"lshape": 3.0, "plate_with_hole": 4.0 - np.pi * 0.4**2, "elastic_plate": 1.0 - np.pi * 0.2**2}
    assert mesh.measure() == pytest.approx(areas.get(name, 4.0), abs=3e-7)
    if name == "two_materials":
        assert mesh.measure("inclusion") == pytest.approx(np.pi * 0.45**2, abs=3e-7)
    points = mesh.boundary(None, Sampling(1000, "latin"))
    assert points.normals is not None
    curves = [
        function
        for (owner, group), function in CURVES.items()
        if (owner, group) != (name, "interface") and owner == name
    ]
    assert np.abs(np.prod([function(*points.x.T) for function in curves], axis=0)).max() < 1e-7


def test_reference_belongs_to_the_mesh(name: str, mesh: meshio.Mesh, meshes: Path) -> None:
    reference = meshio.read(meshes / f"{name}_ref.vtu")
    vertices = vertices_of(mesh)
    assert np.array_equal(reference.points, mesh.points[vertices])
    assert set(reference.point_data) == FIELDS[name]
    for region in (g for g in GROUPS[name] if cells_of(mesh, g).shape[1] == 3):
        number = mesh.field_data[region][0]
        own = reference.cells[0].data[reference.cell_data["group"][0] == number]
        assert np.array_equal(vertices[own], cells_of(mesh, region)), region


def test_reference_agrees_with_a_fresh_evaluation(
    name: str, meshes: Path, mesh_reference: Callable[[str], ModuleType]
) -> None:
    reference = meshio.read(meshes / f"{name}_ref.vtu")
    module = mesh_reference(name)
    x = reference.points[:, :2]
    assert set(module.NAMES) == set(reference.point_data)
    stored = reference.point_data[module.NAMES[0]].reshape(len(x), -1)
    fresh = module.solution(x)
    np.testing.assert_allclose(stored[:, : fresh.shape[1]], fresh, rtol=0, atol=1e-10)
    assert np.all(stored[:, fresh.shape[1] :] == 0.0)
    if "stress" in module.NAMES:
        np.testing.assert_allclose(reference.point_data["stress"], module.stress(x), rtol=0, atol=1e-10)
