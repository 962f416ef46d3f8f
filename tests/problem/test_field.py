"""What a residual sees: fields that behave as vectors, derivatives by name, and errors that name what is there."""

import pytest
import torch

from pescitrain.errors import ProblemError
from pescitrain.networks import Laplacian
from pescitrain.problem.field import ByName, Coordinates, Field, Normal, unknown_name

VALUE = torch.tensor([0.5, 2.0, -1.5], dtype=torch.float64)
OTHER = torch.tensor([3.0, -1.0, 0.25], dtype=torch.float64)


class Jet:
    """Gives a different vector for each component, and remembers what was asked."""

    def __init__(self, value=VALUE):
        self.value, self.asked = value, []

    def __call__(self, component):
        self.asked.append(component)
        if component == ():
            return self.value
        if isinstance(component, Laplacian):
            return self.value + 100.0
        return self.value + sum(10.0**k * (axis + 1) for k, axis in enumerate(component))


def field(names=("x", "y"), normal=None, other=None, value=VALUE):
    return Field("u", Coordinates(names), Jet(value), normal, other)


@pytest.mark.parametrize(
    ("names", "name", "component"),
    [
        (("x", "y"), "x", (0,)),
        (("x", "y"), "yx", (0, 1)),
        (("x", "y"), "xyxy", (0, 0, 1, 1)),
        (("x", "t"), "tt", (1, 1)),
        (("x", "t"), "laplacian", Laplacian((0,))),
        (("t", "x", "y"), "laplacian", Laplacian((1, 2))),
        (("x1", "x2", "x12"), "x1x2", (0, 1)),
        (("x1", "x2", "x12"), "x12x1", (0, 2)),
        (("a", "ab"), "aba", (0, 1)),
        (("x", "y"), "z", None),
        (("x", "y"), "xz", None),
        (("x", "y"), "", None),
        (("x", "y"), "X", None),
        (("t",), "laplacian", None),
        (("a.b",), "axb", None),
    ],
)
def test_derivatives_are_named_by_coordinates_one_after_the_other(names, name, component):
    assert Coordinates(names).component(name) == component


def test_time_is_no_space_coordinate():
    assert Coordinates(("t", "x", "y")).space == (1, 2)
    assert Coordinates(("r", "z")).space == (0, 1)


def test_a_field_asks_for_the_derivative_that_is_named():
    u = field(("x", "t"))
    assert torch.equal(u.value, VALUE)
    assert torch.equal(u.tx, VALUE + 21.0)
    assert torch.equal(u.laplacian, VALUE + 100.0)
    assert torch.equal(torch.stack(u.grad), torch.stack([VALUE + 1.0]))
    assert [g.tolist() for g in field().grad] == [(VALUE + 1).tolist(), (VALUE + 2).tolist()]


def test_the_normal_derivative_sums_over_space_only():
    normal = torch.tensor([[0.6, 7.0, 0.8], [0.0, 7.0, -1.0], [1.0, 7.0, 0.0]], dtype=torch.float64)
    u = field(("x", "t", "y"), normal)
    expected = normal[:, 0] * (VALUE + 1) + normal[:, 2] * (VALUE + 3)
    torch.testing.assert_close(u.n, expected, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda u: u.xz, r"u\.xz: no such derivative; .*\(x, y; twice"),
        (lambda u: u.values, r"u\.values: no such derivative"),
        (lambda u: u.n, r"u\.n: there is no normal inside the domain"),
        (lambda u: u.other, r"u\.other: only a Periodic term has partner points"),
    ],
)
def test_what_a_field_does_not_have_is_an_error_that_says_what_it_has(ask, sentence):
    with pytest.raises(ProblemError, match=sentence):
        ask(field())


def test_private_attributes_are_missing_in_the_way_of_python():
    with pytest.raises(AttributeError, match="_repr_html_"):
        field()._repr_html_  # noqa: B018
    assert not hasattr(field(), "__array__")


