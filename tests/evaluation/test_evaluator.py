"""φ, its gradient, and what an evaluation costs."""

import numpy as np
import pytest
import torch
from toys import CASES, Case, Toy, jacobian_by_torch, opaque, random_vector, residual_by_torch, start

from pescitrain.errors import EvaluationError
from pescitrain.evaluation import Counters
from pescitrain.problem import Dirichlet, Residual, Unknown

# Two orders of summation of a few dozen terms, each up to 1e2 times the result.
ROUND_OFF = 1e-12


def close(one, other, scale=None, tolerance=ROUND_OFF):
    scale = np.abs(other).max() if scale is None else scale
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize("name", CASES)
def test_the_residual_is_that_of_nested_differentiation_at_each_point(name):
    evaluator = CASES[name].build()
    theta = start(evaluator)
    expected = residual_by_torch(evaluator, torch.from_numpy(theta)).detach().numpy()
    residual = evaluator.residual(theta)
    assert residual.shape == (evaluator.residual_count,)
    close(residual, expected)


@pytest.mark.parametrize("name", [name for name in CASES if name != "classes"])
def test_the_objective_is_half_the_square_of_the_residual_term_by_term(name):
    evaluator = CASES[name].build()
    assert evaluator.quadratic
    theta = start(evaluator)
    residual, value = evaluator.residual(theta), evaluator.objective(theta)
    assert value.objective == pytest.approx(0.5 * float(residual @ residual), rel=1e-13)
    counts = [len(s.points) * s.rows for s in evaluator.samples]
    parts = np.split(residual, np.cumsum(counts)[:-1])
    close(value.terms, np.array([0.5 * part @ part for part in parts]))
    assert evaluator.term_names == [s.term.label for s in evaluator.samples]


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_the_transposed_jacobian_times_the_residual(name):
    evaluator = CASES[name].build()
    theta = start(evaluator)
    value, gradient = evaluator.objective_gradient(theta)
    residual = residual_by_torch(evaluator, torch.from_numpy(theta)).detach().numpy()
    close(gradient, jacobian_by_torch(evaluator, theta).T @ residual)
    fresh = CASES[name].build().objective(theta)
    close(value.terms, fresh.terms)


@pytest.mark.parametrize("name", CASES)
def test_the_taylor_remainder_of_the_objective_falls_with_the_square_of_the_step(name):
    evaluator = CASES[name].build()
    theta = start(evaluator)
    direction = random_vector(len(theta))
    value, gradient = evaluator.objective_gradient(theta)
    steps = 1e-4 * 0.5 ** np.arange(4)
    remainders = [
        abs(evaluator.objective(theta + h * direction).objective - value.objective - h * gradient @ direction)
        for h in steps
    ]
    slopes = np.diff(np.log(remainders)) / np.diff(np.log(steps))
    np.testing.assert_allclose(slopes, 2.0, rtol=0.0, atol=0.05)  # the next term is below 1e-2 of this one


@pytest.mark.parametrize("name", CASES)
def test_an_opaque_module_gives_the_same_objective_and_gradient(name):
    plain, hidden = CASES[name].build(), CASES[name].build(wrap=opaque)
    theta = start(plain)
    value, gradient = plain.objective_gradient(theta)
    other, other_gradient = hidden.objective_gradient(_reordered(plain, hidden, theta))
    assert other.objective == pytest.approx(value.objective, rel=ROUND_OFF)
    close(_reordered(hidden, plain, other_gradient), gradient)


def _reordered(source, target, vector):
    """A vector in the order of another evaluator, whose networks may group their parameters differently."""
    at = {entry.name.replace(".inner.", "."): entry for entry in source.parameters.entries}
    parts = [at[entry.name.replace(".inner.", ".")] for entry in target.parameters.entries]
    return np.concatenate([vector[entry.start : entry.stop] for entry in parts])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
def test_the_size_of_the_chunks_does_not_matter(name, chunk_size):
    reference, evaluator = CASES[name].build(), CASES[name].build(chunk_size=chunk_size)
    theta = start(reference)
    (one, first), (other, second) = (e.objective_gradient(theta) for e in (reference, evaluator))
    assert other.objective == pytest.approx(one.objective, rel=ROUND_OFF)
    close(second, first)
    close(evaluator.residual(theta), reference.residual(theta))


