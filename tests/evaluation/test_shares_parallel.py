"""No rank has the points of the others: each draws its share, and the shares are those of one rank, cut."""

import numpy as np
import pytest
import torch
from geometry.shapes import unit_mesh  # pyright: ignore[reportMissingImports]
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from toys import CASES, Case, Toy, gather_points, mlp, parts, points_of, samples_of, start, subdomains

from pescitrain.evaluation.attention import ResidualAttention
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.refinement import ResidualRefinement
from pescitrain.evaluation.resampling import FreshPoints, ResidualResampling
from pescitrain.evaluation.samples import SamplingPlan, sample_terms
from pescitrain.evaluation.selection import select_largest
from pescitrain.evaluation.shares import share_among, share_union
from pescitrain.geometry import PointSequence, PointSet, Sampling
from pescitrain.geometry.points import share
from pescitrain.problem import Data, Dirichlet, Periodic, Residual, Surrogate

pytestmark = pytest.mark.parallel

SEVERAL = pytest.mark.parallel(2, 3)
NETWORKS = {"one network": mlp(), "boxes": subdomains(), "levels": subdomains(((2, 1), (3, 2))), "parts": parts()}
GIVEN = np.random.default_rng(0).uniform(-1.0, 1.0, (17, 2))


def problem():
    return Toy(
        [
            Residual(lambda u: u.laplacian, weight=2.0),
            Dirichlet(lambda x: x, on=("x_min", "y_max")),
            Periodic(on=("x_min", "x_max")),
            Data(GIVEN, GIVEN[:, 0]),
        ]
    )


def sample(comm, network, kind="sobol", interior=101, boundary=23, domain=None, chunk_size=20):
    toy = problem()
    surrogate = Surrogate(toy, {"network": network(toy.domain(), 1, 0)}, None)
    plan = SamplingPlan(Sampling(interior, kind), Sampling(boundary, kind), 4)
    return sample_terms(toy, surrogate, domain or toy.domain(), plan, comm, chunk_size)


def joined(comm, array):
    return None if array is None else np.concatenate(comm.allgather(np.asarray(array)))


def assert_equal(one, other):
    assert (one is None) == (other is None)
    if one is not None:
        np.testing.assert_array_equal(one, other)


KINDS = ("uniform", "sobol", "hammersley", "halton", "latin", "grid", "quadrature")


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        *(("one network", kind) for kind in KINDS),
        *((network, "sobol") for network in NETWORKS if network != "one network"),
        ("boxes", "uniform"),
        ("boxes", "quadrature"),
    ],
)
def test_the_shares_of_all_ranks_are_the_points_of_one(comm, network, kind):
    domain = unit_mesh("mixed") if kind == "quadrature" else None
    apart, alone = (sample(c, NETWORKS[network], kind, domain=domain) for c in (comm, MPI.COMM_SELF))
    for one, other in zip(apart, alone, strict=True):
        begin, end = share(other.count, comm.rank, comm.size)
        assert len(one.points) == end - begin
        assert (one.count, one.measure) == (other.count, other.measure)
        for name in ("x", "weights", "normals", "cells"):
            assert_equal(joined(comm, getattr(one.points, name)), getattr(other.points, name))
        assert_equal(joined(comm, one.partners), other.partners)
        for name in ("scale", "data"):
            ours, theirs = (
                None if chunks[0] is None else np.concatenate(chunks) if chunks else np.zeros(0)
                for chunks in ([getattr(chunk, name) for chunk in samples.chunks] for samples in (one, other))
            )
            assert_equal(joined(comm, ours), theirs)


def test_points_of_subdomains_lie_together_in_the_order_in_which_they_were_drawn(comm):
    samples = sample(comm, NETWORKS["boxes"])[0]
    plain = sample(MPI.COMM_SELF, NETWORKS["one network"])[0].points
    toy = problem()
    owners = subdomains()(toy.domain(), 1, 0).windows.owners
    order = np.argsort(owners(torch.from_numpy(plain.x)).numpy(), kind="stable")
    assert not np.array_equal(order, np.arange(len(order)))
    np.testing.assert_array_equal(joined(comm, samples.points.x), plain.x[order])


