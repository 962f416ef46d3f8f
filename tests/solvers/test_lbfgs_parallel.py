"""L-BFGS with momentum: its directions from a dense BFGS, momentum and its guard, restart."""

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from petsc4py import PETSc
from toys import LINEAR, TWO_TERMS, jacobian_by_torch, least_squares_minimum, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.lbfgs import LimitedMemoryBFGS
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = TWO_TERMS


def run(comm, lengths=(6,), case=CASE, **options):
    """All iterates (k, n), the last outcome, and the closures, of segments by new solvers as after a restart."""
    for key, value in {"tao_type": "lbfgs", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position, closures = [], {}, 0, 0.0
    outcome, theta = NOTHING_LEFT, start(case.build())
    for length in lengths:
        system = system_of(case.build(comm))
        solver = TaoSolver(system, "", GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        closures += system.evaluator.counters.closures
        solver.destroy()
    return np.array(iterates), outcome, closures


def inverse_hessian(steps, changes):
    """Dense BFGS with H₀ = (sᵀy / yᵀy) I of the newest pair."""
    inverse = steps[-1] @ changes[-1] / (changes[-1] @ changes[-1]) * np.eye(len(steps[0]))
    for step, change in zip(steps, changes, strict=True):
        rho = 1 / (step @ change)
        left = np.eye(len(step)) - rho * np.outer(step, change)
        inverse = left @ inverse @ left.T + rho * np.outer(step, step)
    return inverse


def test_directions_are_those_of_dense_bfgs_of_the_newest_pairs(comm):
    iterates, _, _ = run(comm, (6,), tao_lbfgs_history=3)
    evaluator = CASE.build()
    gradients = np.array([evaluator.objective_gradient(theta)[1] for theta in iterates])
    for k in range(6):
        first = max(0, k - 3)
        steps, changes = np.diff(iterates[first : k + 1], axis=0), np.diff(gradients[first : k + 1], axis=0)
        direction = -gradients[k] if k == 0 else -inverse_hessian(steps, changes) @ gradients[k]
        step = iterates[k + 1] - iterates[k]
        cosine = step @ direction / np.linalg.norm(step) / np.linalg.norm(direction)
        assert cosine == pytest.approx(1.0, abs=1e-10)


def test_the_first_trial_is_the_whole_step(comm):
    iterates, _, closures = run(comm, (1,), tao_ls_type="unit")
    evaluator = CASE.build()
    gradient = evaluator.objective_gradient(iterates[0])[1]
    assert np.linalg.norm(gradient) > 1.0
    np.testing.assert_allclose(iterates[1], iterates[0] - gradient / np.linalg.norm(gradient), atol=1e-15)
    iterates, _, _ = run(comm, (1,), tao_ls_type="unit", tao_lbfgs_first_step=1e9)
    np.testing.assert_allclose(iterates[1], iterates[0] - gradient, rtol=0.0, atol=1e-15 * np.abs(gradient).max())
    assert closures == 2  # the start and the trial


def test_momentum_averages_directions(comm):
    weight = 0.4
    iterates, _, _ = run(comm, (2,), tao_lbfgs_momentum=weight, tao_ls_type="unit")
    gradients = [CASE.build().objective_gradient(theta)[1] for theta in iterates]
    first, second = np.diff(iterates, axis=0)
    inverse = inverse_hessian([first], [gradients[1] - gradients[0]])
    velocity = (1 - weight) * first - weight * inverse @ gradients[1]
    expected = velocity if velocity @ gradients[1] < 0 else -inverse @ gradients[1]
    np.testing.assert_allclose(second, expected, rtol=0.0, atol=1e-12)


def test_every_step_descends_with_little_of_the_new_direction(comm):
    iterates, _, _ = run(comm, (25,), tao_lbfgs_momentum=0.05)
    objectives = [CASE.build().objective(theta).objective for theta in iterates]
    assert (np.diff(objectives) < 0).all()


def test_it_finds_the_minimum(comm):
    PETSc.Options()["tao_gatol"] = 1e-9
    iterates, outcome, _ = run(comm, (200,), case=LINEAR, tao_gatol=1e-9, tao_lbfgs_history=20)
    assert outcome.reason == "CONVERGED_GATOL"
    evaluator = LINEAR.build()
    smallest = np.linalg.eigvalsh(
        jacobian_by_torch(evaluator, start(evaluator)).T @ jacobian_by_torch(evaluator, start(evaluator))
    )[0]
    np.testing.assert_allclose(iterates[-1], least_squares_minimum(), rtol=0.0, atol=1e-9 / smallest)


@pytest.mark.parametrize("momentum", [1.0, 0.9])
def test_a_restart_continues(comm, momentum):
    whole, _, _ = run(comm, (9,), tao_lbfgs_momentum=momentum)
    parts, _, _ = run(comm, (5, 4), tao_lbfgs_momentum=momentum)
    assert np.array_equal(parts, whole)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tao_lbfgs_history": 0}, "-tao_lbfgs_history 0: keep at least 1 pair"),
        ({"tao_lbfgs_first_step": 0.0}, "-tao_lbfgs_first_step 0: it must be above 0"),
        ({"tao_lbfgs_momentum": 0.0}, "-tao_lbfgs_momentum 0: it must be above 0 and at most 1"),
    ],
)
def test_a_senseless_option_is_refused(comm, options, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **options)
    assert sentence in str(caught.value.__cause__ or caught.value)


class Cliff(LimitedMemoryBFGS):
    """Its third direction leads uphill, where no step is found."""

    asked: ClassVar[list[int]] = []

    def aim(self, gradient, direction):
        self.asked.append(len(self.pairs.steps))
        unit = super().aim(gradient, direction)
        if len(self.asked) == 3:
            direction.scale(-1.0)
        return unit


def test_where_no_step_is_found_it_begins_anew_without_pairs(comm, monkeypatch):
    monkeypatch.setattr("pescitrain.solvers.lbfgs.LimitedMemoryBFGS", Cliff)
    monkeypatch.setattr(Cliff, "asked", [])
    iterates, outcome, _ = run(comm, (6,))
    objectives = [CASE.build().objective(theta).objective for theta in iterates]
    assert outcome.budget
    assert len(iterates) == 7
    assert Cliff.asked == [0, 1, 2, 0, 1, 2, 3]
    assert all(later < earlier for earlier, later in pairwise(objectives))


class Wall(LimitedMemoryBFGS):
    """All of its directions from the third on lead uphill."""

    asked: ClassVar[list[int]] = []

    def aim(self, gradient, direction):
        self.asked.append(len(self.pairs.steps))
        unit = super().aim(gradient, direction)
        if len(self.asked) >= 3:
            direction.scale(-1.0)
        return unit


def test_where_there_is_no_descent_at_all_it_ends_where_it_was(comm, monkeypatch):
    monkeypatch.setattr("pescitrain.solvers.lbfgs.LimitedMemoryBFGS", Wall)
    monkeypatch.setattr(Wall, "asked", [])
    iterates, outcome, _ = run(comm, (6,), tao_lbfgs_momentum=0.9)
    assert (outcome.reason, outcome.iterations) == ("DIVERGED_LS_FAILURE", 2)
    assert Wall.asked == [0, 1, 2, 0]
    assert len(iterates) == 3
