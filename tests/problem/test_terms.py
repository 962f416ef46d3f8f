"""The rows of every kind of term, against values by hand."""

import numpy as np
import pytest
import torch
from toys import CASES, Toy

from pescitrain.errors import ProblemError
from pescitrain.problem import Classes, Data, Dirichlet, Initial, Neumann, Periodic, Residual, Robin, Term
from pescitrain.problem.field import Coordinates, Field
from pescitrain.problem.regression import Quantities

X = torch.tensor([1.0, 2.0], dtype=torch.float64)
T = torch.tensor([5.0, 7.0], dtype=torch.float64)
U, V = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([10.0, 20.0], dtype=torch.float64)
NORMAL = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)


def known(*names, partner=False):
    """Fields with u_x = 3u, u_t = 4u and, at the partner points, the values and derivatives plus one."""
    coordinates, fields = Coordinates(("x", "t")), {}
    for name in names:
        value = {"u": U, "v": V}[name]

        def lookup(component, value=value, shift=0.0):
            return {(): value, (0,): 3 * value, (1,): 4 * value}[component] + shift

        def shifted(component, lookup=lookup):
            return lookup(component, shift=1.0)

        other = Field(name, coordinates, shifted, NORMAL) if partner else None
        fields[name] = Field(name, coordinates, lookup, NORMAL, other)
    return {"x": X, "t": T, "nu": 0.1, **fields, "__fields__": fields, "__data__": torch.tensor([0.25, 0.75])}


def rows(term, *names, **options):
    given = term.residual(known(*(names or ("u",)), **options))
    return torch.stack([row + 0.0 for row in (given if isinstance(given, list | tuple) else [given])])


N_U = torch.tensor([1.5, 3.0], dtype=torch.float64)  # ∂u/∂n


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (Residual(lambda u, x, nu: u.x - nu * x), [3 * U - 0.1 * X]),
        (Residual(lambda u: (u.x, u)), [3 * U, U]),
        (Dirichlet(2.0), [U - 2]),
        (Dirichlet(lambda x, t: x * t), [U - X * T]),
        (Neumann(0.5), [N_U - 0.5]),
        (Neumann(lambda x: x, coefficient=lambda u, nu: nu * u), [0.1 * U * N_U - X]),
        (Robin(2.0, 0.5), [N_U + 2 * U - 0.5]),
        (Robin(lambda t: t, lambda x: x, coefficient=3.0), [3 * N_U + T * U - X]),
        (Robin(2.0, 0.5, coefficient=lambda x: x), [X * N_U + 2 * U - 0.5]),
        (Initial(2.0), [U - 2]),
        (Initial(lambda x: x, rate=0.0), [U - X, 4 * U]),
        (Initial(0.0, rate=lambda x: x), [U, 4 * U - X]),
        (Data([[0.0, 0.0], [1.0, 1.0]], [0.25, 0.75]), [U - torch.tensor([0.25, 0.75])]),
    ],
)
def test_rows_are_their_formula(term, expected):
    assert torch.equal(rows(term), torch.stack(expected))


def test_the_rows_of_a_periodic_term_are_the_differences_of_all_fields_and_their_normal_derivatives():
    minus_one, normal = torch.full((2,), -1.0, dtype=torch.float64), -NORMAL[:, 0]
    both = rows(Periodic(on=("x_min", "x_max")), "u", "v", partner=True)
    torch.testing.assert_close(both, torch.stack([minus_one, normal, minus_one, normal]), rtol=0.0, atol=1e-14)
    values = rows(Periodic(on=("x_min", "x_max"), derivatives=0), "u", partner=True)
    torch.testing.assert_close(values, minus_one[None], rtol=0.0, atol=1e-15)


@pytest.mark.parametrize("kind", [Dirichlet, Neumann, Initial])
def test_a_condition_is_for_the_field_that_it_names(kind):
    given, alone = rows(kind(0.0, field="v"), "u", "v"), rows(kind(0.0), "v")
    assert torch.equal(given, alone)
    with pytest.raises(ProblemError, match=r"say which field it is for \(field=...\): u, v"):
        rows(kind(0.0), "u", "v")
    with pytest.raises(ProblemError, match=r"no field 'w'; there are u"):
        rows(kind(0.0, field="w"), "u")


