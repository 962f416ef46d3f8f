"""The self-scaled Broyden family: steps and H computed once more by the formulas, failures, restart, moved points."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import LINEAR, TWO_TERMS, least_squares_minimum, start, system_of

from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.evaluator import Value
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.self_scaled_broyden import SelfScaledBroyden
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = TWO_TERMS


def run(comm, lengths=(6,), case=CASE, theta=None, memory=None, points=None, **options):
    """All iterates (k, n), the outcome, the memory and the counters of segments, each by a new solver."""
    for key, value in {"tao_type": "ssbroyden", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position = [], memory or {}, 0
    outcome, counters = NOTHING_LEFT, None
    theta = start(case.build()) if theta is None else theta
    for length, interior in zip(lengths, points or [9] * len(lengths), strict=True):
        system = system_of(case.build(comm, interior=interior))
        solver = TaoSolver(system, "", GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, solver.points_moved(memory))
        position, theta, counters = position + length, system.layout.gather(x).copy(), system.evaluator.counters
        solver.destroy()
    return np.array(iterates), outcome, memory, counters


def square(memory):
    """H (n, n)."""
    flat = memory["inverse"][0]
    size = round(len(flat) ** 0.5)
    return flat.reshape(size, size)


def updated(inverse, step, change, curvature, update):
    """H after a pair, with yᵀs, yᵀH y, … as the papers write them; bfgs by the product form of scaled H."""
    rho = 1.0 / (change @ step)
    b, h = curvature * rho, (change @ inverse @ change) * rho
    if update == "bfgs":
        factor = np.eye(len(step)) - rho * np.outer(step, change)
        return factor @ (inverse / min(1.0, 1.0 / b)) @ factor.T + rho * np.outer(step, step)
    a = b * h - 1.0
    rho_minus = min(1.0, h * (1.0 - np.sqrt(a / (1.0 + a))))
    theta = max((rho_minus - 1.0) / a, min(1.0 / rho_minus, (1.0 - b) / b))
    sigma = 1.0 + a * theta
    root = sigma ** (1.0 / (1.0 - len(step)))
    tau = min(min(1.0, 1.0 / b) * root, sigma) if theta <= 0.0 else min(1.0, 1.0 / b) * min(root, 1.0 / theta)
    phi, image = (1.0 - theta) / sigma, inverse @ change
    v = np.sqrt(change @ image) * (step * rho - image / (change @ image))
    scaled = (inverse - np.outer(image, image) / (change @ image) + phi * np.outer(v, v)) / tau
    return scaled + rho * np.outer(step, step)


def replayed(iterates, update, evaluators=None):
    """H of the formulas along given iterates; asserts that each lies along −H ∇φ of the one before it."""
    inverse = np.eye(iterates.shape[1])
    evaluators = evaluators or [CASE.build()] * (len(iterates) - 1)
    for k, evaluator in enumerate(evaluators):
        slope = evaluator.objective_gradient(iterates[k])[1].copy()
        change = evaluator.objective_gradient(iterates[k + 1])[1] - slope
        step, direction = iterates[k + 1] - iterates[k], -inverse @ slope
        length = (step @ direction) / (direction @ direction)
        np.testing.assert_allclose(step, length * direction, rtol=0.0, atol=1e-8 * np.abs(step).max())
        curvature = step @ np.linalg.solve(inverse, step)
        inverse = updated(inverse, step, change, curvature, update)
    return inverse


@pytest.mark.parametrize("update", ["broyden", "bfgs"])
def test_steps_and_inverse_are_those_of_the_formulas(comm, update):
    iterates, _, memory, _ = run(comm, (12,), tao_ssbroyden_update=update)
    inverse = square(memory)
    expected = replayed(iterates, update)
    np.testing.assert_allclose(inverse, expected, rtol=0.0, atol=1e-7 * np.abs(expected).max())
    np.testing.assert_allclose(inverse, inverse.T, rtol=0.0, atol=1e-12 * np.abs(inverse).max())
    assert np.linalg.eigvalsh(inverse).min() > 0.0


@pytest.mark.parametrize("update", ["broyden", "bfgs"])
def test_the_secant_equation_holds_for_the_last_pair(comm, update):
    iterates, _, memory, _ = run(comm, (8,), tao_ssbroyden_update=update)
    evaluator = CASE.build()
    before, after = (evaluator.objective_gradient(theta)[1].copy() for theta in iterates[-2:])
    step = iterates[-1] - iterates[-2]
    np.testing.assert_allclose(square(memory) @ (after - before), step, rtol=0.0, atol=1e-9 * np.abs(step).max())


def test_the_updates_differ_and_both_scale(comm):
    paths = {update: run(comm, (8,), tao_ssbroyden_update=update)[0] for update in ("broyden", "bfgs")}
    assert np.abs(paths["broyden"][-1] - paths["bfgs"][-1]).max() > 1e-3
    with pytest.raises(AssertionError):  # without the factor τ the steps go elsewhere
        replayed(paths["bfgs"], "broyden")


@pytest.mark.parametrize("b", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("h", [0.3, 1.0, 1e3])
def test_the_factors_keep_the_inverse_positive_definite_where_s_and_hy_are_parallel(comm, b, h):
    if b * h < 1.0:  # Cauchy–Schwarz: bh ≥ 1
        h = 1.0 / b
    tau, phi = SelfScaledBroyden()._factors(b, h, 20)
    assert 0.0 < tau <= 1.0
    assert np.isfinite(phi)
    assert 1.0 + phi * (b * h - 1.0) > 0.0


@pytest.mark.parametrize("update", ["broyden", "bfgs"])
def test_a_quadratic_is_solved_in_as_many_steps_as_it_has_parameters(comm, update):
    """With exact searches the directions are conjugate, whatever τ and φ."""
    options = {"tao_ls_gtol": 1e-7, "tao_ls_max_funcs": 100, "tao_ssbroyden_update": update}
    evaluator = LINEAR.build()
    size = evaluator.parameters.size
    iterates, _, _, _ = run(comm, (size,), case=LINEAR, **options)
    errors = np.abs(iterates - least_squares_minimum()).max(axis=1)
    assert errors[-1] < 1e-6  # the search is exact to 1e-7
    assert errors[-2] > 1e-4


def test_an_iteration_costs_the_evaluations_of_its_search(comm):
    _, _, _, counters = run(comm, (20,))
    assert counters.objective == 0
    assert 21 <= counters.gradient <= 61


def test_without_a_descent_direction_it_starts_again_from_the_identity(comm):
    size = CASE.build().parameters.size
    whole, _, memory, _ = run(comm, (5,))
    again, _, after, _ = run(comm, (5,), memory={"inverse": [-np.eye(size).reshape(-1)]})
    np.testing.assert_allclose(again, whole, rtol=0.0, atol=1e-12)
    np.testing.assert_allclose(square(after), square(memory), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(("sign", "same", "fresh"), [(1.0, False, False), (-1.0, True, False), (1.0, True, True)])
def test_a_pair_that_would_spoil_the_inverse_is_not_learned(comm, sign, same, fresh):
    """yᵀs < 0: H stays. yᵀH y < 0, which only rounding brings about: H = I."""
    layout = system_of(LINEAR.build(comm)).layout
    tao = PETSc.TAO().create(comm)
    tao.setSolution(layout.create_vec())
    method = SelfScaledBroyden()
    method.setUp(tao)
    inverse = (-3.0 if fresh else 3.0) * np.eye(layout.size)
    method.restore(layout, {"inverse": [inverse.reshape(-1)]})
    step, change = layout.vec_from(np.arange(1.0, 8.0)), layout.vec_from(sign * np.arange(2.0, 9.0))
    before = layout.vec_from(-np.arange(1.0, 8.0) / 140.0)  # −sᵀ∇φ = 1
    method.learn(step, change, before, 1.0)
    assert (method.save(layout) == {}) == fresh
    if not fresh:
        assert np.array_equal(square(method.save(layout)), inverse) == same
    method.destroy(tao)
    tao.destroy()


def test_it_ends_where_no_step_descends_and_leaves_the_point(comm):
    theta = 3.0 * start(CASE.build())  # where a step of length one along −∇φ goes up
    iterates, outcome, memory, counters = run(comm, (50,), theta=theta, tao_ls_max_funcs=1)
    assert (outcome.reason, outcome.iterations, counters.gradient) == ("DIVERGED_LS_FAILURE", 0, 2)
    assert np.array_equal(iterates, [theta])
    assert memory == {}


def test_it_comes_back_from_where_the_objective_is_infinite(comm, monkeypatch):
    """φ = +inf with a zero gradient is what an evaluator gives where a residual overflows."""
    theta, whole = start(CASE.build()), Evaluator.objective_gradient

    def limited(self, other):
        value, gradient = whole(self, other)
        if np.array_equal(other, theta):
            return value, gradient
        return Value(np.inf, value.terms), np.zeros_like(gradient)

    monkeypatch.setattr(Evaluator, "objective_gradient", limited)
    iterates, outcome, _, _ = run(comm, (20,))
    assert outcome.reason == "DIVERGED_LS_FAILURE"
    assert np.array_equal(iterates, [theta])


def test_a_limit_of_evaluations_is_kept(comm):
    _, outcome, _, counters = run(comm, (50,), tao_max_funcs=9)
    assert outcome.reason == "DIVERGED_MAXFCN"
    assert counters.gradient < 20


def test_a_restart_continues(comm):
    whole, _, _, _ = run(comm, (14,))
    parts, _, _, _ = run(comm, (8, 6))
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-9)
    assert np.abs(np.diff(whole, axis=0)).max(axis=1).min() > 1e-6


def test_no_pair_spans_a_move_of_the_points(comm):
    """H goes on as it was; the first pair on the new points is of two gradients there."""
    iterates, _, memory, _ = run(comm, (5, 4), points=(9, 12))
    old, new = CASE.build(interior=9), CASE.build(interior=12)
    expected = replayed(iterates, "broyden", [old] * 5 + [new] * 4)
    np.testing.assert_allclose(square(memory), expected, rtol=0.0, atol=1e-7 * np.abs(expected).max())


def test_there_is_nothing_to_remember_before_the_first_step(comm):
    assert run(comm, (0,))[2] == {}


def test_an_update_that_does_not_exist_is_refused(comm):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), tao_ssbroyden_update="dfp")
    assert "-tao_ssbroyden_update dfp: choose from broyden, bfgs" in str(caught.value.__cause__ or caught.value)


def test_the_settings_are_shown(comm, capfd):
    PETSc.Options()["tao_view"] = None
    run(comm, (1,), tao_ssbroyden_update="bfgs")
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert "Self-scaled Broyden: update=bfgs" in shown
