"""Weights of samples: by their residuals, and by what is solved before them."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, Case, Toy, gather_points, points_of, samples_of, start

from pescitrain.evaluation.attention import ResidualAttention
from pescitrain.evaluation.causality import CausalWeights
from pescitrain.evaluation.refinement import ResidualRefinement
from pescitrain.problem import Initial, Residual

pytestmark = pytest.mark.parallel

EVOLUTION = Case(
    lambda: Toy(
        [
            Residual(lambda u, t: (u.t - u.xx + 2 * t, u * u), name="first", weight=2.0),
            Residual(lambda u: u.x - 1, name="second"),
            Initial(0.0),
        ],
        coordinates=("x", "t"),
    )
)


def sizes(evaluator, theta):
    """‖r‖ of each sample of the equations, from the rows of the linearization's residual without any weight."""
    serial = EVOLUTION.build(MPI.COMM_SELF, interior=60, chunk_size=9)
    rows, result = serial.residual(theta), []
    for samples, weight in zip(serial.samples[:2], (2.0, 1.0), strict=True):
        part, rows = np.split(rows, [samples.count * samples.rows])
        result.append(np.linalg.norm(part.reshape(-1, samples.rows), axis=1) / np.sqrt(weight / samples.count))
    return result


def build(comm):
    evaluator = EVOLUTION.build(comm, interior=60, chunk_size=9)
    return evaluator, start(evaluator)


def assert_weighted(evaluator, theta, weights):
    """The objective is the mean of the squares, each times its weight; conditions have none."""
    plain, _ = build(MPI.COMM_SELF)
    found, unweighted = evaluator.objective(theta).terms, plain.objective(theta).terms
    for term, (size, weight, factor) in enumerate(zip(sizes(evaluator, theta), weights, (2.0, 1.0), strict=True)):
        assert found[term] == pytest.approx(0.5 * factor * np.mean(weight * size**2), rel=1e-12)
    assert found[2] == pytest.approx(unweighted[2], rel=1e-12)


def test_attention_follows_its_recursion(comm):
    evaluator, theta = build(comm)
    method = ResidualAttention(samples_of(evaluator, chunk_size=9), 1, 0.8, 0.3)
    shares = [size / size.max() for size in sizes(evaluator, theta)]
    method.refresh(theta, 1)
    once = [0.8 + 0.3 * share for share in shares]
    assert_weighted(evaluator, theta, [weight**2 for weight in once])
    method.refresh(theta, 2)
    twice = [0.8 * weight + 0.3 * share for weight, share in zip(once, shares, strict=True)]
    assert_weighted(evaluator, theta, [weight**2 for weight in twice])


def test_the_gradient_is_that_of_the_weighted_objective(comm):
    evaluator, theta = build(comm)
    ResidualAttention(samples_of(evaluator, chunk_size=9), 1, 0.5, 0.5).refresh(theta, 1)
    linearization = evaluator.linearize(theta)
    expected = linearization.transpose_times(linearization.residual)
    value, gradient = evaluator.objective_gradient(theta)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-13)
    squares = comm.allreduce(float(linearization.residual @ linearization.residual))
    assert value.objective == pytest.approx(0.5 * squares, rel=1e-12)


def test_a_pass_over_the_equations_is_counted(comm):
    evaluator, theta = build(comm)
    ResidualAttention(samples_of(evaluator), 1, 0.5, 0.5).refresh(theta, 1)
    assert evaluator.counters.closures == pytest.approx(120 / (120 + evaluator.samples[2].count))


def test_points_that_are_added_start_with_the_weight_one(comm):
    evaluator, theta = build(comm)
    samples = samples_of(evaluator)
    ResidualAttention(samples, 1, 0.5, 0.4).refresh(theta, 1)
    before = gather_points(evaluator.samples[0], comm)[1]
    ResidualRefinement(samples, 1, 8, 100).refresh(theta, 1)
    after = gather_points(evaluator.samples[0], comm)[1]
    assert np.array_equal(after[:60], before)
    assert np.array_equal(after[60:], np.ones(8))


def causal(evaluator, slices, tolerances):
    return CausalWeights(samples_of(evaluator, chunk_size=9), 1, 1, 0.0, 1.0, slices, tolerances)


def expected_weights(evaluator, theta, slices, tolerance):
    """By the formula, sample by sample."""
    places, losses = [], np.zeros(slices)
    for term, (size, factor) in enumerate(zip(sizes(evaluator, theta), (2.0, 1.0), strict=True)):
        place = np.minimum((points_of(evaluator, term).x[:, 1] * slices).astype(int), slices - 1)
        losses += factor * np.array([np.mean(size[place == k] ** 2) for k in range(slices)])
        places.append(place)
    return [np.exp(-tolerance * np.array([losses[:k].sum() for k in place])) for place in places]


def test_causal_weights_follow_their_formula(comm):
    evaluator, theta = build(comm)
    weights = expected_weights(evaluator, theta, 5, 0.1)
    causal(evaluator, 5, (0.1,)).refresh(theta, 1)
    assert_weighted(evaluator, theta, weights)
    assert weights[0].max() == 1.0
    assert weights[0].min() < 0.5


def test_the_first_tolerance_that_still_tells_early_from_late_is_taken(comm):
    for tolerances, taken in (((1e-9, 0.1, 1.0), 0.1), ((1e-9, 1e-8), 1e-8), ((0.2, 1.0), 0.2)):
        evaluator, theta = build(comm)
        causal(evaluator, 4, tolerances).begin(theta)
        assert_weighted(evaluator, theta, expected_weights(evaluator, theta, 4, taken))


def test_a_slice_without_points_has_no_loss(comm):
    evaluator, theta = build(comm)
    causal(evaluator, 1000, (1.0,)).refresh(theta, 1)
    assert np.isfinite(evaluator.objective(theta).objective)


def test_they_are_the_same_for_any_number_of_ranks(comm):
    theta = build(comm)[1]
    for make in (lambda e: causal(e, 5, (0.1,)), lambda e: ResidualAttention(samples_of(e), 1, 0.9, 0.1)):
        evaluators = [build(c)[0] for c in (comm, MPI.COMM_SELF)]
        for evaluator in evaluators:
            make(evaluator).refresh(theta, 1)
        shared, serial = (evaluator.objective(theta).objective for evaluator in evaluators)
        assert shared == pytest.approx(serial, rel=1e-12)


def test_a_residual_elsewhere_has_no_weight(comm):
    evaluator, theta = build(comm)
    samples = samples_of(evaluator)
    points = evaluator.samples[0].points.x
    before = samples.residual_size(theta, evaluator.samples[0], points)
    ResidualAttention(samples, 1, 0.5, 0.1).refresh(theta, 1)
    # The order of sums in a product of matrices depends on where the memory lies.
    np.testing.assert_allclose(samples.residual_size(theta, evaluator.samples[0], points), before, rtol=1e-13)


def test_periodic_partners_stay(comm):
    evaluator = CASES["wave, periodic term"].build(comm)
    theta = start(evaluator)
    partners = evaluator.samples[2].partners
    ResidualAttention(samples_of(evaluator), 1, 0.5, 0.5).refresh(theta, 1)
    assert np.array_equal(evaluator.samples[2].partners, partners)
