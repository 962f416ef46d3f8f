"""Meshes of second order: integrals, normals, sampling and location in cells with bent edges."""

import numpy as np
import pytest
from geometry.shapes import bend, bent_grid, named, unit_grid, unit_mesh  # pyright: ignore[reportMissingImports]
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.errors import MeshError
from pescitrain.geometry import CELL_TYPES, Mesh, Sampling

KINDS = ("triangle", "quad", "mixed", "tetra", "hexahedron")
by_kind = pytest.mark.parametrize("kind", KINDS)


def bent_mesh(kind: str, n: int = 2) -> Mesh:
    points, cells, middles = bent_grid(kind, n)
    return Mesh(points, cells, *named(unit_grid(kind, n)[0], cells), middles=middles)


def density(x: np.ndarray) -> np.ndarray:
    """The determinant of the derivative of ``bend``, by complex steps."""
    dimension = x.shape[1]
    steps = 1e-200j * np.eye(dimension)
    return np.linalg.det(np.stack([bend(x + step).imag / 1e-200 for step in steps], axis=-1))


@by_kind
def test_the_divergence_theorem_holds(kind):
    mesh = bent_mesh(kind)
    surface, inside = mesh.boundary(None, Sampling(order=10)), mesh.interior(None, Sampling(order=10))
    assert surface.normals is not None
    # ∇·(x·x, …) = 2 Σ x: polynomials of degree 2 under a quadratic map, times a Jacobian of degree 3 or less.
    flux = ((surface.x**2) * surface.normals).sum(axis=1) @ surface.weights
    assert flux == pytest.approx(2.0 * inside.x.sum(axis=1) @ inside.weights, rel=1e-13)
    assert_allclose(np.linalg.norm(surface.normals, axis=1), 1.0, rtol=1e-14)


@by_kind
def test_measures_are_those_of_a_quadratic_image_of_the_cube(kind):
    straight = unit_mesh(kind).interior(None, Sampling(order=6))
    mesh = bent_mesh(kind)
    exact = float(density(straight.x) @ straight.weights)
    assert abs(exact - 1.0) > 5e-4
    assert mesh.measure() == pytest.approx(exact, rel=1e-13)
    assert mesh.measure("east") + mesh.measure("west") == pytest.approx(exact, rel=1e-13)
    assert mesh.interior(None, Sampling(100, "latin")).measure == pytest.approx(exact, rel=1e-13)


@by_kind
def test_points_on_faces_are_images_of_points_on_faces(kind):
    """``bend`` moves the face x_i = 0 to where its inverse says x_i = 0."""
    mesh = bent_mesh(kind)
    for sampling in (Sampling(order=3), Sampling(200, "latin")):
        for axis, name in enumerate(("x_min", "y_min", "z_min")[: mesh.dimension]):
            points = mesh.boundary(name, sampling)
            assert points.normals is not None
            unbent = points.x.copy()
            for _ in range(60):  # a fixed point: ``bend`` is near the identity
                unbent += points.x - bend(unbent)
            assert_allclose(unbent[:, axis], 0.0, rtol=0, atol=1e-14)
            # The normal is D⁻ᵀ times that of the straight face.
            steps = 1e-200j * np.eye(mesh.dimension)
            derivative = np.stack([bend(unbent + step).imag / 1e-200 for step in steps], axis=-1)
            normal = -np.linalg.inv(derivative)[:, axis]
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            assert_allclose(points.normals, normal, rtol=0, atol=1e-13)


@by_kind
def test_points_are_found_in_their_cells(kind):
    mesh = bent_mesh(kind, 4)
    for sampling in (Sampling(order=4), Sampling(500, "uniform")):
        points = mesh.interior(None, sampling)
        assert_array_equal(mesh.locate(points.x), points.cells)
    surface = mesh.boundary(None, Sampling(order=4))
    assert (mesh.locate(surface.x - 1e-6 * surface.normals) >= 0).all()
    assert (mesh.locate(surface.x + 1e-6 * surface.normals) < 0).all()


@by_kind
def test_straight_cells_of_second_order_are_those_of_first(kind):
    points, cells = unit_grid(kind)
    _, _, middles = bent_grid(kind)
    straight = np.empty((max(rows.max() for rows in middles.values()) + 1, points.shape[1]))
    straight[: len(points)] = points
    for name, rows in cells.items():
        straight[middles[name]] = points[rows[:, CELL_TYPES[name].edges]].mean(axis=2)
    mesh, first = Mesh(straight, cells, middles=middles), Mesh(points, cells)
    assert len(mesh.bends) == 0
    for sampling in (Sampling(order=3), Sampling(50, "latin")):
        assert_array_equal(mesh.interior(None, sampling).x, first.interior(None, sampling).x)
        assert_array_equal(mesh.boundary(None, sampling).normals, first.boundary(None, sampling).normals)


def test_a_box_holds_what_bulges_out_of_the_vertices():
    angles = np.pi / 4 * np.array([1, 3, 5, 7, 2, 4, 6, 8])
    rim = np.column_stack([np.cos(angles), np.sin(angles)])
    nodes = np.concatenate([rim, np.zeros((1, 2)), rim[:4] / 2])
    cells = {"triangle": np.array([[8, 0, 1], [8, 1, 2], [8, 2, 3], [8, 3, 0]])}
    disc = Mesh(nodes, cells, middles={"triangle": np.array([[9, 4, 10], [10, 5, 11], [11, 6, 12], [12, 7, 9]])})
    assert disc.is_curved() and disc.is_curved("boundary")
    lower, upper = disc.box
    x = disc.boundary(None, Sampling(order=9)).x
    assert (x > lower).all() and (x < upper).all() and np.abs(x).max() > 0.95 > np.abs(disc.nodes).max()
    # Two thirds of chord √2 times sagitta 1 - √½, four times, on a square of area 2.
    assert disc.measure() == pytest.approx(2 + 4 * 2 / 3 * np.sqrt(2) * (1 - np.sqrt(0.5)), rel=1e-14)


@by_kind
def test_cells_are_measured_and_found_a_few_at_a_time(kind, monkeypatch):
    whole = bent_mesh(kind)
    expected = whole.cell_measures, whole.locator.reach
    monkeypatch.setattr("pescitrain.geometry.maps.CELLS_AT_A_TIME", 3)
    parts = bent_mesh(kind)
    assert_allclose(parts.cell_measures, expected[0], rtol=1e-14)
    assert_array_equal(parts.locator.reach, expected[1])


def test_a_straight_mesh_has_the_box_of_its_nodes():
    mesh = unit_mesh("tetra")
    assert_array_equal(mesh.box, [[0, 0, 0], [1, 1, 1]])
    assert not mesh.is_curved()


def test_an_edge_bent_through_its_cell_is_refused():
    nodes = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.9], [0.5, 0.5], [0.0, 0.5]])
    with pytest.raises(MeshError, match=r"1 of its triangle cells have a folded shape, .*; optimise its curved cells"):
        Mesh(nodes, {"triangle": [[0, 1, 2]]}, middles={"triangle": [[3, 4, 5]]})
