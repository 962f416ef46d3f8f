"""Points in boxes and on their faces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box, Sampling
from pescitrain.geometry.box import apportion
from pescitrain.geometry.sampling import cube_to_simplex, hammersley, unit_points, van_der_corput

RANDOM_KINDS = ("uniform", "sobol", "halton", "latin")
KINDS = (*RANDOM_KINDS, "hammersley", "grid")
SPACE_TIME = Box(("x", "t"), (-1, 0), (1, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_points_lie_in_the_box_and_their_weights_sum_to_its_volume(kind, dimension):
    box = Box("xyz"[:dimension], [-1.0, 2.0, 0.0][:dimension], [1.0, 5.0, 0.5][:dimension])
    points = box.interior(None, Sampling(100, kind), seed=3)
    assert len(points) == {1: 100, 2: 100, 3: 64}[dimension] if kind == "grid" else len(points) == 100
    assert ((points.x >= box.lower) & (points.x <= box.upper)).all()
    assert points.measure == pytest.approx(box.measure, rel=1e-13)  # round-off of 100 equal terms


@pytest.mark.parametrize("kind", KINDS)
def test_points_fill_the_box_evenly(kind):
    x = SPACE_TIME.interior(None, Sampling(256, kind), seed=1).x
    quarters = np.histogram2d(x[:, 0], x[:, 1], bins=2, range=[[-1, 1], [0, 3]])[0]
    # 64 each; independent random numbers spread by sqrt(256 · 3/16) = 7, three times that is allowed
    assert np.abs(quarters - 64).max() <= (21 if kind == "uniform" else 16)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_the_seed_decides_the_points_and_faces_have_their_own(kind):
    sampling = Sampling(32, kind)
    first = SPACE_TIME.interior(None, sampling, seed=5).x
    assert_array_equal(first, SPACE_TIME.interior("interior", sampling, seed=5).x)
    assert not np.array_equal(first, SPACE_TIME.interior(None, sampling, seed=6).x)
    low, high = (SPACE_TIME.boundary(name, sampling, seed=5).x[:, 1] for name in ("x_min", "x_max"))
    assert not np.array_equal(low, high)


def test_hammersley_points_are_the_known_ones():
    expected = [[1 / 8, 0, 0], [3 / 8, 1 / 2, 1 / 3], [5 / 8, 1 / 4, 2 / 3], [7 / 8, 3 / 4, 1 / 9]]
    assert_allclose(hammersley(4, 3), expected, rtol=0, atol=1e-16)  # one rounding of each digit


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5, 7]))
def test_van_der_corput_mirrors_the_digits(index, base):
    value, scale, rest = 0.0, 1.0 / base, index
    while rest:
        value, scale, rest = value + scale * (rest % base), scale / base, rest // base
    assert van_der_corput(np.array([index]), base)[0] == pytest.approx(value, abs=1e-15)  # rounding of ≤ 20 digits


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_map_from_cube_to_simplex_keeps_the_measure(dimension):
    barycentric = cube_to_simplex(unit_points(4096, dimension, "sobol", 0, ""))
    assert_allclose(barycentric.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    assert barycentric.min() >= 0.0
    # First and second moments of the uniform density; 4096 Sobol points integrate smooth functions to about 1/4096.
    second = 2.0 / ((dimension + 1) * (dimension + 2))
    assert_allclose(barycentric.mean(axis=0), 1.0 / (dimension + 1), rtol=0, atol=1e-3)
    assert_allclose((barycentric**2).mean(axis=0), second, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_faces_are_where_their_names_say_with_outward_normals(kind):
    for axis, name in enumerate(SPACE_TIME.coordinates):
        for bound, side, sign in ((SPACE_TIME.lower, "min", -1.0), (SPACE_TIME.upper, "max", 1.0)):
            face = SPACE_TIME.boundary(f"{name}_{side}", Sampling(9, kind), seed=2)
            assert len(face) == 9
            assert (face.x[:, axis] == bound[axis]).all()
            assert face.normals is not None
            assert_array_equal(face.normals, np.tile(sign * np.eye(2)[axis], (9, 1)))
            assert face.measure == pytest.approx(SPACE_TIME.sides[1 - axis], rel=1e-14)


def test_the_boundary_shares_its_points_by_the_measure_of_its_faces():
    everything = SPACE_TIME.boundary("boundary", Sampling(100, "sobol"))
    assert everything.measure == pytest.approx(10.0, rel=1e-13)
    assert [np.count_nonzero(everything.x[:, 0] == x) for x in (-1, 1)] == [30, 30]
    assert [np.count_nonzero(everything.x[:, 1] == t) for t in (0, 3)] == [20, 20]
    assert_array_equal(everything.x, SPACE_TIME.boundary(None, Sampling(100, "sobol")).x)
    two = SPACE_TIME.boundary("x_min+t_min", Sampling(10, "sobol"))
    assert_array_equal(two.x, SPACE_TIME.boundary(("x_min", "t_min"), Sampling(10, "sobol")).x)
    assert np.count_nonzero(two.x[:, 0] == -1) == 6


def test_the_divergence_theorem_holds_for_a_linear_field():
    # Midpoint grids integrate linear functions exactly: round-off only.
    surface = SPACE_TIME.boundary("boundary", Sampling(100, "grid"))
    assert surface.normals is not None
    field = np.stack([2 * surface.x[:, 0] + surface.x[:, 1], -5 * surface.x[:, 1] + 1], axis=1)
    assert ((field * surface.normals).sum(axis=1) * surface.weights).sum() == pytest.approx(-3 * 6.0, rel=1e-13)


def test_an_interval_has_two_points_for_a_boundary():
    ends = Box(["x"], [0], [2]).boundary("boundary", Sampling(50, "uniform"))
    assert_array_equal(ends.x, [[0.0], [2.0]])
    assert_array_equal(ends.weights, [1.0, 1.0])
    assert ends.normals is not None
    assert_array_equal(ends.normals, [[-1.0], [1.0]])


def test_the_closed_grid_holds_its_ends_in_c_order():
    grid = SPACE_TIME.grid((3, 2))
    assert_array_equal(grid, [[-1, 0], [-1, 3], [0, 0], [0, 3], [1, 0], [1, 3]])
    assert_array_equal(SPACE_TIME.grid(2), [[-1, 0], [-1, 3], [1, 0], [1, 3]])
    with pytest.raises(ProblemError, match="2 numbers"):
        SPACE_TIME.grid((3, 2, 2))


def test_a_coordinate_may_be_called_like_a_face():
    box = Box(["a_max", "a"], [0, 0], [1, 2])
    assert (box.boundary("a_max_min", Sampling(4, "uniform")).x[:, 0] == 0).all()
    assert (box.boundary("a_max", Sampling(4, "uniform")).x[:, 1] == 2).all()


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.integers(0, 200))
def test_points_are_apportioned_without_loss(measures, extra):
    count = len(measures) + extra
    counts = apportion(count, measures)
    assert sum(counts) == count
    assert min(counts) >= 1


def test_too_few_points_for_the_faces_are_refused():
    with pytest.raises(ProblemError, match="3 points cannot cover 4 faces"):
        SPACE_TIME.boundary("boundary", Sampling(3, "uniform"))


def test_quadrature_needs_a_mesh():
    with pytest.raises(ProblemError, match="needs a mesh"):
        SPACE_TIME.interior(None, Sampling())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("x", "t"), (0,), (1, 1)), "as many"),
        ((("x", "x"), (0, 0), (1, 1)), "distinct"),
        ((("x",), (1,), (1,)), "exceed"),
        ((("x",), (0,), (np.inf,)), "exceed"),
        (((), (), ()), "one or more"),
    ],
)
def test_an_impossible_box_is_refused(arguments, message):
    with pytest.raises(ProblemError, match=message):
        Box(*arguments)


def test_the_weights_of_a_grid_are_the_trapezoidal_rule():
    box = Box(("x", "y", "t"), (0.0, -1.0, 2.0), (1.0, 1.0, 5.0))
    x, w = box.grid((3, 5, 2)), box.grid_weights((3, 5, 2))
    assert w.shape == (30,)
    # Exact for products of linear functions: ∫ (1 + x)(2 − y) t = 3/2 · 4 · 21/2.
    assert w @ ((1 + x[:, 0]) * (2 - x[:, 1]) * x[:, 2]) == pytest.approx(63.0, rel=1e-14)
    # ∫ y² by 5 points on (-1, 1): h (1/2 + 1/4 + 0 + 1/4 + 1/2) = 3/4, times the other sides 1 and 3.
    assert w @ x[:, 1] ** 2 == pytest.approx(2.25, rel=1e-14)