def test_the_other_field_is_that_of_the_partner_points():
    other = field(value=OTHER)
    assert field(other=other).other is other


BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


@pytest.mark.parametrize("sign", BINARY)
@pytest.mark.parametrize("kind", ["field", "tensor", "number"])
def test_arithmetic_with_a_field_is_arithmetic_with_its_values(sign, kind):
    operation, u = BINARY[sign], field()
    other, plain = {"field": (field(value=OTHER), OTHER), "tensor": (OTHER, OTHER), "number": (0.75, 0.75)}[kind]
    assert torch.equal(operation(u, other), operation(VALUE, plain))
    assert torch.equal(operation(other, u), operation(plain, VALUE))


def test_powers_take_fields_as_base_and_exponent():
    base = OTHER.abs()
    assert torch.equal(field() ** 3, VALUE**3)
    assert torch.equal(field(value=base) ** field(), base**VALUE)
    assert torch.equal(2.0 ** field(), 2.0**VALUE)
    assert torch.equal(base ** field(), base**VALUE)


def test_signs_and_functions_of_a_field_are_those_of_its_values():
    assert torch.equal(-field(), -VALUE)
    assert torch.equal(abs(field()), VALUE.abs())
    assert torch.equal(torch.sin(field()), torch.sin(VALUE))
    assert torch.equal(torch.stack([field(), OTHER]), torch.stack([VALUE, OTHER]))
    assert torch.equal(torch.add(OTHER, other=field()), OTHER + VALUE)
    assert torch.equal(torch.where(field() > 0.0, field(), 0.0), VALUE.clamp(min=0.0))


def test_a_normal_is_indexed_by_axis_or_by_name():
    values = torch.arange(6.0).view(3, 2)
    n = Normal(Coordinates(("x", "y")), values)
    assert torch.equal(n.x, values[:, 0])
    assert torch.equal(n.y, values[:, 1])
    assert torch.equal(n[1], values[:, 1])
    with pytest.raises(ProblemError, match=r"n\.z: no such coordinate; there are x, y"):
        n.z  # noqa: B018


KNOWN = {"u": 1.0, "x": 2.0, "nu": 3.0, "__data__": 4.0}


def test_a_function_is_called_with_what_its_arguments_name():
    assert ByName(lambda x, u: (x, u), "f")(KNOWN) == (2.0, 1.0)
    assert ByName(lambda: 5.0, "f")(KNOWN) == 5.0
    assert ByName(lambda u, missing=7.0: (u, missing), "f")(KNOWN) == (1.0, 7.0)

    def keyword_only(u, *, nu):
        return u, nu

    def positional_only(x, missing=4.0, /):
        return x, missing

    assert ByName(keyword_only, "f")(KNOWN) == (1.0, 3.0)
    assert ByName(positional_only, "f")(KNOWN) == (2.0, 4.0)


def test_an_unknown_argument_is_an_error_with_the_nearest_name():
    with pytest.raises(ProblemError, match=r"^the flux asks for 'nuu', which is not known; did you mean 'nu'\?"):
        ByName(lambda u, nuu: u, "the flux")(KNOWN)
    with pytest.raises(ProblemError, match=r"\(known: nu, u, x\)$"):
        ByName(lambda temperature: 0.0, "the flux")(KNOWN)
    assert "did you mean" not in unknown_name("f", "temperature", KNOWN)


def test_an_error_inside_the_function_stays_what_it_is():
    with pytest.raises(KeyError, match="mine"):
        ByName(lambda u: {}["mine"], "f")(KNOWN)


@pytest.mark.parametrize("function", [lambda *fields: 0.0, lambda **fields: 0.0])
def test_arguments_without_names_are_refused(function):
    with pytest.raises(ProblemError, match=r"the flux: name the arguments instead of \*fields"):
        ByName(function, "the flux")
