"""φ over some networks of subdomains: changes, gradients and J of all samples from those under their windows alone."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, Case, mlp, random_vector, start, subdomains

from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.restriction import RestrictedEvaluator, closure_work
from pescitrain.networks.subdomain import SubdomainJets

pytestmark = pytest.mark.parallel

NETWORKS = {
    "boxes": subdomains(((3, 2),)),
    "levels": subdomains(((1, 1), (2, 2))),
    "far": subdomains(((4, 1),), overlap=1.2),
}


def mixed(domain, outputs, seed):
    """Networks of subdomains for the first field, one network for the second."""
    return NETWORKS["boxes"](domain, outputs, seed) if seed == 3 else mlp()(domain, outputs, seed)


NETWORKS["mixed"] = mixed
PROBLEMS = [
    ("poisson", "boxes", 1, 0),
    ("poisson", "far", 2, 1),
    ("two networks", "levels", 1, 0),
    ("two networks", "mixed", 5, 0),
    ("second field only", "boxes", 3, 0),
    ("wave, periodic term", "boxes", 1, 0),
    ("wave, periodic term", "levels", 2, 1),
    ("inverse", "boxes", 2, 1),
    ("lifted", "levels", 2, 0),
    ("mixed outputs", "boxes", 2, 0),
    ("classes", "far", 1, 0),
    ("quantities", "boxes", 1, 1),
]


def built(name, network, comm=MPI.COMM_SELF, **sizes):
    return Case(CASES[name].problem, NETWORKS[network]).build(comm, interior=18, boundary=8, **sizes)


def blocks_of(whole, count, overlap):
    layers = whole.parameters.layers
    for first in range(0, len(layers), count):
        chosen = layers[max(0, first - overlap) : first + count + overlap]
        yield np.concatenate([np.arange(layer.start, layer.stop) for layer in chosen])


def close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0.0, atol=1e-12 * max(1.0, np.abs(expected).max(initial=0.0)))


@pytest.mark.parametrize(("name", "network", "count", "overlap"), PROBLEMS)
def test_changes_and_columns_are_those_of_the_whole(comm, name, network, count, overlap):
    whole = built(name, network, comm, chunk_size=9)
    theta = start(whole)
    value, gradient = whole.objective_gradient(theta)
    matrix = whole.linearize(theta).gauss_newton_matrix()
    for active in blocks_of(whole, count, overlap):
        local = RestrictedEvaluator(whole, active)
        with local.frozen(theta):
            here, own = local.objective_gradient(theta[active])
            linearization = local.linearize(theta[active])
        close(own, gradient[active])
        close(linearization.transpose_times(linearization.residual), own)
        close(linearization.gauss_newton_matrix(), matrix[np.ix_(active, active)])
        assert comm.allreduce(linearization.rows) == local.residual_count <= whole.residual_count
        moved = theta.copy()
        moved[active] += 0.3 * random_vector(len(active))
        expected, slope = whole.objective_gradient(moved)
        with local.frozen(theta):
            there, own = local.objective_gradient(moved[active])
        close(there.objective - here.objective, expected.objective - value.objective)
        close(there.terms - here.terms, expected.terms - value.terms)
        close(own, slope[active])


def test_only_the_samples_and_networks_of_the_block_are_evaluated(comm):
    """Boxes side by side that overlap by a fifth of their width: a corner of 4 × 1 sees 0.3 of all samples."""
    whole = Case(CASES["poisson"].problem, subdomains(((4, 1),), overlap=0.2)).build(comm, interior=1000, chunk_size=64)
    layers = whole.parameters.layers
    corner = np.arange(layers[0].start, layers[0].stop)
    local = RestrictedEvaluator(whole, corner, LocalSamples.seen(whole, [corner], MPI.COMM_SELF))
    assert 290 < local.all_samples[0].count < 310
    theta = start(whole)
    with local.frozen(theta):
        for term in local.samples:
            assert sum(chunk.samples for chunk in term.chunks) == term.count
            assert all(chunk.samples <= 64 for chunk in term.chunks)
            for chunk in term.chunks:
                (jets,) = chunk.embedded.values()
                assert isinstance(jets, SubdomainJets)
                assert jets.subdomains.tolist() == [0]
                assert jets.rest is not None
    counted = local.counters.objective
    with local.frozen(theta):  # known
        local.objective_gradient(theta[: layers[0].stop])
    assert local.counters.objective == counted == pytest.approx(local.cost_of_frozen)
    assert local.counters.gradient == pytest.approx(local.cost)


def test_the_work_of_all_blocks_is_that_of_the_whole(comm):
    whole = built("two networks", "levels", comm)
    actives = list(blocks_of(whole, 1, 0))
    work = closure_work(whole, actives)
    (everything,) = closure_work(whole, [np.arange(whole.parameters.size)])
    assert sum(work) == pytest.approx(everything)
    assert closure_work(built("two networks", "levels"), actives) == work  # whole numbers
    samples = LocalSamples.seen(whole, actives, MPI.COMM_SELF)
    costs = [RestrictedEvaluator(whole, active, samples).cost for active in actives]
    np.testing.assert_allclose(costs, np.array(work) / everything, rtol=1e-12)


@pytest.mark.parametrize(("name", "network", "count", "overlap"), PROBLEMS)
def test_every_rank_has_what_its_blocks_see(comm, name, network, count, overlap):
    """Each rank has blocks of its own: their φ and ∇φ are those of a serial evaluator of all samples, up to sums."""
    serial, spread = built(name, network), built(name, network, comm, chunk_size=9)
    theta = start(serial)
    own = list(blocks_of(serial, count, overlap))[comm.rank :: comm.size]
    samples = LocalSamples.seen(spread, own, MPI.COMM_SELF)
    for active in own:
        one, same = RestrictedEvaluator(serial, active), RestrictedEvaluator(spread, active, samples)
        assert one.residual_count == same.residual_count
        assert one.cost == pytest.approx(same.cost)
        with one.frozen(theta), same.frozen(theta):
            expected, slope = one.objective_gradient(theta[active])
            value, gradient = same.objective_gradient(theta[active])
        close(value.terms, expected.terms)
        close(gradient, slope)


@pytest.mark.parallel(2, 3)
def test_no_rank_has_the_points_of_blocks_that_it_does_not_see(comm):
    """Boxes in a row, the first on rank 0, …: with an overlap of a fifth 0.3 of all points for an end, else 0.35."""
    whole = Case(CASES["poisson"].problem, subdomains(((4, 1),), overlap=0.2)).build(comm, interior=1000, chunk_size=64)
    layer = whole.parameters.layers[comm.rank]
    samples = LocalSamples.seen(whole, [np.arange(layer.start, layer.stop)], MPI.COMM_SELF)
    term, expected = samples.terms[0], 300 if comm.rank == 0 else 350
    assert abs(term.count - expected) <= 10  # Sobol points
    assert len(term.points) == term.count == sum(chunk.samples for chunk in term.chunks)
    with pytest.raises(ValueError, match="whole layers"):
        RestrictedEvaluator(whole, np.arange(3), samples)


@pytest.mark.parallel(3)
def test_a_group_of_ranks_shares_what_its_blocks_see(comm):
    whole = built("wave, periodic term", "boxes", comm, chunk_size=9)
    theta, actives = start(whole), list(blocks_of(whole, 3, 0))
    gradient = whole.objective_gradient(theta)[1]
    group = comm.Split(min(comm.rank, 1), comm.rank)
    own = actives[min(comm.rank, 1)]
    local = RestrictedEvaluator(whole, own, LocalSamples.seen(whole, [own], group))
    with local.frozen(theta):
        close(local.objective_gradient(theta[own])[1], gradient[own])
    assert group.allreduce(sum(len(term.points) for term in local.all_samples)) == 0  # of a block they are in chunks
    group.Free()


def test_a_block_without_subdomains_sees_all_terms(comm):
    """Beside one of subdomains, which alone are in the second term."""

    def mixed(domain, outputs, seed):
        return mlp()(domain, outputs, seed) if seed == 3 else NETWORKS["boxes"](domain, outputs, seed)

    whole = Case(CASES["two networks"].problem, mixed).build(comm, interior=24, boundary=10)
    assert whole.samples[1].networks == ("second",)
    layers = whole.parameters.layers
    assert [layers[0].network, layers[-1].network] == ["first", "second"]
    actives = [np.arange(layer.start, layer.stop) for layer in (layers[-1], layers[0])]
    samples = LocalSamples.seen(whole, actives, MPI.COMM_SELF)
    theta = start(whole)
    expected = whole.objective(theta).objective
    local = RestrictedEvaluator(whole, actives[1], samples)
    with local.frozen(theta):
        assert local.objective(theta[actives[1]]).objective == pytest.approx(expected, rel=1e-13)
