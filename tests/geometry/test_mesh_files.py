"""Every format gives the same mesh, and every broken file one sentence."""

import builtins
import re
import sys
from pathlib import Path

import meshio
import numpy as np
import pytest
from geometry.shapes import (  # pyright: ignore[reportMissingImports]
    KINDS,
    as_meshio,
    bent_grid,
    unit_grid,
    unit_mesh,
    write_msh41,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.errors import MeshError
from pescitrain.geometry import Mesh, Sampling

SELF = MPI.COMM_SELF
FORMATS = {
    "mesh22.msh": {"file_format": "gmsh22", "binary": False},
    "mesh22b.msh": {"file_format": "gmsh22", "binary": True},
    "mesh41.msh": None,  # write_msh41
    "mesh.vtu": {"binary": False},
    "meshb.vtu": {"binary": True},
    "mesh.vtk": {"file_format": "vtk42", "binary": False},
    "meshb.vtk": {"file_format": "vtk42", "binary": True},
    "mesh51.vtk": {"binary": True},
    "mesh.xdmf": {"data_format": "XML"},
    "meshb.xdmf": {"data_format": "Binary"},
}


def write(folder: Path, name: str, kind: str) -> Path:
    path, options = folder / name, FORMATS[name]
    gmsh = path.suffix == ".msh"
    mesh = as_meshio(kind, tags="gmsh:physical" if gmsh else "region", names=gmsh)
    if options is None:
        write_msh41(path, mesh)
    else:
        mesh.write(path, **options)
    return path


def in_order(rows: np.ndarray) -> np.ndarray:
    """The rows in lexicographic order: formats may write cells group after group."""
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_mesh(tmp_path, kind, name):
    if kind == "line" and name.endswith(".xdmf"):
        pytest.skip("meshio 5.3.5 cannot read back an XDMF file of points and lines that it has written")
    read = Mesh.read(write(tmp_path, name, kind), SELF)
    made = unit_mesh(kind)
    assert_array_equal(read.nodes, made.nodes)
    assert list(read.cells) == list(made.cells)
    for cell in made.cells:
        assert_array_equal(in_order(read.cells[cell]), in_order(made.cells[cell]))
    names = sorted([*made.names()["interior"][1:], *made.names()["boundary"][1:]])
    called = {group: group if name.endswith(".msh") else str(number + 1) for number, group in enumerate(names)}
    assert read.names()["interior"][1:] == sorted(called[group] for group in ("east", "west"))
    assert set(read.names()["boundary"][1:]) == {called[group] for group in names} - {called["east"], called["west"]}
    for group in made.names()["interior"][1:]:
        centres = [mesh.interior(g, Sampling(order=1)).x for mesh, g in ((read, called[group]), (made, group))]
        assert_array_equal(in_order(centres[0]), in_order(centres[1]))
    for group in made.names()["boundary"][1:]:
        assert_array_equal(read.facet_indices(called[group]), made.facet_indices(group))


@pytest.mark.parametrize("kind", ["triangle", "hexahedron"])
def test_hdf_data_are_read_where_h5py_is_there(tmp_path, kind):
    pytest.importorskip("h5py")
    as_meshio(kind, tags="region", names=False).write(tmp_path / "mesh.xdmf")
    assert Mesh.read(tmp_path / "mesh.xdmf", SELF).measure("1") == 0.5


def test_without_h5py_the_sentence_says_what_to_install_or_to_write(tmp_path, monkeypatch):
    pytest.importorskip("h5py")
    as_meshio("triangle", tags="region", names=False).write(tmp_path / "mesh.xdmf")
    monkeypatch.setitem(sys.modules, "h5py", None)  # import h5py fails from here on
    with pytest.raises(MeshError, match=r"needs the package h5py.*XML or binary"):
        Mesh.read(tmp_path / "mesh.xdmf", SELF)


def test_cells_of_second_order_are_curved(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, -0.1, 0], [0.6, 0.6, 0], [0, 0.5, 0]])
    meshio.Mesh(points, [("triangle6", np.arange(6)[None])]).write(tmp_path / "curved.vtu")
    mesh = Mesh.read(tmp_path / "curved.vtu", SELF)
    assert list(mesh.cells) == ["triangle"]
    # Two thirds of chord times sagitta are between a parabola and its chord: 0.1 of 1, and 0.1 √2 of √2.
    assert mesh.measure() == pytest.approx(0.5 + 2 / 3 * 0.1 + 2 / 3 * 0.2, rel=1e-14)
    assert len(mesh.bends) == 2
    assert_array_equal(mesh.node_numbers, [0, 1, 2])


def test_cells_of_higher_order_are_used_by_their_vertices(tmp_path):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.concatenate([corners, np.full((7, 3), [0.3, -0.2, 0])])
    meshio.Mesh(points, [("triangle10", np.arange(10)[None])]).write(
        tmp_path / "cubic.msh", file_format="gmsh22", binary=False
    )
    mesh = Mesh.read(tmp_path / "cubic.msh", SELF)
    assert (mesh.measure(), len(mesh.bends)) == (0.5, 0)