def test_the_objective_of_a_constant_network_is_the_weighted_mean_by_hand():
    """u = c everywhere: φ = ½ (3 mean (c − x)² + 0.5 (c − 2)²) with the points of the box."""
    terms = [Residual(lambda u, x: u - x, weight=3.0), Dirichlet(2.0, on="boundary", weight=0.5)]
    evaluator = Case(lambda: Toy(terms)).build(interior=16)
    theta = np.zeros(evaluator.parameters.size)
    theta[-1] = 0.75  # the bias of the output
    x = evaluator.samples[0].points.x[:, 0]
    value = evaluator.objective(theta)
    close(value.terms, [1.5 * ((0.75 - x) ** 2).mean(), 0.25 * 1.25**2], scale=1.0, tolerance=1e-14)


def test_a_weight_of_zero_watches_a_term_without_training_it():
    terms = [Residual(lambda u: u.x + 1), Dirichlet(5.0, on="x_min", weight=0.0)]
    evaluator = Case(lambda: Toy(terms)).build()
    alone = Case(lambda: Toy(terms[:1])).build()
    (value, gradient), (other, other_gradient) = (e.objective_gradient(start(alone)) for e in (evaluator, alone))
    assert value.objective == other.objective
    assert np.array_equal(gradient, other_gradient)


# ------------------------------------------------------------------------------------------------------- what it costs


def counts(evaluator):
    c = evaluator.counters
    return c.objective, c.gradient, c.linearization, c.jvp, c.vjp


def test_evaluations_are_counted_and_a_second_one_at_the_same_point_is_free():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    value = evaluator.objective(theta)
    assert counts(evaluator) == (1, 0, 0, 0, 0)
    assert evaluator.objective(theta.copy()) is value
    assert counts(evaluator) == (1, 0, 0, 0, 0)
    with_gradient, gradient = evaluator.objective_gradient(theta)
    assert counts(evaluator) == (1, 1, 0, 0, 0)
    assert evaluator.objective_gradient(theta)[1] is gradient
    assert evaluator.objective(theta) is with_gradient
    assert counts(evaluator) == (1, 1, 0, 0, 0)
    evaluator.objective(theta + 1.0)
    assert counts(evaluator) == (2, 1, 0, 0, 0)
    assert evaluator.objective_gradient(theta)[1] is gradient  # a monitor or a line search has been elsewhere
    evaluator.objective_gradient(theta + 1.0)
    assert counts(evaluator) == (2, 2, 0, 0, 0)
    assert evaluator.counters.closures == 4


def test_only_the_last_few_points_are_kept():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    for k in range(5):
        evaluator.objective(theta + k)
    for k in range(1, 5):
        evaluator.objective(theta + k)
    assert evaluator.counters.objective == 5
    evaluator.objective(theta)
    assert evaluator.counters.objective == 6


def test_a_point_that_is_evaluated_again_is_a_recent_one():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    for k in range(4):
        evaluator.objective(theta + k)
    evaluator.objective_gradient(theta)
    evaluator.objective(theta + 4)
    evaluator.objective_gradient(theta)
    assert counts(evaluator) == (5, 1, 0, 0, 0)


def test_residuals_and_linearizations_are_counted_on_their_own():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    evaluator.residual(theta)
    assert counts(evaluator) == (1, 0, 0, 0, 0)
    linearization = evaluator.linearize(theta)
    assert counts(evaluator) == (1, 0, 1, 0, 0)
    linearization.times(theta)
    linearization.transpose_times(linearization.residual)
    linearization.gauss_newton_times(theta)
    linearization.dense()
    linearization.gauss_newton_diagonal()
    assert counts(evaluator) == (1, 0, 1, 2, 2)


def test_the_cache_knows_the_point_and_not_only_that_there_is_one():
    evaluator, fresh = CASES["poisson"].build(), CASES["poisson"].build()
    theta = start(evaluator)
    evaluator.objective_gradient(theta)
    moved = theta + 0.1
    expected = fresh.objective_gradient(moved)[1]
    evaluator.objective(moved)
    close(evaluator.objective_gradient(moved)[1], expected)
    evaluator.linearize(theta)
    close(evaluator.objective_gradient(theta)[1], fresh.objective_gradient(theta)[1])
    buffer = theta.copy()
    evaluator.objective(buffer)
    buffer += 0.1  # the caller's array is not the evaluator's memory
    assert evaluator.objective(buffer).objective == pytest.approx(fresh.objective(moved).objective, rel=ROUND_OFF)


