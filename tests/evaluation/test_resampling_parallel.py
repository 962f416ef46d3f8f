"""Points that follow the residual: the same on any number of ranks, and nobody goes on with the old ones."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, Case, Toy, points_of, samples_of, start

from pescitrain.evaluation.resampling import ResidualResampling
from pescitrain.problem import Dirichlet, Residual

pytestmark = pytest.mark.parallel

# The residual is that of the network plus a peak at the origin, fifty times as large.
PEAK = Case(lambda: Toy([Residual(lambda u, x, y: u + 50 * (-20 * (x**2 + y**2)).exp()), Dirichlet(0.0)]))


def moved(comm, case=PEAK, power=1.0, uniform=1.0, round=1, seed=0, interior=400, theta=None):
    evaluator = case.build(comm, chunk_size=50, interior=interior)
    theta = start(evaluator) if theta is None else theta
    ResidualResampling(samples_of(evaluator, seed), 1, power, uniform).refresh(theta, round)
    return evaluator, theta


def radius(evaluator):
    return np.linalg.norm(points_of(evaluator).x, axis=1)


def test_points_gather_where_the_residual_is_large(comm):
    near = [np.mean(radius(moved(comm, power=power)[0]) < 0.3) for power in (0.0, 1.0, 2.0)]
    # A disc of radius 0.3 has 7 % of the square; more than 400 points there are not among the 1600 candidates.
    assert 0.04 < near[0] < 0.11
    assert near[1] > 2 * near[0]
    assert near[2] > near[1]


def test_a_large_uniform_part_leaves_them_uniform(comm):
    assert 0.04 < np.mean(radius(moved(comm, uniform=1e6)[0]) < 0.3) < 0.11


def test_they_are_the_same_for_any_number_of_ranks(comm):
    shared, theta = moved(comm)
    serial, _ = moved(MPI.COMM_SELF, theta=theta)
    for term in range(len(serial.samples)):
        one, other = points_of(shared, term), points_of(serial, term)
        assert np.array_equal(one.x, other.x)
        assert np.array_equal(one.weights, other.weights)
    assert shared.objective(theta).objective == pytest.approx(serial.objective(theta).objective, rel=1e-12)


def test_number_and_measure_stay_and_boundaries_keep_their_points(comm):
    before, (after, _) = PEAK.build(comm, interior=400), moved(comm)
    inside = points_of(after)
    assert len(inside) == after.samples[0].count == before.samples[0].count
    assert inside.measure == pytest.approx(4.0)
    assert len(np.unique(inside.x, axis=0)) == len(inside)
    assert np.abs(inside.x).max() <= 1.0
    assert np.array_equal(after.samples[1].points.x, before.samples[1].points.x)


def test_the_round_and_the_seed_choose_them(comm):
    first, again, second, other = (
        points_of(moved(comm, round=r, seed=s)[0]).x for r, s in ((1, 0), (1, 0), (2, 0), (1, 5))
    )
    assert np.array_equal(first, again)
    assert not np.isin(first, second).any()
    assert not np.isin(first, other).any()


def test_what_was_known_at_the_old_points_is_forgotten(comm):
    evaluator = PEAK.build(comm, chunk_size=50, interior=400)
    theta = start(evaluator)
    old = evaluator.objective(theta).objective
    ResidualResampling(samples_of(evaluator), 1, 2.0, 0.0).refresh(theta, 1)
    rows = evaluator.residual(theta)
    new = evaluator.objective(theta).objective
    assert new == pytest.approx(0.5 * comm.allreduce(float(rows @ rows)), rel=1e-12)
    assert new > 2 * old


def test_the_pass_over_the_candidates_is_counted(comm):
    evaluator, _ = moved(comm, interior=400)
    inside, boundary = (samples.count for samples in evaluator.samples)
    assert evaluator.counters.closures == pytest.approx(4 * inside / (inside + boundary))


def test_a_residual_elsewhere_is_that_of_the_term_without_its_scale(comm):
    evaluator = CASES["two rows"].build(comm)
    theta = start(evaluator)
    samples = evaluator.samples[0]
    rows = evaluator.residual_at(theta, samples, samples.points.x)
    scale = np.sqrt(samples.term.weight * samples.points.weights / samples.measure)
    expected = evaluator.residual(theta)[: rows.size].reshape(rows.shape)
    np.testing.assert_allclose(rows * scale[:, None], expected, rtol=1e-12, atol=1e-13)
    assert evaluator.residual_at(theta, samples, np.zeros((0, 2))).shape == (0, 2)


def test_where_the_residual_vanishes_nobody_is_drawn_without_a_uniform_part(comm):
    half = Case(lambda: Toy([Residual(lambda u, x: u * 0 + x.clamp(min=0.0))]))
    evaluator, _ = moved(comm, half, uniform=0.0)
    assert points_of(evaluator).x[:, 0].min() > 0.0
