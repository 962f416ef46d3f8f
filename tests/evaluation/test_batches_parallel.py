"""Batches: an epoch sees every sample once, on any number of ranks, and their average is the whole."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, opaque, start

from pescitrain.evaluation.batches import Batches

pytestmark = pytest.mark.parallel

NAMES = ("poisson", "wave, periodic term", "inverse", "lifted", "classes")
FUNCTIONS = ("wave, periodic term", "inverse", "lifted", "classes")


def build(comm, name, size, seed=4, **how):
    evaluator = CASES[name].build(comm, interior=24, boundary=12, **how)
    evaluator.batches = Batches(evaluator.samples, evaluator.comm, size, seed)
    return evaluator


@pytest.mark.parametrize(
    ("name", "wrap"),
    [*((name, lambda make: make) for name in NAMES), *((name, opaque) for name in FUNCTIONS)],
    ids=[*(f"{name} by factors" for name in NAMES), *(f"{name} by functions" for name in FUNCTIONS)],
)
def test_a_batch_is_the_same_on_any_number_of_ranks_and_in_any_chunks(comm, name, wrap):
    shared, serial = build(comm, name, 5, wrap=wrap, chunk_size=5), build(MPI.COMM_SELF, name, 5, wrap=wrap)
    theta = start(serial)
    seen = set()
    for number in (0, 1, serial.batches.count, 30):
        for evaluator in (shared, serial):
            evaluator.batches.show(number)
        ours, alone = (evaluator.objective_gradient(theta) for evaluator in (shared, serial))
        assert ours[0].objective == pytest.approx(alone[0].objective, rel=1e-13)
        np.testing.assert_allclose(ours[1], alone[1], rtol=0.0, atol=1e-13 * np.abs(alone[1]).max())
        seen.add(alone[0].objective)
    assert len(seen) == 4  # they differ, and none is answered from what was known of another


@pytest.mark.parametrize("name", NAMES)
def test_the_batches_of_an_epoch_are_all_samples_once(comm, name):
    evaluator, whole = build(comm, name, 6), CASES[name].build(comm, interior=24, boundary=12)
    batches, theta = evaluator.batches, start(whole)
    for epoch in (0, 3):
        members = []
        for number in range(epoch * batches.count, (epoch + 1) * batches.count):
            batches.show(number)
            members.append([batches.members(term) for term in range(len(whole.samples))])
        for term, samples in enumerate(whole.samples):
            if samples.count >= batches.count:
                together = np.concatenate([batch[term] for batch in members])
                assert np.array_equal(np.sort(together), np.arange(samples.count))
            else:
                assert all(len(batch[term]) == 1 for batch in members)
    gradient = whole.objective_gradient(theta)[1]
    several = []
    for number in range(10 * batches.count):
        batches.show(number)
        several.append(evaluator.objective_gradient(theta)[1])
    deviation = np.std(several, axis=0) / np.sqrt(len(several))
    # equal parts up to one sample, whose scaling makes the mean over an epoch biased by less than its deviation
    # (of all batches, which are no independent draws: the mean of ten epochs is within 0.8 of it)
    assert (np.abs(np.mean(several, axis=0) - gradient) <= 2.5 * deviation + 1e-12).all()


def test_a_batch_is_charged_by_its_share_and_known_points_are_not_charged_again(comm):
    evaluator = build(comm, "poisson", 10)
    theta = start(evaluator)
    share = evaluator.batches.share
    assert share == pytest.approx(1.0 / (evaluator.batches.total // 10))
    evaluator.objective_gradient(theta)
    evaluator.objective_gradient(theta)
    evaluator.batches.show(1)
    evaluator.objective(theta)
    evaluator.batches.show(0)
    evaluator.objective_gradient(theta)
    assert (evaluator.counters.gradient, evaluator.counters.objective) == (share, share)


def test_what_is_known_of_a_batch_does_not_hold_for_one_of_another_size_or_overlap(comm):
    evaluator = build(comm, "poisson", 10)
    theta = start(evaluator)
    seen = [evaluator.objective(theta).objective]
    evaluator.batches.resize(20)
    seen.append(evaluator.objective(theta).objective)
    evaluator.batches.overlap = 0.5
    evaluator.batches.forget()
    seen.append(evaluator.objective(theta).objective)
    evaluator.batches.show(None)
    seen.append(evaluator.objective(theta).objective)
    assert len(set(seen)) == 4
    whole = CASES["poisson"].build(comm, interior=24, boundary=12)
    assert seen[3] == pytest.approx(whole.objective(theta).objective, rel=1e-13)


def test_a_batch_that_is_as_large_as_all_is_all(comm):
    evaluator, whole = build(comm, "classes", 100), CASES["classes"].build(comm)
    assert evaluator.batches.count == 1
    theta = start(whole)
    for number in (0, 5):
        evaluator.batches.show(number)
        np.testing.assert_allclose(
            evaluator.objective_gradient(theta)[1], whole.objective_gradient(theta)[1], rtol=0.0, atol=1e-15
        )
