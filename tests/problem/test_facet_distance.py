"""The distance function of a boundary, against its definition as an integral and what it must do on the boundary."""

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad

from pescitrain.errors import ProblemError
from pescitrain.problem.facet_distance import FACETS_AT_A_TIME, FacetDistance

SQUARE = np.array([[[0, 0], [1, 0]], [[1, 0], [1, 1]], [[1, 1], [0, 1]], [[0, 1], [0, 0]]], dtype=float)
INWARDS = np.array([[0, 1], [-1, 0], [0, -1], [1, 0]], dtype=float)
CUBE = np.array(
    [
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]],
        [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]],
        [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]],
        [[0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]],
        [[0, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]],
        [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]],
    ],
    dtype=float,
)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def along(facet, count=7):
    s = np.linspace(0.0, 1.0, count + 2)[1:-1, None]
    return torch.from_numpy(facet[0] + s * (facet[-1] - facet[0]))


def test_in_the_plane_it_is_the_integral_of_the_inverse_square_distance():
    at = np.array([0.3, 0.7])
    total = 0.0
    for start, end in SQUARE:
        point = lambda s, a=start, b=end: a + s * (b - a)  # noqa: E731
        total += quad(lambda s, p=point: 1.0 / np.sum((at - p(s)) ** 2), 0.0, 1.0, epsabs=1e-13)[0]
    measured = float(FacetDistance(SQUARE)(tensor(at[None])))
    assert measured == pytest.approx(np.pi / total, rel=1e-12)  # the accuracy of the quadrature


def test_in_space_it_is_the_integral_of_the_inverse_cubed_distance():
    at = np.array([0.3, 0.6, 0.2])
    total = 0.0
    for origin, first, _, second in CUBE:
        u, v = first - origin, second - origin

        def inverse(s, t, o=origin, u=u, v=v):
            return float(np.sum((at - o - s * u - t * v) ** 2) ** -1.5)

        total += dblquad(inverse, 0.0, 1.0, 0.0, 1.0, epsabs=1e-11)[0]
    # Half the solid angle over the height, π for a whole plane: 2π over the integral.
    measured = float(FacetDistance(CUBE)(tensor(at[None])))
    assert measured == pytest.approx(2 * np.pi / total, rel=1e-9)


def test_in_one_dimension_the_inverse_distances_add():
    distance = FacetDistance(np.array([[[0.0]], [[1.0]]]))
    torch.testing.assert_close(distance(tensor([[0.0], [0.25], [1.0]])), tensor([0.0, 0.1875, 0.0]))


def test_it_is_zero_on_the_facets_and_at_their_ends_and_positive_elsewhere():
    distance = FacetDistance(SQUARE)
    for facet in SQUARE:
        assert float(distance(along(facet)).abs().max()) < 1e-15
        assert float(distance(torch.from_numpy(facet)).abs().max()) == 0.0
    assert float(FacetDistance(CUBE)(torch.from_numpy(CUBE.reshape(-1, 3))).abs().max()) == 0.0
    inside = torch.rand(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    assert float(distance(inside).min()) > 1e-3
    assert float(distance(inside + 2.0).min()) > 1e-3


def test_it_has_unit_slope_on_the_facets():
    distance = FacetDistance(SQUARE)
    for facet, normal in zip(SQUARE, INWARDS, strict=True):
        near = along(facet) + 1e-6 * torch.from_numpy(normal)
        # Quadratic terms of size 10 within 1e-6 of the facet; tangential slopes are of the size of the distance.
        torch.testing.assert_close(distance(near), torch.full((7,), 1e-6, dtype=torch.float64), rtol=2e-5, atol=0.0)
        slope = torch.func.vmap(torch.func.grad(lambda p: distance(p[None])[0]))(near)
        torch.testing.assert_close(slope, torch.from_numpy(normal).expand(7, 2), rtol=0.0, atol=5e-5)
    above = tensor([[0.4, 0.3, 1e-6]])
    assert float(FacetDistance(CUBE)(above)) == pytest.approx(1e-6, rel=2e-5)


def test_it_does_not_see_where_a_boundary_is_cut():
    cuts = np.linspace(0.0, 1.0, 3 * FACETS_AT_A_TIME)[:, None]
    fine = np.concatenate([np.stack([a + cuts[:-1] * (b - a), a + cuts[1:] * (b - a)], axis=1) for a, b in SQUARE])
    at = tensor([[0.5, 0.5], [0.2, 0.9], [0.7, 1e-3]])
    torch.testing.assert_close(FacetDistance(fine)(at), FacetDistance(SQUARE)(at), rtol=1e-10, atol=0.0)
    triangles = np.concatenate([CUBE[:, [1, 2, 3]], CUBE[:, [1, 3, 0]]])
    repeated = np.concatenate([triangles, triangles[:, [0]]], axis=1)  # triangles among quadrilaterals
    at = tensor([[0.5, 0.4, 0.3], [0.1, 0.9, 0.05]])
    for other in (triangles, repeated):
        torch.testing.assert_close(FacetDistance(other)(at), FacetDistance(CUBE)(at), rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("offset", [0.0, 1e-9, 1e-4, 5e-3, 9.9e-3, 1.01e-2, 0.05])
def test_it_is_smooth_across_the_line_of_a_facet_beside_it(offset):
    """At (2, h) the segment from 0 to 1 is seen under atan(h / (h² + 2)); ω/h has a removable singularity."""
    distance = FacetDistance(np.array([[[0.0, 0.0], [1.0, 0.0]]]))
    at = tensor([2.0, offset])
    value = distance(at[None])[0]
    limit = np.arctan2(offset, offset**2 + 2.0) / offset if offset else 0.5
    assert float(value) == pytest.approx(np.pi / limit, rel=1e-13)
    second = torch.func.hessian(lambda p: distance(p[None])[0])(at)
    # Expanded in h: ω/h = 1/2 − (7/24) h² + O(h⁴), so φ = 2π (1 + (7/12) h² + …), φ'' = 7π/3 at h = 0.
    assert float(second[1, 1]) == pytest.approx(7 * np.pi / 3, rel=1e-9 if offset < 1e-8 else 2e-2)


def test_its_second_derivatives_are_bounded_near_a_polygon():
    """A circle of 72 segments: one cell away from it the Laplacian is that of the circle, within half of it."""
    turn = 2 * np.pi * np.arange(73) / 72
    circle = 0.4 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    distance = FacetDistance(np.stack([circle[:-1], circle[1:]], axis=1))
    angles = torch.linspace(0.0, 6.28, 50, dtype=torch.float64)
    ring = 0.415 * torch.stack([angles.cos(), angles.sin()], dim=1)
    laplacian = torch.func.vmap(lambda p: torch.func.hessian(lambda q: distance(q[None])[0])(p).trace())(ring)
    # Of the circle itself φ = (ρ² − R²)/(2R), Laplacian 2/R = 5.
    assert float((laplacian - 5.0).abs().max()) < 1.0


def test_points_of_a_curved_facet_between_its_ends_do_not_count():
    with_middle = np.array([[[0.0, 0.0], [0.5, 0.0], [1.0, 0.0]]])
    at = tensor([[0.3, 0.4]])
    assert torch.equal(FacetDistance(with_middle)(at), FacetDistance(with_middle[:, ::2])(at))


def test_other_arrays_are_refused():
    for shape in ((3, 2), (1, 3, 4)):
        with pytest.raises(ProblemError, match=r"\(F, vertices, d\)"):
            FacetDistance(np.zeros(shape))