def test_a_file_may_have_straight_and_curved_cells(tmp_path):
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, -0.1, 0], [0.5, 0.5, 0], [0, 0.5, 0]])
    blocks = [("triangle", np.array([[1, 3, 2]])), ("triangle6", np.array([[0, 1, 2, 4, 5, 6]]))]
    meshio.Mesh(points, blocks).write(tmp_path / "both.vtu")
    measures = Mesh.read(tmp_path / "both.vtu", SELF).cell_measures
    assert_allclose(measures, [0.5, 0.5 + 2 / 3 * 0.1], rtol=1e-14)


@pytest.mark.parametrize("kind", ["triangle", "quad", "tetra", "hexahedron"])
def test_files_of_every_type_of_second_order_are_the_curved_mesh(tmp_path, kind):
    nodes, cells, middles = bent_grid(kind)
    number = nodes.shape[1] + 1 if kind in ("triangle", "tetra") else 2 ** nodes.shape[1]
    rows = np.concatenate([cells[kind], middles[kind]], axis=1)
    points = np.zeros((len(nodes), 3))
    points[:, : nodes.shape[1]] = nodes
    meshio.Mesh(points, [(f"{kind}{rows.shape[1]}", rows)]).write(tmp_path / "curved.vtu")
    mesh = Mesh.read(tmp_path / "curved.vtu", SELF)
    assert mesh.cells[kind].shape[1] == number
    # The same sums of the same numbers.
    assert_array_equal(mesh.cell_measures, Mesh(nodes, cells, middles=middles).cell_measures)


def test_a_cell_in_two_groups_belongs_to_both(tmp_path):
    """gmsh's format 2.2 repeats a cell for each of its groups."""
    nodes, cells = unit_grid("triangle")
    rows = np.concatenate([cells["triangle"], cells["triangle"][:3, [1, 2, 0]]])
    tags = [np.array([1] * 8 + [2] * 3)]
    names = {"all": np.array([1, 2]), "some": np.array([2, 2])}
    data = {"gmsh:physical": tags, "gmsh:geometrical": tags}
    mesh = meshio.Mesh(
        np.column_stack([nodes, 0 * nodes[:, 0]]), [("triangle", rows)], cell_data=data, field_data=names
    )
    mesh.write(tmp_path / "twice.msh", file_format="gmsh22", binary=False)
    read = Mesh.read(tmp_path / "twice.msh", SELF)
    assert read.cell_count == 8
    assert_array_equal(read.region_cells("all"), np.arange(8))
    assert_array_equal(read.region_cells("some"), np.arange(3))


def test_a_number_counts_per_dimension_and_zero_is_no_group(tmp_path):
    nodes, cells = unit_grid("triangle")
    blocks = [("line", np.array([[0, 1], [1, 2]])), ("triangle", cells["triangle"])]
    tags = [np.array([1, 7]), np.array([1, 1, 0, 0, 0, 0, 0, 7])]
    data, names = {"gmsh:physical": tags, "gmsh:geometrical": tags}, {"rim": np.array([1, 1]), "core": np.array([1, 2])}
    mesh = meshio.Mesh(np.insert(nodes, 2, 0.0, axis=1), blocks, cell_data=data, field_data=names)
    mesh.write(tmp_path / "numbers.msh", file_format="gmsh22", binary=False)
    read = Mesh.read(tmp_path / "numbers.msh", SELF)
    assert read.names() == {"interior": ["interior", "7", "core"], "boundary": ["boundary", "7", "rim"]}
    assert_array_equal(read.region_cells("core"), [0, 1])
    assert_array_equal(read.region_of_cell, [1, 1, -1, -1, -1, -1, -1, 0])


def test_cell_sets_become_names(tmp_path):
    nodes, cells = unit_grid("triangle")
    mesh = meshio.Mesh(nodes, cells, cell_sets={"lower": [np.array([0, 1])]})
    mesh.write(tmp_path / "sets.inp")
    assert_array_equal(Mesh.read(tmp_path / "sets.inp", SELF).region_cells("lower"), [0, 1])


def test_a_mesh_without_names_has_its_interior_and_its_boundary(tmp_path):
    nodes, cells = unit_grid("triangle")
    meshio.Mesh(nodes, cells).write(tmp_path / "bare.vtu")
    mesh = Mesh.read(tmp_path / "bare.vtu", SELF)
    assert mesh.names() == {"interior": ["interior"], "boundary": ["boundary"]}
    assert_allclose([mesh.measure("interior"), mesh.boundary_measure("boundary")], [1.0, 4.0], rtol=1e-14)


# ---------------------------------------------------------------------------------------------------------- what breaks

TRIANGLE = [("triangle", np.array([[0, 1, 2]]))]
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])