def test_fewer_points_than_ranks(comm):
    apart, alone = (sample(c, NETWORKS["boxes"], interior=2, boundary=2) for c in (comm, MPI.COMM_SELF))
    for one, other in zip(apart, alone, strict=True):
        assert_equal(joined(comm, one.points.x), other.points.x)


@SEVERAL
@pytest.mark.parametrize("network", ["one network", "boxes"])
def test_nobody_draws_or_holds_more_than_a_share(comm, network, monkeypatch):
    asked = []
    whole = PointSequence.__init__

    def watched(self, count, measure, draw):
        def drawn(begin, end):
            asked.append((end - begin, count))
            return draw(begin, end)

        whole(self, count, measure, drawn)

    monkeypatch.setattr(PointSequence, "__init__", watched)
    samples = sample(comm, NETWORKS[network], interior=3000, boundary=1800, chunk_size=500)
    assert {count for _, count in asked} >= {3000, 1800}
    # On the boundary the union of two faces; 256 points say where the partners of a face are.
    assert max(number for number, count in asked if count == 3000) <= 3000 // comm.size + 1
    assert max(number for number, count in asked if count < 3000) <= 1800 // comm.size + 1
    for one in samples:
        held = (one.points.x, one.points.weights, one.points.normals)
        assert all(array is None or len(array) == len(one.points) < one.count for array in held)
        assert all(array is None or array.base is None or len(array.base) < one.count for array in held)


@pytest.mark.parametrize("name", ["wave, periodic term", "subdomains"])
def test_local_problems_have_all_points_at_hand(comm, name):
    apart, alone = (CASES[name].build(c, chunk_size=4) for c in (comm, MPI.COMM_SELF))
    everything = [np.arange(apart.parameters.size)]
    for one, other in zip(LocalSamples.seen(apart, everything, MPI.COMM_SELF).terms, alone.samples, strict=True):
        np.testing.assert_array_equal(one.points.x, other.points.x)
        assert_equal(one.partners, other.partners)
        assert [chunk.samples for chunk in one.chunks] == [chunk.samples for chunk in other.chunks]
    for one, other in zip(LocalSamples.seen(apart, everything, comm).terms, apart.samples, strict=True):
        assert one.points is other.points


@SEVERAL
@pytest.mark.parametrize("term", [0, 1, 3])
def test_a_group_of_ranks_shares_the_points_that_it_sees(comm, term):
    """Of all points, and of those that are numbered by odd numbers; of data with the values."""
    groups = [int(rank == 0) for rank in range(comm.size)]
    group = comm.Split(groups[comm.rank], comm.rank)
    samples = sample(comm, NETWORKS["boxes"])[term]
    samples.multipliers = samples.points.x[:, 0].copy()
    whole, multipliers = gather_points(samples, comm)
    assert len(whole) == samples.count
    assert multipliers is not None
    first = samples.begin(comm.rank, comm.size)
    everything = np.arange(len(samples.points))
    again = share_among(samples, [everything, everything[(first + everything) % 2 == 1]], groups, comm)
    seen = slice(None) if comm.rank > 0 else slice(1, None, 2)
    for name in ("x", "weights", "normals"):
        expected = getattr(whole, name)
        assert_equal(joined(group, getattr(again.points, name)), None if expected is None else expected[seen])
    assert_equal(joined(group, again.multipliers), multipliers[seen])
    assert group.allreduce(len(again.points)) == again.count
    assert len(again.points) == np.diff(share(again.count, group.rank, group.size))[0]
    assert (again.numbers is None) == (comm.rank > 0)
    if again.numbers is not None:
        assert_equal(joined(group, again.numbers), np.arange(samples.count)[seen])
    assert samples.chunks
    assert not again.chunks
    group.Free()


