"""A coefficient that is found together with the network, from data at points."""

import pytest
from run.commands import TINY, command, refused, summary  # pyright: ignore[reportMissingImports]

PROBLEM = '''
"""u = sin(x) exp(-nu t) with nu = 0.7, seen at 60 points."""
import numpy as np
import torch
from pescitrain import Box, Data, Dirichlet, Problem, Residual, Unknown

class Decay(Problem):
    coordinates = ("x", "t")
    unknowns = {"nu": Unknown(INITIAL, LOWER, UPPER)}
    def domain(self):
        return Box(("x", "t"), (0.0, 0.0), (np.pi, 1.0))
    def terms(self):
        x = np.random.default_rng(1).uniform((0.0, 0.0), (np.pi, 1.0), (60, 2))
        return [
            Residual(lambda u, nu: u.t - nu * u.xx),
            Dirichlet(0.0, on=("x_min", "x_max")),
            Data(x, np.sin(x[:, 0]) * np.exp(-0.7 * x[:, 1]), weight=10.0),
        ]
'''


@pytest.fixture
def problem(tmp_path):
    """A function: initial value and bounds -> the words that name the problem."""

    def write(initial: float, lower: float = -float("inf"), upper: float = float("inf")) -> tuple[object, ...]:
        text = PROBLEM
        for name, value in (("INITIAL", initial), ("LOWER", lower), ("UPPER", upper)):
            text = text.replace(name, f"float('{value}')")
        (tmp_path / "decay.py").write_text(text)
        return ("-problem", tmp_path / "decay.py", *TINY, "-out_dir", tmp_path / "run")

    return write


def test_the_coefficient_is_recovered_inside_its_bounds(problem, tmp_path):
    assert command(*problem(0.1, 0.0, 2.0), "-tao_max_it", 150).code == 0
    # The data are exact; what is left is the error of the network, whose objective is 1e-6.
    assert summary(tmp_path / "run")["unknowns"]["nu"] == pytest.approx(0.7, rel=0.01)


def test_a_bound_that_is_in_the_way_is_met_and_never_passed(problem, tmp_path):
    assert command(*problem(0.1, 0.0, 0.5), "-tao_max_it", 60).code == 0
    assert summary(tmp_path / "run")["unknowns"]["nu"] == 0.5


@pytest.mark.parametrize(
    "words",
    [
        "-tao_type bqnls",
        "-tao_type bqnktr",
        "-tao_type bncg",
        "-tao_type bntr -pc_type none",
        "-tao_type tron -pc_type none",
        "-tao_type bntr",
        "-tao_type bnls -pc_type cholesky",
        "-tao_type tron",
    ],
)
def test_other_methods_meet_the_bound(problem, tmp_path, words):
    assert command(*problem(0.1, 0.0, 0.5), *words.split(), "-tao_max_it", 60).code == 0
    assert summary(tmp_path / "run")["unknowns"]["nu"] == 0.5


@pytest.mark.parametrize("method", ["nls", "cg", "adam", "owlqn"])
def test_a_method_that_ignores_bounds_is_refused(problem, method):
    ended = command(*problem(0.1, 0.0, 0.5), "-tao_type", method)
    assert ended.code == 2
    assert ended.complaint.startswith(
        f"-tao_type {method} ignores the bounds of the unknown coefficients: use one of blmvm, "
    )


def test_snes_is_refused_with_bounds_and_taken_without(problem, tmp_path):
    ended = command(*problem(0.1, 0.0, 0.5), "-snes_type", "qn")
    assert ended.code == 2
    assert ended.complaint == (
        "SNES methods ignore the bounds of the unknown coefficients: use -tao_type blmvm, bqnls or bntr"
    )
    assert command(*problem(0.1), "-snes_type", "qn", "-snes_max_it", 3).code == 0
    assert summary(tmp_path / "run")["unknowns"]["nu"] != 0.1


def test_an_initial_value_outside_its_bounds_is_refused(problem):
    words = problem(3.0, 0.0, 0.5)
    assert refused(*words) == (
        f"-problem {words[1]}: ProblemError: unknown: the initial value 3 is outside [0, 0.5] ({words[1]}:9, in Decay)"
    )