def test_an_evaluation_leaves_the_networks_at_its_point():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    for evaluate in (evaluator.objective, evaluator.objective_gradient, evaluator.residual, evaluator.linearize):
        evaluator.parameters.values.zero_()
        evaluate(theta + 0.1)
        assert np.array_equal(evaluator.parameters.values.numpy(), theta + 0.1), evaluate
        theta = theta + 0.01


def test_time_in_torch_is_summed():
    evaluator = CASES["poisson"].build()
    assert evaluator.arithmetic.seconds == 0.0
    evaluator.objective(start(evaluator))
    first = evaluator.arithmetic.seconds
    evaluator.linearize(start(evaluator))
    assert 0.0 < first < evaluator.arithmetic.seconds


def test_counters_continue_from_what_was_saved():
    counters = Counters(objective=2.5, gradient=3.0, linearization=1.0, jvp=4.0, vjp=5.0, krylov=6, overlapped=1.5)
    saved = counters.as_dict()
    counts = {"objective": 2.5, "gradient": 3, "linearization": 1, "jvp": 4, "vjp": 5, "krylov": 6}
    assert saved == {**counts, "overlapped": 1.5}
    assert [type(saved[key]) for key in ("objective", "gradient")] == [float, int]
    other = Counters()
    other.restore(saved)
    assert other == counters
    assert (other.closures, other.closures_depth) == (5.5, 4.0)


def test_of_what_is_spent_side_by_side_the_longest_counts_for_the_depth():
    counters = Counters(gradient=2.0)
    counters.add(Counters(gradient=1.0, krylov=3))
    counters.add_concurrent([Counters(gradient=4.0), Counters(objective=1.0, gradient=6.0), Counters()])
    assert (counters.closures, counters.closures_depth, counters.krylov) == (14.0, 10.0, 3)


# ------------------------------------------------------------------------------------------------------ what goes wrong


def square_root(switch=None):
    """A residual that is NaN where u + a < 0, and fails where ``switch`` says so."""

    def residual(u, a):
        if switch is not None and switch.get("fail"):
            raise ValueError("no such material")
        return torch.sqrt(u + a)

    problem = Toy([Residual(residual)], unknowns={"a": Unknown(50.0)})
    return Case(lambda: problem).build()


def test_a_value_that_is_not_finite_is_infinity_with_a_zero_gradient():
    evaluator = square_root()
    theta = start(evaluator)
    good = evaluator.objective_gradient(theta)[1].copy()
    bad = theta.copy()
    bad[-1] = -50.0
    assert evaluator.objective(bad).objective == np.inf
    value, gradient = evaluator.objective_gradient(bad)
    assert value.objective == np.inf
    assert not gradient.any()
    assert evaluator.objective(bad).objective == np.inf
    assert np.array_equal(evaluator.objective_gradient(theta)[1], good)
    assert evaluator.objective(np.full_like(theta, np.nan)).objective == np.inf


def test_a_finite_value_with_a_gradient_that_is_not_finite_counts_as_infinite():
    problem = Toy([Residual(lambda u, a: torch.sqrt(a) + 0.0 * u)], unknowns={"a": Unknown(1.0)})
    evaluator = Case(lambda: problem).build()
    theta = start(evaluator)
    theta[-1] = 0.0
    assert evaluator.objective(theta).objective == 0.0
    value, gradient = evaluator.objective_gradient(theta)
    assert value.objective == np.inf
    assert not gradient.any()


def test_an_error_in_a_residual_says_where_it_happened_and_leaves_no_wrong_value_behind():
    switch = {}
    evaluator = square_root(switch)
    theta = start(evaluator)
    expected = evaluator.objective(theta).objective
    switch["fail"] = True
    for evaluate in (evaluator.objective, evaluator.objective_gradient, evaluator.residual, evaluator.linearize):
        with pytest.raises(
            EvaluationError, match=r"on rank 0: ValueError: no such material \(.*test_evaluator\.py:\d+\)"
        ):
            evaluate(theta + 0.1)
    assert evaluator.objective(theta).objective == expected
    switch["fail"] = False
    moved = evaluator.objective(theta + 0.1).objective
    assert np.isfinite(moved)
    assert moved != expected


def test_a_host_that_changes_a_coefficient_says_forget():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    before = evaluator.objective(theta).objective
    (samples,) = (s for s in evaluator.samples if s.term.place == "interior")
    for chunk in samples.chunks:
        chunk.scale.mul_(2.0)
    assert evaluator.objective(theta).objective == before
    evaluator.forget()
    assert evaluator.objective(theta).objective > before
