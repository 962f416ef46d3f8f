"""Problems that lead to the one that was asked for: time windows that grow, parameters that move."""

from dataclasses import dataclass

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, Case, Toy, points_of, samples_of, start

from pescitrain.evaluation.continuation import Continuation
from pescitrain.evaluation.resampling import FreshPoints, ResidualResampling
from pescitrain.evaluation.time_windows import TimeWindows
from pescitrain.problem import Dirichlet, Lifting, Residual

pytestmark = pytest.mark.parallel


def windows(comm, rounds, count=4):
    evaluator = CASES["wave, periodic term"].build(comm, interior=40)
    samples = samples_of(evaluator, interior=40)
    method = TimeWindows(samples, 1, 1, count)
    method.begin(start(evaluator))
    for round in range(1, rounds + 1):
        method.refresh(start(evaluator), round)
    return evaluator, samples, method


def test_a_window_holds_all_points_of_the_equations_and_the_last_is_the_whole(comm):
    before = CASES["wave, periodic term"].build(comm, interior=40)
    for round in range(4):
        evaluator, _, method = windows(comm, round)
        points = points_of(evaluator)
        time = points.x[:, 1]
        assert len(time) == 40
        # Hammersley's set has van der Corput's numbers in the second coordinate: they miss the end by 1/64.
        assert (round + 1) / 4 * 0.95 < time.max() <= (round + 1) / 4
        assert points.measure == pytest.approx(2.0 * (round + 1) / 4)
        for old, new in zip(before.samples[1:], evaluator.samples[1:], strict=True):
            assert np.array_equal(new.points.x, old.points.x)
    assert method.last_round == 3
    assert np.array_equal(evaluator.samples[0].points.x, before.samples[0].points.x)


def test_points_that_move_stay_in_the_window(comm):
    evaluator, samples, _ = windows(comm, 1)
    for method in (ResidualResampling(samples, 1, 1.0, 1.0), FreshPoints(samples, 1)):
        method.refresh(start(evaluator), 1)
        assert points_of(evaluator).x[:, 1].max() <= 0.5
        assert points_of(evaluator).measure == pytest.approx(1.0)


def test_after_a_restart_new_points_lie_in_the_same_window(comm):
    evaluator, samples, method = windows(comm, 0)
    method.resume(2)
    FreshPoints(samples, 1).refresh(start(evaluator), 1)
    assert 0.5 < points_of(evaluator).x[:, 1].max() <= 0.75


@dataclass
class Diffusion(Toy):
    """A toy with parameters in its equation, in a condition and in its lifting."""

    nu: float = 0.5
    shift: int = 1
    lifted: bool = False

    def __post_init__(self):
        value, factor = 3.0 * self.nu, 1 + self.nu
        super().__init__([Residual(lambda u, x: self.nu * u.xx - x * self.shift), Dirichlet(value, on="x_min")])
        if self.lifted:
            self._lifting = Lifting(lambda x: factor * x, lambda x: factor * (1 - x * x), ("x_max",))


def continued(comm, round, lifted=False):
    evaluator = Case(lambda: Diffusion(lifted=lifted)).build(comm)
    method = Continuation(samples_of(evaluator), 1, {"nu": 8.0}, {"nu": 0.5}, 4)
    method.begin(start(evaluator))
    method.refresh(start(evaluator), round)
    return evaluator, method


def test_the_steps_are_geometric_and_end_exactly(comm):
    _, method = continued(comm, 0)
    assert [method.values(round)["nu"] for round in range(6)] == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5, 0.5])
    assert method.values(4) == {"nu": 0.5}
    assert method.last_round == 4


@pytest.mark.parametrize("lifted", [False, True])
def test_a_round_is_the_problem_with_its_parameters(comm, lifted):
    for round, nu in ((0, 8.0), (2, 2.0), (4, 0.5)):
        evaluator, _ = continued(comm, round, lifted)
        expected = Case(lambda nu=nu: Diffusion(nu=nu, lifted=lifted)).build(comm)
        theta = start(evaluator)
        np.testing.assert_allclose(evaluator.residual(theta), expected.residual(theta), rtol=1e-12, atol=1e-14)
        assert evaluator.problem.settings()["nu"] == pytest.approx(nu)


def test_what_was_known_of_other_parameters_is_forgotten(comm):
    evaluator, method = continued(comm, 0)
    theta = start(evaluator)
    before = evaluator.objective(theta).objective
    method.refresh(theta, 1)
    assert evaluator.objective(theta).objective < 0.5 * before


def test_windows_are_the_same_for_any_number_of_ranks(comm):
    evaluators = [windows(c, 1)[0] for c in (comm, MPI.COMM_SELF)]
    shared, serial = (evaluator.objective(start(evaluator)).objective for evaluator in evaluators)
    assert shared == pytest.approx(serial, rel=1e-12)