def test_an_unknown_name_in_a_value_is_an_error_that_names_the_term():
    with pytest.raises(
        ProblemError,
        match=r"the value of term 'dirichlet_boundary' asks for 'mu', which is not known; .*: nu, t, u, x\)",
    ):
        rows(Dirichlet(lambda mu: mu))
    with pytest.raises(ProblemError, match=r"the rate of term 'initial_t_min' asks for 'mu'"):
        rows(Initial(0.0, rate=lambda mu: mu))
    with pytest.raises(ProblemError, match=r"the residual of term 'residual_interior' asks for 'mu'"):
        rows(Residual(lambda u, mu: u))
    for term in (Neumann(lambda mu: mu), Neumann(0.0, coefficient=lambda mu: mu), Robin(lambda mu: mu, 0.0)):
        with pytest.raises(ProblemError, match=rf"term '{term.label}' asks for 'mu'"):
            rows(term)


def test_terms_know_their_place_and_their_label():
    assert (Residual(lambda u: u).place, Residual(lambda u: u).label) == ("interior", "residual_interior")
    on_boundary = Residual(lambda u: u, boundary=True)
    assert (on_boundary.place, on_boundary.label) == ("boundary", "residual_boundary")
    assert Residual(lambda u: u, boundary=True, on="rim").on == "rim"
    assert Residual(lambda u: u, on=("left", "right")).label == "residual_left+right"
    assert (Dirichlet(0.0).place, Dirichlet(0.0).on) == ("boundary", "boundary")
    assert Neumann(0.0).on == Robin(0.0, 0.0).on == "boundary"
    assert (Initial(0.0).place, Initial(0.0).on) == ("boundary", "t_min")
    assert (Data([[0.0]], [0.0]).place, Data([[0.0]], [0.0]).label) == ("points", "data_points")
    assert Dirichlet(0.0, on="rim", name="mine").label == "mine"
    assert Term().weight == 1.0


def test_a_bare_term_has_no_residual():
    with pytest.raises(NotImplementedError):
        Term().residual({})


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_must_be_a_number_of_zero_or_more(weight):
    with pytest.raises(ProblemError, match=r"term 'dirichlet_rim': the weight"):
        Dirichlet(0.0, on="rim", weight=weight)
    for kind in (Residual, Periodic, Data):
        arguments = {Residual: [lambda u: u], Periodic: [], Data: [[[0.0]], [0.0]]}[kind]
        with pytest.raises(ProblemError, match="the weight"):
            kind(*arguments, on=("a", "b"), weight=weight)
    assert Dirichlet(0.0, weight=0.0).weight == 0.0


@pytest.mark.parametrize("on", ["x_min", (), ("x_min",), ("a", "b", "c")])
def test_a_periodic_term_takes_two_boundaries(on):
    with pytest.raises(ProblemError, match=r"Periodic takes two boundaries"):
        Periodic(on=on)


def test_a_periodic_term_takes_derivatives_of_order_zero_or_one():
    with pytest.raises(ProblemError, match=r"derivatives must be 0 or 1, not 2"):
        Periodic(on=("a", "b"), derivatives=2)


def test_data_are_one_finite_value_for_each_point():
    with pytest.raises(ProblemError, match=r"2 points but 3 values; give one value a point"):
        Data([[0.0, 0.0], [1.0, 1.0]], [1.0, 2.0, 3.0])
    for x, values in (([[np.nan]], [0.0]), ([[0.0]], [np.inf])):
        with pytest.raises(ProblemError, match=r"the data hold NaN or infinity"):
            Data(x, values)


def test_data_of_one_coordinate_may_be_flat():
    assert Data([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]).coordinates.tolist() == [[0.1], [0.2], [0.3]]
    assert Data([0.1, 0.2, 0.3], [1.0]).coordinates.tolist() == [[0.1, 0.2, 0.3]]
    assert Data([[0.1, 0.2]], [[1.0]]).data.tolist() == [1.0]


def test_all_kinds_of_terms_occur_in_the_tiny_problems():
    kinds = {type(term) for case in CASES.values() for term in case.problem().terms()}
    assert kinds == {Residual, Dirichlet, Initial, Neumann, Robin, Periodic, Data, Classes, Quantities}
    assert isinstance(CASES["poisson"].problem(), Toy)
