"""Points that are drawn anew for every term."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, points_of, samples_of, start

from pescitrain.evaluation.resampling import FreshPoints

pytestmark = pytest.mark.parallel


def redrawn(comm, name, round=1, seed=0, theta=None):
    evaluator = CASES[name].build(comm, interior=40, boundary=20)
    FreshPoints(samples_of(evaluator, seed, chunk_size=7), 1).refresh(start(evaluator), round)
    return evaluator


def test_all_terms_but_data_get_as_many_new_points_on_the_same_places(comm):
    for name in ("poisson", "inverse", "wave, periodic term"):
        before, after = CASES[name].build(comm, interior=40, boundary=20), redrawn(comm, name)
        for term, (old, new) in enumerate(zip(before.samples, after.samples, strict=True)):
            first, second = points_of(before, term), points_of(after, term)
            assert len(second) == len(first)
            if new.term.place == "points":
                assert np.array_equal(second.x, first.x)
                continue
            assert not np.isin(first.x, second.x).all(axis=1).any()
            assert second.measure == pytest.approx(first.measure)
            if first.normals is not None and len(np.unique(first.normals, axis=0)) == 1:
                assert np.array_equal(second.normals, first.normals)
            if old.partners is not None:
                np.testing.assert_allclose(new.partners - new.points.x, old.partners - old.points.x, atol=1e-15)


def test_the_round_and_the_seed_choose_them(comm):
    first, again, second, other = (
        points_of(redrawn(comm, "poisson", r, s)).x for r, s in ((1, 0), (1, 0), (2, 0), (1, 5))
    )
    assert np.array_equal(first, again)
    assert not np.isin(first, second).any()
    assert not np.isin(first, other).any()


def test_they_are_the_same_for_any_number_of_ranks_and_cost_nothing(comm):
    for name in ("poisson", "wave, periodic term"):
        shared, serial = redrawn(comm, name), redrawn(MPI.COMM_SELF, name)
        assert shared.counters.closures == 0
        theta = start(shared)
        assert shared.objective(theta).objective == pytest.approx(serial.objective(theta).objective, rel=1e-12)
