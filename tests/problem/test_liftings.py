"""Hard conditions: the ansatz by hand, and the distance to the facets of a boundary."""

import numpy as np
import pytest
import torch
from toys import derivative

from pescitrain.errors import ProblemError
from pescitrain.problem import Lifting
from pescitrain.problem.facet_distance import FacetDistance
from pescitrain.problem.liftings import from_boundary

X = torch.tensor([[0.2, 0.7], [-0.4, 0.1], [0.9, -0.3]], dtype=torch.float64)
x, y = X.unbind(-1)
NETWORK = torch.tensor([[1.0, 2.0, 4.0], [3.0, -1.0, 0.5], [0.0, 5.0, -2.0]], dtype=torch.float64)

SQUARE = np.array([[[0, 0], [1, 0]], [[1, 0], [1, 1]], [[1, 1], [0, 1]], [[0, 1], [0, 0]]], dtype=float)


def equal(one, other):
    torch.testing.assert_close(one, other, rtol=1e-14, atol=1e-15)


def test_a_plain_lifting_is_base_plus_factor_times_network():
    lifting = Lifting(lambda x: x, lambda x, y: 1 - x * y, ("rim",)).bind(("x", "y"), 1)
    equal(lifting(X, NETWORK[:, :1]), (x + (1 - x * y) * NETWORK[:, 0])[:, None])
    assert lifting.conditions == ("rim",)


def test_a_lifting_of_several_fields_has_one_function_each_and_takes_numbers():
    lifting = Lifting(lambda x: (x, 2.0), lambda y: [y, 1], ()).bind(("x", "y"), 2)
    equal(lifting.base(X), torch.stack([x, torch.full_like(x, 2.0)], -1))
    equal(lifting.factor(X), torch.stack([y, torch.ones_like(x)], -1))
    equal(lifting(X, NETWORK[:, :2]), torch.stack([x + y * NETWORK[:, 0], 2 + NETWORK[:, 1]], -1))


def test_a_lifting_with_outputs_mixes_them_into_fields():
    factor = Lifting(lambda: (0.5, 0.0), lambda x, y: ((x, y, 1.0), (0.0, x * y, 2.0)), (), outputs=3)
    lifting = factor.bind(("x", "y"), 2)
    first = 0.5 + x * NETWORK[:, 0] + y * NETWORK[:, 1] + NETWORK[:, 2]
    second = x * y * NETWORK[:, 1] + 2 * NETWORK[:, 2]
    assert lifting.factor(X).shape == (3, 6)
    equal(lifting(X, NETWORK), torch.stack([first, second], -1))


def test_one_output_may_serve_two_fields():
    lifting = Lifting(lambda: (0.0, 1.0), lambda x, y: ((x,), (y,)), (), outputs=1).bind(("x", "y"), 2)
    equal(lifting(X, NETWORK[:, :1]), torch.stack([x * NETWORK[:, 0], 1 + y * NETWORK[:, 0]], -1))


def test_a_wrong_number_of_functions_is_an_error():
    lifting = Lifting(lambda x: x, lambda x: (x, x, x), ()).bind(("x", "y"), 2)
    with pytest.raises(ProblemError, match="the base of the lifting gives 1 functions where 2 are needed"):
        lifting.base(X)
    with pytest.raises(ProblemError, match="the factor of the lifting gives 3 functions where 2 are needed"):
        lifting.factor(X)
    with pytest.raises(ProblemError, match="the base of the lifting asks for 'z'"):
        Lifting(lambda z: z, lambda x: x, ()).bind(("x", "y"), 1).base(X)


def along(facet, count=7):
    s = np.linspace(0.0, 1.0, count + 2)[1:-1, None]
    return torch.from_numpy(facet[0] + s * (facet[-1] - facet[0]))


def value_left(p):
    return 1.0 + p[:, 1] ** 2


def value_bottom(p):
    return torch.exp(p[:, 0])


def value_rest(p):
    return torch.full_like(p[:, 0], -2.0)


PIECES = [(SQUARE[3:], value_left), (SQUARE[:1], value_bottom), (SQUARE[1:3], value_rest)]


def test_a_lifting_from_a_boundary_meets_all_its_values():
    lifting = from_boundary(PIECES, ("left", "bottom", "rest"))
    bound = lifting.bind(("x", "y"), 1)
    assert lifting.conditions == ("left", "bottom", "rest")
    for facets, value in PIECES:
        for facet in facets:
            at = along(facet)
            network = torch.full((len(at), 1), 1e3, dtype=torch.float64)
            torch.testing.assert_close(bound(at, network)[:, 0], value(at), rtol=1e-12, atol=1e-12)
    inside = torch.tensor([[0.5, 0.5], [0.1, 0.8]], dtype=torch.float64)
    assert (bound.factor(inside) > 0.01).all()
    joined = FacetDistance(SQUARE)(inside)
    torch.testing.assert_close(bound.factor(inside)[:, 0], joined, rtol=1e-14, atol=0.0)


def test_the_base_is_the_transfinite_interpolation():
    at = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    d = torch.stack([FacetDistance(facets)(at) for facets, _ in PIECES])
    g = torch.stack([value(at) for _, value in PIECES])
    w = torch.stack([d[1] * d[2], d[0] * d[2], d[0] * d[1]])
    base = from_boundary(PIECES, ()).bind(("x", "y"), 1).base(at)[:, 0]
    torch.testing.assert_close(base, (w * g).sum(0) / w.sum(0), rtol=1e-14, atol=0.0)


def test_where_pieces_meet_the_base_is_the_mean_of_their_values():
    """Nodes of a mesh lie there, and the solution is written at nodes."""
    bound = from_boundary(PIECES[:2], ()).bind(("x", "y"), 1)
    corner = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(bound(corner, corner[:, :1]), torch.ones(1, 1, dtype=torch.float64))
    different = from_boundary([(SQUARE[3:], value_left), (SQUARE[:1], value_rest)], ()).bind(("x", "y"), 1)
    torch.testing.assert_close(different(corner, corner[:, :1]), torch.full((1, 1), -0.5, dtype=torch.float64))


def test_derivatives_of_a_lifting_from_a_boundary_are_finite_inside():
    bound = from_boundary(PIECES, ()).bind(("x", "y"), 1)
    at = torch.tensor([[0.5, 0.5], [0.01, 0.3], [0.7, 0.999]], dtype=torch.float64)
    for function in (bound.base, bound.factor):
        for component in ((0,), (0, 1), (1, 1)):
            values = torch.func.vmap(derivative(lambda p, f=function: f(p[None])[0], component))(at)
            assert torch.isfinite(values).all()
    slope = torch.func.vmap(derivative(lambda p: bound.base(p[None])[0], (0,)))(at)[:, 0]
    step = torch.tensor([[1e-6, 0.0]], dtype=torch.float64)
    difference = ((bound.base(at + step) - bound.base(at - step)) / 2e-6)[:, 0]
    torch.testing.assert_close(
        slope, difference, rtol=1e-6, atol=1e-6
    )  # central differences: h² f''' ≈ 1e-9, ε/h ≈ 1e-10
