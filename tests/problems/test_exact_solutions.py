"""Every shipped problem is solved by its own reference: signs, factors, normals, data."""

from __future__ import annotations

import numpy as np
import pytest

from pescitrain.problem import ClassificationProblem, OperatorProblem, RegressionProblem
from pescitrain.problems import SHIPPED, load

from .exact_solutions import SOLUTIONS, Loader


def test_all_shipped_problems_have_a_solution_here() -> None:
    from_data = (OperatorProblem, ClassificationProblem, RegressionProblem)
    assert set(SOLUTIONS) == {name for name in SHIPPED if not issubclass(load(name), from_data)}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_the_solution_satisfies_every_term(name: str, mesh_reference: Loader) -> None:
    make, tolerance = SOLUTIONS[name]
    known = make(mesh_reference)
    terms = known.problem.terms()
    assert len({term.label for term in terms}) == len(terms)
    for term in terms:
        rows = known.rows(term)
        assert len(rows) > (10 if len(known.problem.coordinates) > 1 else 1)  # the ends of an interval
        assert np.abs(rows).max() < tolerance, term.label


@pytest.mark.parametrize("name", SOLUTIONS)
def test_another_function_does_not(name: str, mesh_reference: Loader) -> None:
    known = SOLUTIONS[name][0](mesh_reference)
    fields = {field: lambda x, f=f: f(x) + 0.1 * np.exp(x.sum(axis=1)) for field, f in known.fields.items()}
    if "T_matrix" in fields:  # or the jump between the two would be the same
        fields["T_matrix"] = lambda x: known.fields["T_matrix"](x) + 0.2 * np.exp(x.sum(axis=1))
    wrong = type(known)(known.problem, fields, known.places, known.step)
    for term in known.problem.terms():
        assert np.abs(wrong.rows(term)).max() > 1e-3, term.label


CHECK_VALUES = [
    ("burgers", {}, (0.5, 0.5), -0.59276953440205),
    ("burgers", {"nu": 0.01}, (0.5, 0.5), -0.58869577350225),
    ("allen_cahn", {}, (0.25, 1.0), 0.9873211594187),
    ("klein_gordon", {}, (0.5, np.pi), -0.5),
    ("diffusion_advection", {}, (0.9375, 0.9375), 0.85750021530),
    ("helmholtz", {}, (0.125, 0.375), -1.0),
    ("poisson2d", {}, (0.5, 0.5), 1.0),
    ("poisson2d", {"m": 4}, (0.125, 0.375), -1.0),
    ("poisson5d", {}, (0.0, 0.5, 1.0, 1.0, 1.0), -2.0),
    ("heat1d", {}, (0.5, 1.0), np.exp(-(np.pi**2) / 4)),
    ("multiscale1d", {"scales": 2}, (0.125,), 0.5 * (np.sqrt(0.5) + 1.0)),
    ("multiscale2d", {"scales": 2}, (0.125, 0.375), 0.5 * (0.5 - 1.0)),
    ("multiscale_mesh", {"scales": 2}, (-0.125, 0.375), -0.5 * (0.5 - 1.0)),
]


@pytest.mark.parametrize(("name", "parameters", "point", "value"), CHECK_VALUES)
def test_check_values(name: str, parameters: dict[str, float], point: tuple[float, ...], value: float) -> None:
    problem = load(name)(**parameters)
    assert problem.exact is not None
    columns = {coordinate: np.full(3, p) for coordinate, p in zip(problem.coordinates, point, strict=True)}
    np.testing.assert_allclose(problem.exact(**columns), np.full(3, value), rtol=0, atol=1e-10)
