"""Points that are added where the residual is large."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import Case, Toy, points_of, samples_of, start

from pescitrain.evaluation.refinement import ResidualRefinement
from pescitrain.problem import Dirichlet, Residual

pytestmark = pytest.mark.parallel

# The residual is that of the network plus a peak at the origin, fifty times as large.
PEAK = Case(lambda: Toy([Residual(lambda u, x, y: u + 50 * (-20 * (x**2 + y**2)).exp()), Dirichlet(0.0)]))


def refined(comm, rounds=1, count=30, limit=200, theta=None):
    evaluator = PEAK.build(comm, chunk_size=20, interior=100)
    theta = start(evaluator) if theta is None else theta
    method = ResidualRefinement(samples_of(evaluator), 1, count, limit)
    for round in range(1, rounds + 1):
        method.refresh(theta, round)
    return evaluator, theta


def test_the_candidates_with_the_largest_residual_are_added_and_the_others_stay(comm):
    before, (after, theta) = PEAK.build(comm, interior=100), refined(comm)
    old, new = points_of(before), points_of(after)
    assert len(new) == 130
    assert np.array_equal(new.x[:100], old.x)
    samples = samples_of(after)
    pool = samples.candidates(after.samples[0], 200, 1).whole()
    size = samples.residual_size(theta, after.samples[0], pool.x)
    largest = np.sort(np.linalg.norm(pool.x[np.argsort(-size)[:30]], axis=1))
    assert np.array_equal(np.sort(np.linalg.norm(new.x[100:], axis=1)), largest)
    assert largest.max() < 0.3


def test_the_objective_remains_a_mean_square_of_all_points(comm):
    evaluator, theta = refined(comm)
    inside = points_of(evaluator)
    assert inside.measure == pytest.approx(4.0)
    assert np.ptp(inside.weights) < 1e-15
    size = samples_of(evaluator).residual_size(theta, evaluator.samples[0], inside.x)
    assert evaluator.objective(theta).terms[0] == pytest.approx(0.5 * np.mean(size**2), rel=1e-12)


def test_boundaries_keep_their_points_and_a_limit_holds(comm):
    before, (after, _) = PEAK.build(comm), refined(comm, rounds=5)
    assert [refined(comm, rounds)[0].samples[0].count for rounds in (2, 3, 4, 5)] == [160, 190, 200, 200]
    assert np.array_equal(after.samples[1].points.x, before.samples[1].points.x)


def test_a_pass_over_the_candidates_is_counted_until_the_limit_is_reached(comm):
    evaluator, _ = refined(comm)
    others = evaluator.samples[1].count
    assert evaluator.counters.closures == pytest.approx(800 / (100 + others))
    evaluator, _ = refined(comm, limit=100)
    assert evaluator.counters.closures == 0


def test_they_are_the_same_for_any_number_of_ranks(comm):
    shared, theta = refined(comm, rounds=3)
    serial, _ = refined(MPI.COMM_SELF, rounds=3, theta=theta)
    assert np.array_equal(points_of(shared).x, points_of(serial).x)
    assert shared.objective(theta).objective == pytest.approx(serial.objective(theta).objective, rel=1e-12)