def test_a_union_is_shared_set_after_set(comm):
    """Each rank has a number of points of its own of two sets."""
    samples = sample(comm, NETWORKS["one network"])[0]

    def part(first, count):
        x = np.arange(first, first + count, dtype=float)
        return PointSet(np.stack([x, -x], axis=1), x, None, x.astype(np.int64))

    def lengths(rank):
        return 3 * rank + 1, 5 - rank

    before = np.array([lengths(rank) for rank in range(comm.rank)]).reshape(-1, 2).sum(0)
    every = np.array([lengths(rank) for rank in range(comm.size)]).sum(0)
    sets = [part(start, count) for start, count in zip(before + [0, 1000], lengths(comm.rank), strict=True)]
    share_union(samples, sets, np.concatenate([one.weights for one in sets]), comm)
    expected = np.concatenate([np.arange(every[0]), 1000 + np.arange(every[1])])
    assert samples.count == len(expected)
    begin, end = share(len(expected), comm.rank, comm.size)
    for found in (samples.points.x[:, 0], -samples.points.x[:, 1], samples.points.weights, samples.multipliers):
        np.testing.assert_array_equal(found, expected[begin:end])
    assert samples.points.cells is not None
    assert samples.points.cells.dtype == np.int64


values = st.lists(st.sampled_from([-np.inf, -2.5, -1e-300, -0.0, 0.0, 1e-300, 1.0, 7.25, np.inf]), max_size=6)


@settings(max_examples=25)
@given(st.lists(values, min_size=3, max_size=3), st.integers(0, 18))
def test_the_largest_are_those_of_a_stable_sort(lists, wanted):
    comm = MPI.COMM_WORLD
    everything = [np.array(lists[rank], dtype=float) for rank in range(comm.size)]
    together = np.concatenate(everything)
    wanted = min(wanted, len(together))
    expected = np.isin(np.arange(len(together)), np.argsort(-together, kind="stable")[:wanted])
    chosen = select_largest(comm, everything[comm.rank], wanted)
    np.testing.assert_array_equal(np.concatenate(comm.allgather(chosen)), expected)


def test_all_points_come_together_on_request(comm):
    evaluator = Case(problem, NETWORKS["boxes"]).build(comm, interior=50)
    alone = Case(problem, NETWORKS["boxes"]).build(interior=50)
    np.testing.assert_array_equal(points_of(evaluator).x, alone.samples[0].points.x)
    theta = start(alone)
    assert evaluator.objective(theta).objective == pytest.approx(alone.objective(theta).objective, rel=1e-13)


def moved(comm, method):
    evaluator = CASES["subdomains, periodic term"].build(comm, interior=40, boundary=20)
    samples, theta = samples_of(evaluator), start(evaluator)
    if method == "fresh":
        FreshPoints(samples, 1).refresh(theta, 1)
    elif method == "rad":
        ResidualResampling(samples, 1, 1.0, 1.0).refresh(theta, 1)
    else:
        ResidualAttention(samples, 1, 0.5, 0.5).refresh(theta, 1)
        for round in (1, 2):
            ResidualRefinement(samples, 1, 7, 60).refresh(theta, round)
    return evaluator


@pytest.mark.parametrize("method", ["fresh", "rad", "rar"])
def test_points_that_move_in_subdomains_are_those_of_one_rank(comm, method):
    apart, alone = moved(comm, method), moved(MPI.COMM_SELF, method)
    for term, (one, other) in enumerate(zip(apart.samples, alone.samples, strict=True)):
        points, multipliers = gather_points(one, comm)
        assert len(one.points) == np.diff(share(other.count, comm.rank, comm.size))[0]
        assert one.measure == pytest.approx(other.measure, rel=1e-15)
        for name in ("x", "normals", "cells"):
            assert_equal(getattr(points, name), getattr(points_of(alone, term), name))
        np.testing.assert_allclose(points.weights, other.points.weights, rtol=1e-15)
        assert (multipliers is None) == (other.multipliers is None) == (method != "rar" or term > 0)
        if multipliers is not None:  # residuals of other chunks round otherwise
            np.testing.assert_allclose(multipliers, other.multipliers, rtol=1e-12)
    theta = start(alone)
    assert apart.objective(theta).objective == pytest.approx(alone.objective(theta).objective, rel=1e-12)
