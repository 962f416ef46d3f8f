"""The same numbers for any number of ranks, one reduction for each evaluation, and errors on all ranks."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from toys import CASES, Case, Toy, opaque, random_vector, start

from pescitrain.errors import EvaluationError
from pescitrain.evaluation.evaluator import raise_together
from pescitrain.problem import Residual, Unknown

pytestmark = pytest.mark.parallel

ROUND_OFF = 1e-12  # the order of summation over ranks, with cancelling terms up to 1e2 times the result


def close(one, other, tolerance=ROUND_OFF):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


FACTORS = (
    "poisson",
    "two networks",
    "wave, periodic term",
    "inverse",
    "mixed outputs",
    "beam of order four",
    "quantities",
    "subdomains, two levels",
    "subdomains, periodic term",
    "subdomains, inverse",
)
FUNCTIONS = ("wave, periodic term", "inverse", "quantities")


@pytest.mark.parametrize(
    ("name", "wrap"),
    [*((name, lambda make: make) for name in FACTORS), *((name, opaque) for name in FUNCTIONS)],
    ids=[*(f"{name} by factors" for name in FACTORS), *(f"{name} by functions" for name in FUNCTIONS)],
)
def test_values_gradients_and_products_are_those_of_one_rank(comm, name, wrap):
    serial, shared = CASES[name].build(wrap=wrap), CASES[name].build(comm, wrap=wrap, chunk_size=4)
    theta = start(serial)
    v = random_vector(len(theta))
    expected, value = serial.objective(theta), shared.objective(theta)
    assert value.objective == pytest.approx(expected.objective, rel=ROUND_OFF)
    close(value.terms, expected.terms)
    close(shared.objective_gradient(theta)[1], serial.objective_gradient(theta)[1])
    assert shared.residual_count == serial.residual_count
    one, other = serial.linearize(theta), shared.linearize(theta)
    assert comm.allreduce(other.rows) == one.rows
    # Rows are in another order on several ranks: an elementwise function of them is not.
    close(np.sort(np.concatenate(comm.allgather(shared.residual(theta)))), np.sort(serial.residual(theta)))
    close(np.sort(np.concatenate(comm.allgather(other.times(v)))), np.sort(one.times(v)))
    close(other.transpose_times(np.sin(10 * other.residual)), one.transpose_times(np.sin(10 * one.residual)))
    close(other.gauss_newton_times(v), one.gauss_newton_times(v))
    close(other.gauss_newton_diagonal(), one.gauss_newton_diagonal())


@pytest.mark.parametrize("name", ["two networks", "inverse"])
def test_blocks_are_summed_on_their_owners_and_nowhere_else(comm, name):
    serial, shared = CASES[name].build(), CASES[name].build(comm, chunk_size=4)
    theta = start(serial)
    sets = [np.arange(5), np.arange(3, 20), np.arange(len(theta)), np.array([0, 7])]
    owners = [k % comm.size for k in (0, 1, 2, 1)]
    blocks = shared.linearize(theta).gauss_newton_blocks(sets, owners)
    expected = serial.linearize(theta).gauss_newton_blocks(sets, [0] * 4)
    for block, owner, whole in zip(blocks, owners, expected, strict=True):
        assert (block is not None) == (owner == comm.rank)
        if block is not None:
            close(block, whole)


def test_every_rank_has_the_same_bits(comm):
    """Steps and stops are decided on each rank alone, so the numbers must be the same to the last bit."""
    evaluator = CASES["poisson"].build(comm)
    theta = start(evaluator)
    value, gradient = evaluator.objective_gradient(theta)
    linearization = evaluator.linearize(theta)
    numbers = (
        value.objective,
        gradient,
        linearization.gauss_newton_times(theta),
        linearization.gauss_newton_diagonal(),
    )
    for number in numbers:
        assert len({np.asarray(other).tobytes() for other in comm.allgather(number)}) == 1


def test_ranks_without_points_take_part(comm):
    case = Case(lambda: Toy([Residual(lambda u: u.x - 1)]))
    serial, shared = case.build(interior=1), case.build(comm, interior=1)
    theta = start(serial)
    assert sorted(comm.allgather(len(shared.residual(theta)))) == [0] * (comm.size - 1) + [1]
    close(shared.objective_gradient(theta)[1], serial.objective_gradient(theta)[1])
    linearization = shared.linearize(theta)
    assert linearization.times(theta).shape == (linearization.rows,)
    assert linearization.dense().shape == (linearization.rows, len(theta))
    one = serial.linearize(theta)
    close(linearization.gauss_newton_times(theta), one.gauss_newton_times(theta))
    close(linearization.gauss_newton_diagonal(), one.gauss_newton_diagonal())


class CountingComm:
    """Stands for a communicator and counts the reductions that go through it."""

    def __init__(self, comm):
        self.comm, self.rank, self.size, self.reductions = comm, comm.rank, comm.size, 0

    def Allreduce(self, *arguments):
        self.reductions += 1
        self.comm.Allreduce(*arguments)


def test_every_evaluation_makes_one_reduction(comm):
    evaluator = CASES["poisson"].build(comm)
    counting = evaluator.comm = CountingComm(comm)
    theta = start(evaluator)
    made = []
    for evaluate in (evaluator.objective, evaluator.objective_gradient, evaluator.residual, evaluator.linearize):
        evaluate(theta)
        made.append(counting.reductions)
    assert made == [1, 2, 3, 4]
    evaluator.objective_gradient(theta + 1)
    evaluator.objective(theta + 1)
    assert counting.reductions == 5
    linearization = evaluator.linearize(theta)
    linearization.times(theta)
    assert counting.reductions == 6
    linearization.gauss_newton_times(theta)
    assert counting.reductions == 7


def fragile(comm, switch):
    """A residual that fails, or is NaN, on the last rank alone."""

    def residual(u, a):
        if switch.get("fail") and comm.rank == comm.size - 1:
            raise ValueError("no such material")
        return torch.sqrt(u + (-a if switch.get("nan") and comm.rank == comm.size - 1 else a))

    return Case(lambda: Toy([Residual(residual)], unknowns={"a": Unknown(50.0)})).build(comm)


@pytest.mark.parametrize("what", ["objective", "objective_gradient", "residual", "linearize"])
def test_an_error_on_one_rank_is_raised_on_all_with_its_cause(comm, what):
    switch = {}
    evaluator = fragile(comm, switch)
    theta = start(evaluator)
    before = evaluator.objective(theta).objective
    switch["fail"] = True
    with pytest.raises(EvaluationError, match=rf"on rank {comm.size - 1}: ValueError: no such material") as caught:
        getattr(evaluator, what)(theta + 0.1)
    assert isinstance(caught.value.__cause__, ValueError) == (comm.rank == comm.size - 1)
    switch["fail"] = False
    assert evaluator.objective(theta).objective == before


def test_a_value_that_is_not_finite_on_one_rank_is_infinite_on_all(comm):
    switch = {}
    evaluator = fragile(comm, switch)
    theta = start(evaluator)
    switch["nan"] = True
    value, gradient = evaluator.objective_gradient(theta)
    assert value.objective == np.inf
    assert not gradient.any()
    switch["nan"] = False
    assert np.isfinite(evaluator.objective(theta + 0.1).objective)


def test_the_lowest_failing_rank_speaks(comm):
    with pytest.raises(EvaluationError, match=r"on rank 0: KeyError: 'rank 0'"):
        raise_together(comm, KeyError(f"rank {comm.rank}"))
    only_last = RuntimeError("mine") if comm.rank == comm.size - 1 else None
    with pytest.raises(EvaluationError, match=rf"on rank {comm.size - 1}: RuntimeError: mine \(unknown place\)"):
        raise_together(comm, only_last)


def test_ranks_share_the_points_of_the_world():
    evaluator = CASES["poisson"].build(MPI.COMM_WORLD)
    counts = MPI.COMM_WORLD.allgather(sum(chunk.samples for s in evaluator.samples for chunk in s.chunks))
    assert sum(counts) == sum(s.count for s in evaluator.samples)
    assert max(counts) - min(counts) <= len(evaluator.samples)


def test_the_objective_is_known_where_the_residual_was_linearized(comm):
    one, other = CASES["two rows"].build(comm), CASES["two rows"].build(comm)
    theta = start(one)
    one.linearize(theta)
    np.testing.assert_allclose(one.objective(theta).terms, other.objective(theta).terms, rtol=1e-14)
    assert one.counters.closures == 0
