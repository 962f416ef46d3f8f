"""Reference fields: exact at nodes, linear between them, with the names of the file."""

import meshio
import numpy as np
import pytest
from geometry.shapes import KINDS, unit_grid, unit_mesh  # pyright: ignore[reportMissingImports]
from mpi4py import MPI
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.errors import MeshError
from pescitrain.geometry import ReferenceField, Sampling

SELF = MPI.COMM_SELF


def linear(x: np.ndarray) -> np.ndarray:
    return 1.0 + x @ np.arange(1.0, x.shape[1] + 1)


def in_space(nodes: np.ndarray) -> np.ndarray:
    points = np.zeros((len(nodes), 3))
    points[:, : nodes.shape[1]] = nodes
    return points


def write(path, kind: str, data, n: int = 2):
    nodes, cells = unit_grid(kind, n)
    meshio.Mesh(in_space(nodes), cells, point_data=data(nodes)).write(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_nodes_have_the_value_of_the_file_and_linear_functions_are_exact_between(tmp_path, kind):
    path = write(tmp_path / "u.vtu", kind, lambda x: {"u": np.sin(9 * linear(x)), "v": linear(x)})
    mesh = unit_mesh(kind, 4)
    field = ReferenceField.read(path, mesh, ("v", "u"), SELF)
    assert field.fields == ("v", "u")
    nodes, _ = unit_grid(kind)
    nearly = nodes + 1e-11  # closer than 1e-9 of the size is the node itself
    assert_array_equal(field(nearly), np.stack([linear(nodes), np.sin(9 * linear(nodes))], axis=1))
    x = mesh.interior(None, Sampling(order=4)).x
    assert_allclose(field(x)[:, 0], linear(x), rtol=1e-13)  # round-off of the inverse map
    x = mesh.boundary(None, Sampling(order=3)).x
    assert_allclose(field(x)[:, 0], linear(x), rtol=1e-13)


def test_points_slightly_outside_are_extrapolated_and_far_ones_refused(tmp_path):
    field = ReferenceField.read(write(tmp_path / "u.vtu", "triangle", lambda x: {"u": linear(x)}), None, ["u"], SELF)
    near = np.array([[0.3, -0.01], [1.02, 1.01], [0.4, 0.4]])
    assert_allclose(field(near)[:, 0], linear(near), rtol=1e-13)
    with pytest.raises(MeshError, match=r"1 points lie outside .*the first at \(0.3, -0.2\)"):
        field([[0.3, -0.2], [0.5, 0.5]])
    with pytest.raises(MeshError, match="1 points lie outside"):
        field([[1e9, 0.0]])


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"ux": 0, "uy": 1}, ("ux", "uy")),
        ({"u": (0, 1, 2), "stress": (2, 2, 2)}, ("ux", "uy")),
        ({"displacement": (0, 1, 2), "stress": (2, 2, 2)}, ("ux", "uy")),
        ({"velocity": (0, 1, 2), "p": 2}, ("u", "v")),
        ({"solution": (0, 1, 2), "p": 2}, ("u", "v")),
        ({"w": (0, 1, 2), "v": (2, 2, 2)}, ("w_1", "w_2")),
        ({"u": (0, 1, 2), "p": 1}, ("ux", "uy")),
    ],
)
def test_fields_find_their_arrays(tmp_path, data, fields):
    def arrays(x):
        columns = np.column_stack([np.cos(x[:, 0]), np.sin(x[:, 1]), x[:, 0] * 0])
        return {name: columns[:, which if isinstance(which, int) else list(which)] for name, which in data.items()}

    field = ReferenceField.read(write(tmp_path / "u.vtu", "triangle", arrays), None, fields, SELF)
    nodes, _ = unit_grid("triangle")
    assert_array_equal(field(nodes), np.column_stack([np.cos(nodes[:, 0]), np.sin(nodes[:, 1])]))


def test_scalars_and_components_mix_in_the_order_of_the_fields(tmp_path):
    path = write(tmp_path / "u.vtu", "triangle", lambda x: {"u": np.column_stack([x, 0 * x[:, 0]]), "p": linear(x)})
    nodes, _ = unit_grid("triangle")
    field = ReferenceField.read(path, None, ("ux", "p", "uy"), SELF)
    assert_array_equal(field(nodes), np.column_stack([nodes[:, 0], linear(nodes), nodes[:, 1]]))


def test_components_follow_the_plane_of_the_mesh(tmp_path):
    nodes, cells = unit_grid("triangle")
    points = np.column_stack([nodes[:, 0], np.full(len(nodes), 2.0), nodes[:, 1]])
    vectors = np.column_stack([nodes[:, 0], np.full(len(nodes), 9.0), 3 * nodes[:, 1]])
    meshio.Mesh(points, cells, point_data={"u": vectors}).write(tmp_path / "u.vtu")
    field = ReferenceField.read(tmp_path / "u.vtu", None, ("ux", "uz"), SELF)
    assert_array_equal(field(nodes), nodes * [1, 3])


def test_a_single_field_may_be_the_only_array(tmp_path):
    path = write(tmp_path / "u.vtu", "triangle", lambda x: {"temperature": linear(x)})
    nodes, _ = unit_grid("triangle")
    assert_array_equal(ReferenceField.read(path, None, ("T",), SELF)(nodes)[:, 0], linear(nodes))


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        ({"a": 1, "b": 1}, ("u",), "no field u; its arrays are a, b"),
        ({"u": 3}, ("u",), "no field u; its arrays are u"),
        ({"a": 1}, ("u", "v"), "no field u, v; its arrays are a"),
        ({"a": 3, "b": 3}, ("u", "v"), "no field u, v; its arrays are a, b"),
        ({}, ("u",), "its arrays are none"),
    ],
)
def test_a_field_that_is_not_there_is_an_error_with_the_names_there_are(tmp_path, data, fields, message):
    path = write(tmp_path / "u.vtu", "triangle", lambda x: {n: np.ones((len(x), k)) for n, k in data.items()})
    with pytest.raises(MeshError, match=message):
        ReferenceField.read(path, None, fields, SELF)


def test_another_dimension_and_values_that_are_not_finite_are_refused(tmp_path):
    path = write(tmp_path / "u.vtu", "triangle", lambda x: {"u": linear(x)})
    with pytest.raises(MeshError, match="2-dimensional and the mesh of the problem 3-dimensional"):
        ReferenceField.read(path, unit_mesh("tetra"), ("u",), SELF)
    path = write(tmp_path / "nan.vtu", "triangle", lambda x: {"u": np.where(x[:, 0] > 0.5, np.nan, 1.0)})
    with pytest.raises(MeshError, match="not finite"):
        ReferenceField.read(path, None, ("u",), SELF)


def test_midside_nodes_keep_their_values(tmp_path):
    points = np.array([[0.5, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]])
    values = np.array([30.0, 40, 50, 0, 1, 2])
    cell = np.array([[3, 4, 5, 0, 1, 2]])
    meshio.Mesh(points, [("triangle6", cell)], point_data={"u": values}).write(tmp_path / "u.vtu")
    field = ReferenceField.read(tmp_path / "u.vtu", None, ("u",), SELF)
    assert_array_equal(field(points[:, :2])[:, 0], values)
    assert field([[0.25, 0.25]])[0, 0] == pytest.approx(0.75, rel=1e-14)  # linear between the vertices
