"""Levenberg–Marquardt: its step computed once more from a dense J, its two spaces, bounds, restart and end."""

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from scipy.optimize import lsq_linear
from toys import CASES, LINEAR, jacobian_by_torch, least_squares_minimum, start, system_of

from pescitrain.errors import EvaluationError, OptionError
from pescitrain.evaluation import Linearization
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.pair_hash import PairHash
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = CASES["poisson"]
PAIRS = {"tao_lm_space": "parameters", "tao_lm_sketch": "pairs"}


def run(comm, lengths=(6,), case=CASE, bounds=None, theta=None, **options):
    """All iterates (k, n), the last outcome and the closures, of segments by new solvers as after a restart."""
    for key, value in {"tao_type": "lm", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position, closures = [], {}, 0, 0.0
    outcome = NOTHING_LEFT
    theta = start(case.build()) if theta is None else theta
    for length in lengths:
        system = system_of(case.build(comm))
        system.bounds = bounds
        solver = TaoSolver(system, "", GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        closures += system.evaluator.counters.closures
        solver.destroy()
    return np.array(iterates), outcome, closures


@pytest.mark.parametrize("geodesic", [True, False])
def test_the_step_is_that_of_the_formula(comm, geodesic):
    relative, h = 3.0, 0.2
    options = {"tao_lm_damping": relative, "tao_lm_geodesic": geodesic, "tao_lm_geodesic_step": h}
    iterates, _, closures = run(comm, (1,), **options)
    theta, evaluator = start(CASE.build()), CASE.build()
    jacobian, residual = jacobian_by_torch(evaluator, theta), evaluator.residual(theta)
    matrix = jacobian.T @ jacobian
    inverse = np.linalg.inv(matrix + relative * matrix.diagonal().mean() * np.eye(len(theta)))
    velocity = -inverse @ jacobian.T @ residual
    bend = 2 / h * ((evaluator.residual(theta + h * velocity) - residual) / h - jacobian @ velocity)
    acceleration = -inverse @ jacobian.T @ bend
    assert 1e-3 < np.linalg.norm(acceleration) / np.linalg.norm(velocity) < 0.75
    step = velocity + 0.5 * acceleration if geodesic else velocity
    np.testing.assert_allclose(iterates[1] - iterates[0], step, rtol=1e-8, atol=1e-10 * np.abs(step).max())
    assert closures == 1 + geodesic  # the trial, the point ahead; φ and ∇φ at the start are those of the linearization


def test_the_damping_follows_the_ratio_of_reductions(comm):
    """Two steps without acceleration: the second has the λ of Nielsen's rule."""
    iterates, _, _ = run(comm, (2,), tao_lm_damping=3.0, tao_lm_geodesic=False)
    evaluator = CASE.build()
    theta, growth = iterates[0], 2.0
    damping = 3.0 * np.square(jacobian_by_torch(evaluator, theta)).sum(0).mean()
    for following in iterates[1:]:
        jacobian, residual = jacobian_by_torch(evaluator, theta), evaluator.residual(theta)
        while True:
            system = jacobian.T @ jacobian + damping * np.eye(len(theta))
            step = -np.linalg.solve(system, jacobian.T @ residual)
            predicted = 0.5 * residual @ residual - 0.5 * np.sum((residual + jacobian @ step) ** 2)
            ratio = (0.5 * residual @ residual - evaluator.objective(theta + step).objective) / predicted
            if ratio > 1e-4:
                break
            damping, growth = damping * growth, 2 * growth
        damping, growth = damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
        np.testing.assert_allclose(following - theta, step, rtol=1e-6, atol=1e-9 * np.abs(step).max())
        theta = following


def test_refused_trials_raise_the_damping_and_leave_the_point(comm):
    """A ratio that no trial reaches: every one is refused, and the method says that it is at its end."""
    iterates, outcome, closures = run(comm, (5,), tao_lm_accept=1e6, tao_lm_max_trials=4, tao_lm_geodesic=False)
    assert (outcome.reason, closures) == ("CONVERGED_STEPTOL", 4)
    assert np.array_equal(iterates[-1], iterates[0])


def test_a_bend_that_is_too_sharp_is_refused_before_the_trial(comm):
    iterates, outcome, closures = run(comm, (5,), tao_lm_geodesic_ratio=1e-12, tao_lm_max_trials=4)
    assert (outcome.reason, closures) == ("CONVERGED_STEPTOL", 4)
    assert np.array_equal(iterates[-1], iterates[0])


def test_a_sketched_step_is_that_of_the_formula_in_its_subspace(comm):
    iterates, _, _ = run(comm, (2,), tao_lm_damping=3.0, tao_lm_geodesic=False, **PAIRS)
    theta, evaluator = iterates[0], CASE.build()
    jacobian, residual = jacobian_by_torch(evaluator, theta), evaluator.residual(theta)
    pairs = PairHash.draw(len(theta), 0)
    s = np.array([pairs.prolong(unit) for unit in np.eye((len(theta) + 1) // 2)]).T
    small = jacobian @ s
    matrix = small.T @ small
    damping = 3.0 * matrix.diagonal().mean() * np.eye(s.shape[1])
    step = -s @ np.linalg.solve(matrix + damping, small.T @ residual)
    np.testing.assert_allclose(iterates[1] - theta, step, rtol=1e-8, atol=1e-10 * np.abs(step).max())
    second = iterates[2] - iterates[1]  # lies in the next subspace
    following = PairHash.draw(len(theta), 1)
    np.testing.assert_allclose(following.prolong(following.restrict(second)), second, rtol=0.0, atol=1e-12)
    assert np.abs(pairs.prolong(pairs.restrict(second)) - second).max() > 1e-6


@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_pairs_are_an_orthonormal_basis_that_holds_every_parameter(comm, size):
    pairs = PairHash.draw(size, 3)
    basis = np.array([pairs.prolong(unit) for unit in np.eye((size + 1) // 2)]).T
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-15)
    assert (np.count_nonzero(basis, axis=1) == 1).all()
    matrix = np.random.default_rng(1).standard_normal((5, size))
    np.testing.assert_allclose(
        pairs.restrict_rows(torch.from_numpy(matrix.T.copy())).numpy(), (matrix @ basis).T, atol=1e-15
    )
    np.testing.assert_allclose(pairs.restrict(matrix[0]), basis.T @ matrix[0], atol=1e-15)


def test_sample_space_makes_the_same_steps(comm):
    paths = [run(comm, (6,), tao_lm_space=space)[0] for space in ("parameters", "samples")]
    # The condition of JᵀJ + λI is at most 1/λ ~ 1e6 of its scale: so many of the 16 digits may differ.
    np.testing.assert_allclose(paths[1], paths[0], rtol=0.0, atol=1e-9)


@pytest.mark.parametrize("space", ["parameters", "samples"])
def test_momentum_pulls_the_step_towards_the_last_one(comm, space):
    """The second step without acceleration is argmin ‖r + J s‖² + λ ‖s − μ s₁‖², for the λ that s₁ has left."""
    options = {"tao_lm_momentum": 0.7, "tao_lm_geodesic": False, "tao_lm_damping": 10.0, "tao_lm_space": space}
    iterates, _, _ = run(comm, (2,), **options)
    evaluator = CASE.build()
    first, second = np.diff(iterates, axis=0)
    jacobian = jacobian_by_torch(evaluator, iterates[0])
    matrix, residual = jacobian.T @ jacobian, evaluator.residual(iterates[0])
    damping = 10.0 * matrix.diagonal().mean()
    model = 0.5 * residual @ residual - 0.5 * ((residual + jacobian @ first) ** 2).sum()
    ratio = (evaluator.objective(iterates[0]).objective - evaluator.objective(iterates[1]).objective) / model
    damping *= max(1 / 3, 1 - (2 * ratio - 1) ** 3)
    jacobian, residual = jacobian_by_torch(evaluator, iterates[1]), evaluator.residual(iterates[1])
    inverse = np.linalg.inv(jacobian.T @ jacobian + damping * np.eye(len(first)))
    kept = 0.7 * first
    expected = kept - inverse @ jacobian.T @ (residual + jacobian @ kept)
    np.testing.assert_allclose(second, expected, rtol=0.0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize(("case", "smaller"), [(CASE, "samples"), (LINEAR, "parameters")])
def test_the_smaller_space_is_taken(comm, case, smaller):
    evaluator = case.build()
    assert (evaluator.residual_count < evaluator.parameters.size) == (smaller == "samples")
    paths = [run(comm, (3,), case=case, tao_lm_space=space)[0] for space in ("auto", smaller)]
    assert np.array_equal(*paths)


def test_bounds_are_kept_in_parameter_space(comm):
    """Where residuals are fewer than parameters as well: the sample space cannot hold a parameter."""
    theta = start(CASE.build())
    bounds = theta.copy(), np.full_like(theta, np.inf)
    iterates, _, _ = run(comm, (2,), bounds=bounds)
    assert (iterates >= theta).all()
    assert not np.array_equal(iterates[-1], theta)


def test_an_iteration_makes_one_linearization_and_one_gradient(comm):
    PETSc.Options()["tao_type"], PETSc.Options()["tao_lm_geodesic"] = "lm", False
    PETSc.Options()["tao_lm_space"] = "parameters"
    solver = TaoSolver(system_of(CASE.build(comm)), "", GaussNewtonSettings(), lambda _: False)
    solver.run(solver.system.layout.vec_from(start(CASE.build())), 0, 4, {})
    counters = solver.system.evaluator.counters
    assert (counters.linearization, counters.vjp) == (5, 5)


def test_a_jacobian_that_is_not_finite_is_said(comm, monkeypatch):
    whole = Linearization.transpose_times
    monkeypatch.setattr(Linearization, "transpose_times", lambda self, w: np.nan * whole(self, w))
    with pytest.raises(EvaluationError, match="the Jacobian is not finite"):
        run(comm, (1,))


def test_a_linear_problem_is_solved_in_one_iteration_without_damping(comm):
    iterates, _, _ = run(comm, (1,), case=LINEAR, tao_lm_damping=1e-12)
    np.testing.assert_allclose(iterates[1], least_squares_minimum(), rtol=0.0, atol=1e-9)


def test_it_ends_where_no_step_descends(comm):
    iterates, outcome, _ = run(comm, (50,), case=LINEAR, theta=least_squares_minimum())
    assert outcome.reason == "CONVERGED_STEPTOL"
    assert outcome.iterations < 10
    np.testing.assert_allclose(iterates[-1], iterates[0], rtol=0.0, atol=1e-12)


def test_bounds_are_kept_and_the_minimum_among_them_is_found(comm):
    evaluator = LINEAR.build()
    theta, size = start(evaluator), evaluator.parameters.size
    jacobian = jacobian_by_torch(evaluator, theta)
    target = jacobian @ theta - evaluator.residual(theta)
    free = least_squares_minimum()
    lower, upper = np.full(size, -np.inf), np.full(size, np.inf)
    upper[-1], lower[0] = free[-1] - 0.1, free[0] + 0.05
    theta = np.clip(theta, lower, upper)
    best = lsq_linear(jacobian, target, (lower, upper), tol=1e-14).x
    assert np.isclose(best[-1], upper[-1])
    iterates, _, _ = run(comm, (60,), case=LINEAR, bounds=(lower, upper), theta=theta)
    assert (iterates >= lower).all()
    assert (iterates <= upper).all()
    np.testing.assert_allclose(iterates[-1], best, rtol=0.0, atol=1e-7)


@pytest.mark.parametrize(("sketch", "momentum"), [("none", 0.0), ("pairs", 0.0), ("none", 0.5)])
def test_a_restart_continues(comm, sketch, momentum):
    options = {"tao_lm_space": "parameters", "tao_lm_sketch": sketch, "tao_lm_momentum": momentum}
    whole, _, _ = run(comm, (12,), **options)
    parts, _, _ = run(comm, (7, 5), **options)
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-10)
    assert np.abs(np.diff(whole, axis=0)).max(axis=1).min() > 1e-6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tao_lm_space": "rows"}, "choose from auto, parameters, samples"),
        ({"tao_lm_sketch": "rows"}, "choose from auto, none, pairs"),
        ({"tao_lm_damping": -1.0}, "-tao_lm_damping -1: it must be above 0"),
        ({"tao_lm_max_trials": 0}, "-tao_lm_max_trials 0"),
        ({"tao_lm_momentum": 1.0}, "-tao_lm_momentum 1: it must be at least 0 and below 1"),
    ],
)
def test_a_senseless_option_is_refused(comm, options, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **options)
    assert sentence in str(caught.value.__cause__ or caught.value)
