"""Finding the cell of a point."""

import numpy as np
import pytest
from geometry.shapes import KINDS, unit_grid, unit_mesh  # pyright: ignore[reportMissingImports]
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.geometry import Mesh, Sampling


@pytest.mark.parametrize("kind", KINDS)
def test_quadrature_points_are_found_in_their_cells(kind):
    mesh = unit_mesh(kind, 4, distortion=0.15)
    points = mesh.interior(None, Sampling(order=4))
    assert_array_equal(mesh.locate(points.x), points.cells)


@pytest.mark.parametrize("kind", KINDS)
def test_points_on_facets_and_nodes_are_found(kind):
    mesh = unit_mesh(kind, 4, distortion=0.15)
    facets = mesh.facets.vertices
    centres = np.stack([mesh.nodes[row[row >= 0]].mean(axis=0) for row in facets])
    if kind != "hexahedron":  # the faces of distorted cubes are curved, and the mean of four vertices still on them
        assert (mesh.locate(centres[mesh.facets.outer]) >= 0).all()
    inner = np.flatnonzero(mesh.facets.cells[:, 1] >= 0)
    found = mesh.locate(centres[inner])
    assert (found[:, None] == mesh.facets.cells[inner]).any(axis=1).all()
    assert (mesh.locate(mesh.nodes) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_points_outside_have_no_cell(kind):
    mesh = unit_mesh(kind)
    outside = np.full((4, mesh.dimension), 0.5)
    outside[:, 0] = [-1e-6, 1 + 1e-6, 50.0, np.nan]
    assert_array_equal(mesh.locate(outside), -1)
    outside[:, 0] = [1e-6, 1 - 1e-6, 0.3, 0.7]
    assert (mesh.locate(outside) >= 0).all()


@given(st.floats(1.0, 6.0), st.integers(0, 1000))
def test_strongly_graded_meshes_are_searched_until_the_cell_is_found(power, seed):
    nodes, cells = unit_grid("quad", 8)
    mesh = Mesh(np.column_stack([nodes[:, 0] ** power, nodes[:, 1]]), cells)
    x = np.random.default_rng(seed).random((50, 2))
    found = mesh.locate(x)
    low, high = (mesh.nodes[mesh.cells["quad"][found]][:, corner] for corner in (0, 2))
    assert (found >= 0).all()
    assert ((x >= low - 1e-9) & (x <= high + 1e-9)).all()


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_a_mesh_far_from_the_origin_is_searched_as_well(shift):
    nodes, cells = unit_grid("triangle", 8)
    mesh = Mesh(nodes + shift, cells)
    assert (mesh.locate(mesh.nodes) >= 0).all()
    assert (mesh.locate(mesh.boundary(None, Sampling(order=5)).x) >= 0).all()


def test_the_closest_cell_and_the_distance_to_it():
    mesh = unit_mesh("quad")
    places, distance = mesh.locator.closest(np.array([[1.25, 0.75], [0.25, -0.5]]))
    assert_allclose(distance, [0.25, 0.5], rtol=1e-14)
    assert_array_equal(places.cells, mesh.locate(np.array([[0.9, 0.75], [0.25, 0.1]])))


def test_the_size_is_the_longest_diameter():
    assert unit_mesh("quad").size == pytest.approx(np.sqrt(0.5), rel=1e-15)
    assert unit_mesh("hexahedron").size == pytest.approx(np.sqrt(0.75), rel=1e-15)
