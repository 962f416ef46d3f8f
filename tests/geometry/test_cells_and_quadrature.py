"""The table of cell types, and the rules on the reference cells."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.geometry import CELL_TYPES, CellType, quadrature_rule
from pescitrain.geometry.cells import first_order_type
from pescitrain.geometry.integration import Block, area_vector, map_reference, signed_measures

SOLID = [cell for cell in CELL_TYPES.values() if cell.dimension > 0]


def exact_integral(cell: CellType, powers: tuple[int, ...]) -> float:
    """∫ Π x_k^p_k over the reference cell: the Dirichlet integral on simplices, Π 1/(p_k + 1) on cubes."""
    if cell.is_simplex:
        return math.prod(map(math.factorial, powers)) / math.factorial(sum(powers) + cell.dimension)
    return math.prod(1.0 / (power + 1) for power in powers)


@pytest.mark.parametrize("order", range(9))
@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_rules_are_exact_for_all_monomials_up_to_their_order(cell, order):
    points, weights = quadrature_rule(cell, order)
    for powers in itertools.product(range(order + 1), repeat=cell.dimension):
        if sum(powers) <= order or not cell.is_simplex:
            integral = weights @ np.prod(points ** np.array(powers), axis=1)
            assert integral == pytest.approx(exact_integral(cell, powers), rel=1e-13)  # round-off of the nodes


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_rules_are_not_exact_far_beyond_their_order(cell):
    points, weights = quadrature_rule(cell, 3)
    assert abs(weights @ points[:, 0] ** 6 - exact_integral(cell, (6,) + (0,) * (cell.dimension - 1))) > 1e-6


@pytest.mark.parametrize("order", range(9))
@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_weights_are_positive_and_points_inside(cell, order):
    points, weights = quadrature_rule(cell, order)
    assert weights.min() > 0
    assert cell.depth(points).min() > 0


def test_rules_are_shared_and_cannot_be_changed():
    points, _ = quadrature_rule(CELL_TYPES["quad"], 2)
    with pytest.raises(ValueError, match="read-only"):
        points[0, 0] = 1.0


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_shape_functions_are_one_at_their_vertex_and_their_gradient_is_their_derivative(cell):
    corners = np.array(cell.corners, dtype=float)
    assert_array_equal(cell.shape(corners), np.eye(cell.vertex_count))
    x = np.random.default_rng(0).random((5, cell.dimension))
    for axis, step in enumerate(np.eye(cell.dimension)):
        difference = cell.shape(x + 0.5 * step) - cell.shape(x - 0.5 * step)  # exact: linear in each coordinate
        assert_allclose(cell.shape_gradient(x)[..., axis], difference, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", [c for c in SOLID if c.dimension > 1], ids=lambda cell: cell.name)
def test_facets_are_listed_outward(cell):
    corners = np.array(cell.corners, dtype=float)
    kind = CELL_TYPES["line"] if cell.dimension == 2 else None
    for facet in cell.facets:
        face = kind or CELL_TYPES["triangle" if len(facet) == 3 else "quad"]
        block = Block(face, np.array([facet]), np.zeros(1, dtype=np.int64))
        centre, derivative = map_reference(corners, block, np.full((1, face.dimension), 0.3))
        assert area_vector(derivative)[0, 0] @ (centre[0, 0] - corners.mean(axis=0)) > 0


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_simplices_fill_the_cell_and_mirroring_turns_it(cell):
    corners = np.array(cell.corners, dtype=float)
    owner = np.zeros(1, dtype=np.int64)
    simplex = next(other for other in SOLID if other.is_simplex and other.dimension == cell.dimension)
    parts = signed_measures(corners, Block(simplex, np.array(cell.simplices), owner))
    whole = signed_measures(corners, Block(cell, np.arange(cell.vertex_count)[None], owner))[0]
    assert parts.min() > 0
    assert parts.sum() == pytest.approx(whole, rel=1e-14)
    assert signed_measures(corners, Block(cell, np.array([cell.mirror]), owner))[0] == pytest.approx(-whole, rel=1e-14)


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_clamping_leaves_the_inside_alone_and_brings_the_outside_in(cell):
    inside = quadrature_rule(cell, 3)[0]
    assert_array_equal(cell.clamp(inside), inside)
    outside = np.random.default_rng(1).uniform(-3, 3, (50, cell.dimension))
    assert cell.depth(cell.clamp(outside)).min() > -1e-15  # one rounding of the division


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_a_bubble_is_one_in_the_middle_of_its_edge_and_zero_at_the_other_nodes(cell):
    corners = np.array(cell.corners, dtype=float)
    middles = corners[np.array(cell.edges)].mean(axis=1)
    assert_array_equal(cell.bubbles(middles), np.eye(len(cell.edges)))
    assert_array_equal(cell.bubbles(corners), 0.0)


@pytest.mark.parametrize("cell", SOLID, ids=lambda cell: cell.name)
def test_gradients_of_bubbles_are_their_differences(cell):
    x = np.random.default_rng(0).random((6, cell.dimension)) / cell.dimension
    for axis, step in enumerate(1e-5 * np.eye(cell.dimension)):
        difference = (cell.bubbles(x + step) - cell.bubbles(x - step)) / 2e-5
        # Quadratic in each coordinate: central differences are exact but for round-off, 1e-16 / 1e-5.
        assert_allclose(cell.bubble_gradient(x)[..., axis], difference, rtol=0, atol=1e-10)


def test_higher_order_names_are_known_by_their_vertices():
    assert first_order_type("triangle6") is CELL_TYPES["triangle"]
    assert first_order_type("hexahedron27") is CELL_TYPES["hexahedron"]
    assert first_order_type("wedge") is None
    assert first_order_type("polygon5") is None
