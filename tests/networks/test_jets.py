"""The Taylor mode: jets through activations, affine maps and products, against nested differentiation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import derivative

from pescitrain.networks import ACTIVATIONS, Components, Laplacian
from pescitrain.networks.jets import activate, affine, divide, jet_of_fixed_function, jet_of_function, multiply, seed

PLAIN = {"tanh": torch.tanh, "sin": torch.sin, "gelu": torch.nn.functional.gelu, "identity": lambda z: z}
EVERYTHING = Components.closed([(0, 0, 1, 1), (0, 0, 0, 0), (0, 1, 2), (2,), Laplacian((0, 1, 2)), Laplacian((0, 1))])

partials = st.lists(st.integers(0, 2), max_size=4).map(lambda axes: tuple(sorted(axes)))
laplacians = st.sets(st.integers(0, 2), min_size=1).map(lambda axes: Laplacian(tuple(sorted(axes))))
sets_of_components = st.lists(partials | laplacians, max_size=3).map(Components.closed)

# Round-off of fourth derivatives, whose terms are up to 1e2 times the result.
TOLERANCE = {"rtol": 1e-11, "atol": 1e-11}


def points(count=3, dimension=3):
    return torch.rand(count, dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.4


def inner(x):
    """(M, 3) -> (M, 2), with no derivative that vanishes up to order four."""
    x, y, z = x.unbind(-1)
    return torch.stack((torch.exp(0.5 * x - y) * torch.sin(z + 1), torch.cos(x * y + z) + 0.3 * x**4), dim=-1)


def jet_by_reverse_mode(function, x, components):
    """The jet (C, k, M) of a function of many points, point by point."""

    def at_point(point):
        return function(point[None])[0]

    return torch.stack([torch.func.vmap(derivative(at_point, c))(x).expand(len(x), -1).T for c in components])


@pytest.mark.parametrize("jet_of", [jet_of_function, jet_of_fixed_function])
@pytest.mark.parametrize("components", [EVERYTHING, Components.closed([]), Components.closed([(1,)])])
def test_the_jet_of_a_function_is_its_nested_derivatives(components, jet_of):
    x = points()
    torch.testing.assert_close(jet_of(inner, x, components), jet_by_reverse_mode(inner, x, components), **TOLERANCE)


def test_the_jet_of_a_fixed_function_is_finite_where_reverse_mode_is_not():
    def root(x):
        return torch.where(x[:, :1] > 0.0, x[:, :1] ** 0.5, 3.0 * x[:, :1])

    x = torch.tensor([[0.0, 1.0, 1.0], [4.0, 1.0, 1.0]], dtype=torch.float64)
    jet = jet_of_fixed_function(root, x, Components.closed([(0,)]))
    torch.testing.assert_close(jet[:, 0], torch.tensor([[0.0, 2.0], [3.0, 0.25]], dtype=torch.float64))
    assert not jet.requires_grad


@pytest.mark.parametrize("jet_of", [jet_of_function, jet_of_fixed_function])
def test_the_jet_of_a_function_that_is_constant_has_zero_derivatives(jet_of):
    jet = jet_of(lambda x: torch.full_like(x[:, :1], 2.0), points(), EVERYTHING)
    assert torch.equal(jet[0], torch.full((1, 3), 2.0, dtype=torch.float64))
    assert not jet[1:].any()


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(components=sets_of_components)
@settings(max_examples=25)
def test_an_activation_of_a_jet_follows_the_chain_rule(name, components):
    x = points(2)
    jet = activate(jet_of_function(inner, x, components), components, ACTIVATIONS[name])
    expected = jet_by_reverse_mode(lambda y: PLAIN[name](inner(y)), x, components)
    torch.testing.assert_close(jet, expected, **TOLERANCE)


def chain_rule_by_tables(z, components, name):
    """The same as `activate`, differentiable by autograd because it is written with plain operations."""
    derivatives = ACTIVATIONS[name](z[0], components.max_order)
    rows = [derivatives[0]]
    for member in range(1, len(components)):
        row = derivatives[1] * z[member]
        for term in components.compositions[member]:
            row = row + term.coefficient * derivatives[term.order] * torch.stack([z[f] for f in term.factors]).prod(0)
        rows.append(row)
    return torch.stack(rows)


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(components=sets_of_components, seed_=st.integers(0, 5))
@settings(max_examples=25)
def test_the_written_backward_pass_of_an_activation_is_that_of_autograd(name, components, seed_):
    generator = torch.Generator().manual_seed(seed_)
    z = torch.randn(len(components), 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.randn(z.shape, dtype=torch.float64, generator=generator)
    reference = chain_rule_by_tables(z, components, name)
    result = activate(z, components, ACTIVATIONS[name])
    torch.testing.assert_close(result, reference, **TOLERANCE)
    (expected,) = torch.autograd.grad((reference * weights).sum(), z)
    (given_,) = torch.autograd.grad((result * weights).sum(), z)
    torch.testing.assert_close(given_, expected, **TOLERANCE)


def test_the_backward_pass_of_an_activation_leaves_the_incoming_gradient_alone():
    z = torch.randn(len(EVERYTHING), 2, 3, dtype=torch.float64).requires_grad_()
    result = activate(z, EVERYTHING, ACTIVATIONS["tanh"])
    incoming = torch.ones_like(result)
    torch.autograd.grad(result, z, incoming)
    assert torch.equal(incoming, torch.ones_like(result))


def test_an_activation_without_gradient_computes_no_extra_derivative():
    asked = []

    def spy(z, count):
        asked.append(count)
        return ACTIVATIONS["tanh"](z, count)

    z = torch.zeros(len(EVERYTHING), 1, 1, dtype=torch.float64)
    activate(z, EVERYTHING, spy)
    activate(z.requires_grad_(), EVERYTHING, spy)
    assert asked == [EVERYTHING.max_order, EVERYTHING.max_order + 1]


@pytest.mark.parametrize("with_bias", [True, False])
def test_an_affine_map_of_a_jet_adds_the_bias_to_the_value_only(with_bias):
    x, weight = points(), torch.randn(4, 2, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64) if with_bias else None
    jet = affine(jet_of_function(inner, x, EVERYTHING), weight, bias)
    expected = jet_by_reverse_mode(lambda y: torch.nn.functional.linear(inner(y), weight, bias), x, EVERYTHING)
    torch.testing.assert_close(jet, expected, **TOLERANCE)


def test_the_written_backward_pass_of_an_affine_map_is_that_of_autograd():
    h, weight, bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 2, 4), (5, 2), (5,)))
    assert torch.autograd.gradcheck(affine, (h, weight, bias))
    assert torch.autograd.gradcheck(affine, (h.detach(), weight, bias))
    assert torch.autograd.gradcheck(affine, (h, weight.detach(), bias.detach()))
    assert torch.autograd.gradcheck(affine, (h, weight, None))


@given(components=sets_of_components)
@settings(max_examples=25)
def test_products_and_quotients_of_jets_follow_the_product_rule(components):
    def other(x):
        return torch.stack((torch.sin(x[:, 0] * x[:, 1] + x[:, 2]), torch.exp(x.sum(-1))), dim=-1)

    x = points()
    product = multiply(jet_of_function(other, x, components), jet_of_function(inner, x, components), components)
    expected = jet_by_reverse_mode(lambda y: other(y) * inner(y), x, components)
    torch.testing.assert_close(product, expected, **TOLERANCE)
    torch.testing.assert_close(
        divide(product, jet_of_function(inner, x, components), components),
        jet_of_function(other, x, components),
        **TOLERANCE,
    )


def test_the_seed_is_the_jet_of_the_coordinates():
    x = points()
    assert torch.equal(seed(x, EVERYTHING), jet_of_function(lambda y: y, x, EVERYTHING))
    assert torch.equal(
        seed(x, Components.closed([(1,)]))[1], torch.tensor([[0.0] * 3, [1.0] * 3, [0.0] * 3], dtype=torch.float64)
    )


def test_a_jet_of_a_function_is_differentiable_in_what_the_function_depends_on():
    weight = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    x = points(2, 1)
    components = Components.closed([(0, 0)])
    jet = jet_of_function(lambda y: torch.sin(weight * y), x, components)
    (slope,) = torch.autograd.grad(jet[2].sum(), weight)
    w, y = weight.detach(), x[:, 0]
    expected = (-2 * w * torch.sin(w * y) - w * w * y * torch.cos(w * y)).sum()
    torch.testing.assert_close(slope[0], expected, rtol=1e-13, atol=0.0)
