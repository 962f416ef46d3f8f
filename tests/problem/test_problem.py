"""Problems and the surrogates that they train."""

from dataclasses import dataclass

import pytest
import torch
from toys import CASES, Toy, mlp

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem import Lifting, Problem, Surrogate, Unknown
from pescitrain.problem.surrogate import network_outputs

DOMAIN = Box(("x", "y"), (-1.0, -1.0), (1.0, 1.0))
X = torch.tensor([[0.2, 0.7], [-0.4, 0.1], [0.9, -0.3]], dtype=torch.float64)


def networks(problem, lifting=None):
    return {
        name: mlp()(DOMAIN, network_outputs(fields, lifting), i)
        for i, (name, fields) in enumerate(problem.networks_of_fields().items())
    }


def test_an_unknown_starts_within_its_bounds():
    assert Unknown(0.5, 0.0, 1.0).upper == 1.0
    assert Unknown(-1e9).lower == -float("inf")
    for outside in (-0.1, 1.1, float("nan")):
        with pytest.raises(ProblemError, match=r"is outside \[0, 1\]"):
            Unknown(outside, 0.0, 1.0)


def test_one_network_gives_all_fields_unless_the_problem_says_otherwise():
    assert Toy([], fields=("u", "v")).networks_of_fields() == {"network": ("u", "v")}
    split = Toy([], fields=("u", "v"), networks={"b": ("v",), "a": ("u",)})
    assert split.networks_of_fields() == {"b": ("v",), "a": ("u",)}


@pytest.mark.parametrize("mapping", [{"a": ("u",)}, {"a": ("u", "v"), "b": ("v",)}, {"a": ("u", "w")}])
def test_every_field_has_exactly_one_network(mapping):
    with pytest.raises(ProblemError, match=r"problem Toy: the networks give .*, the fields are \['u', 'v'\]"):
        Toy([], fields=("u", "v"), networks=mapping).networks_of_fields()


def test_the_outputs_of_the_model_are_the_fields_or_what_the_solution_returns():
    class Stress(Toy):
        def solution(self, u, x):  # type: ignore[override]
            return u * x, u

    assert Toy([], fields=("u", "v")).output_names() == ("u", "v")
    with pytest.raises(ProblemError, match=r"problem Stress: .*name what it returns in `outputs`"):
        Stress([]).output_names()
    Stress.outputs = ("a", "b")
    assert Stress([]).output_names() == ("a", "b")


def test_the_fields_of_a_dataclass_are_the_settings_of_a_problem():
    @dataclass
    class Heat(Problem):
        nu: float = 0.1
        k: int = 3

    assert Heat(nu=0.5).settings() == {"nu": 0.5, "k": 3}
    assert Toy([]).settings() == {}
    assert Heat().name == "Heat"


def test_a_problem_says_nothing_that_its_author_did_not():
    problem = Problem()
    assert problem.domain() is None
    assert problem.lifting() is None
    assert problem.build_network("network") is None
    assert (problem.exact, problem.solution, problem.features) == (None, None, None)
    with pytest.raises(ProblemError, match=r"has no terms\(\): return its equations"):
        problem.terms()


def test_a_surrogate_puts_the_fields_of_its_networks_side_by_side():
    problem = Toy([], fields=("u", "v"), networks={"b": ("v",), "a": ("u",)})
    nets = networks(problem)
    surrogate = Surrogate(problem, nets, None)
    assert surrogate.field_names == ["v", "u"]
    expected = torch.cat([nets["b"](X), nets["a"](X)], dim=-1)
    assert torch.equal(surrogate.fields(X), expected)
    assert torch.equal(surrogate(X), expected)


def test_a_surrogate_applies_its_lifting():
    lifting = Lifting(lambda x: x, lambda y: y, ())
    problem = Toy([], lifting=lifting)
    nets = networks(problem)
    expected = X[:, :1] + X[:, 1:] * nets["network"](X)
    torch.testing.assert_close(Surrogate(problem, nets, lifting)(X), expected, rtol=1e-15, atol=1e-16)


def test_a_surrogate_combines_fields_into_the_solution():
    class Combined(Toy):
        outputs = ("w",)

        def solution(self, v, y):  # type: ignore[override]
            return v * y

    problem = Combined([], fields=("u", "v"))
    surrogate = Surrogate(problem, networks(problem), None)
    assert torch.equal(surrogate(X), surrogate.fields(X)[:, 1:] * X[:, 1:])
    assert surrogate.outputs == ("w",)
    Combined.solution = lambda self, u, v, x: (u, v + x)  # type: ignore[assignment, misc]
    both = Surrogate(problem, networks(problem), None)
    expected = both.fields(X) + torch.stack((torch.zeros(3, dtype=torch.float64), X[:, 0]), -1)
    assert torch.equal(both(X), expected)


def test_a_lifting_with_outputs_decides_how_many_the_network_has():
    lifting = Lifting(lambda: (0.0, 0.0), lambda: ((1, 1, 1), (1, 1, 1)), (), outputs=3)
    assert network_outputs(("u", "v"), lifting) == 3
    assert network_outputs(("u", "v"), None) == 2
    assert network_outputs(("u", "v"), Lifting(lambda: 0.0, lambda: 1.0, ())) == 2
    problem = Toy([], fields=("u", "v"), networks={"a": ("u",), "b": ("v",)})
    with pytest.raises(ProblemError, match="goes with one network, not several"):
        Surrogate(problem, networks(problem), lifting)


def test_the_tiny_problems_name_their_networks():
    for case in CASES.values():
        problem = case.problem()
        assert sorted(f for fields in problem.networks_of_fields().values() for f in fields) == sorted(problem.fields)