TWO_TRIANGLES = [("triangle", np.array([[0, 1, 2], [0, 1, 3]]))]
PRISM = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]]

BROKEN_MESHES = {
    "not finite": ([[0, 0, 0], [1, np.nan, 0], [0, 1, 0]], TRIANGLE, "1 of its points .* not finite"),
    "only points": (CORNERS, [("vertex", np.array([[0], [1]]))], "no cells"),
    "only the boundary": (CORNERS, [("line", np.array([[0, 1], [1, 2]]))], "save the cells inside as well"),
    "no area": (
        [[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]],
        TWO_TRIANGLES,
        "1 of its triangle cells have zero measure",
    ),
    "in line": (
        [[0, 0, 0], [1, 1, 0], [3, 3, 0], [0, 1, 0]],
        TWO_TRIANGLES,
        "1 of its triangle cells have zero measure",
    ),
    "wedge": (PRISM, [("wedge", np.arange(6)[None])], "kind 'wedge'"),
    "pyramid": (PRISM, [("pyramid", np.arange(5)[None])], "kind 'pyramid'"),
    "in space": ([[0, 0, 0], [1, 0, 1], [0, 1, 2], [1, 1, 0]], TWO_TRIANGLES, "fill 3 coordinates"),
    "missing points": (CORNERS, [("triangle", np.array([[0, 1, 3]]))], "points that it does not have"),
}


def one_sentence(error: MeshError, path: Path) -> None:
    text = str(error)
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")


@pytest.mark.parametrize("case", BROKEN_MESHES)
def test_a_mesh_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, case, capsys):
    points, cells, message = BROKEN_MESHES[case]
    path = tmp_path / "broken.vtu"
    meshio.Mesh(np.array(points, dtype=float), cells).write(path, binary=False)
    capsys.readouterr()
    with pytest.raises(MeshError, match=message) as failure:
        Mesh.read(path, SELF)
    one_sentence(failure.value, path)
    assert capsys.readouterr() == ("", "")


BROKEN_FILES = {
    "empty.msh": (b"", "it is empty"),
    "blank.msh": (b"\n\n", "broken"),
    "noise.msh": (bytes(range(256)), "broken"),
    "noise.vtu": (b"<VTKFile", "broken"),
    "noise.vtk": (b"# vtk DataFile Version 9.9\nx\nASCII\n", "broken"),
    "noise.xdmf": (b"<Xdmf></Xdmf>", "broken"),
    "mesh.abc": (b"x", r"extension '\.abc' is unknown; use \.msh"),
    "mesh": (b"x", "extension '' is unknown"),
    "text.msh": (b"$MeshFormat\n4.1 0 8\n$EndMeshFormat\n", "broken"),
    "old.msh": (b"$MeshFormat\n1.7 0 8\n$EndMeshFormat\n", "broken"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_is_no_mesh_is_refused_in_a_sentence_and_nothing_is_printed(tmp_path, name, capsys):
    content, message = BROKEN_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MeshError, match=message) as failure:
        Mesh.read(path, SELF)
    one_sentence(failure.value, path)
    assert capsys.readouterr() == ("", "")


def test_a_mesh_without_cells_is_refused(tmp_path):
    path = tmp_path / "points.xdmf"
    meshio.Mesh(CORNERS, []).write(path, data_format="XML")
    with pytest.raises(MeshError, match="no cells"):
        Mesh.read(path, SELF)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(MeshError, match="no such file"):
        Mesh.read(tmp_path / "none.msh", SELF)
    with pytest.raises(MeshError, match="is a folder"):
        Mesh.read(tmp_path, SELF)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0.0, 0.97))
def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path, name, part):
    path = write(tmp_path, name, "triangle")
    if path.suffix == ".vtk":  # what follows the cells are their data: without them the mesh is whole
        content = path.read_bytes()
        content = content[: content.index(b"CELL_DATA") - 2]
    else:
        content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(MeshError) as failure:
        Mesh.read(path, SELF)
    one_sentence(failure.value, path)


def test_groups_on_some_cells_only_are_explained(tmp_path):
    """gmsh's Mesh.SaveAll in format 4.1, which meshio cannot read."""
    path = tmp_path / "all.msh"
    write_msh41(path, as_meshio("triangle"))
    text = path.read_text()
    path.write_text(re.sub(r"^2 0 0 0 1 1 1 1 2 0$", "2 0 0 0 1 1 1 0 0", text, flags=re.M))
    with pytest.raises(MeshError, match="physical group and others have none"):
        Mesh.read(path, SELF)


def test_an_interrupt_from_the_keyboard_goes_through(tmp_path, monkeypatch):
    path = write(tmp_path, "mesh.vtu", "triangle")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(meshio, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Mesh.read(path, SELF)


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path, "mesh.vtu", "triangle")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(MeshError, match="Permission denied") as failure:
        Mesh.read(path, SELF)
    one_sentence(failure.value, path)
