"""φ over some networks of subdomains: changes, gradients and J of all samples from those under their windows alone."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import CASES, Case, mlp, random_vector, start, subdomains

from pescitrain.evaluation.restriction import RestrictedEvaluator, closure_work, everywhere
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
    return Case(CASES[name].problem, NETWORKS[network]).build(comm, interior=24, boundary=10, **sizes)


def blocks_of(whole, count, overlap):
    layers = whole.parameters.layers
    for first in range(0, len(layers), count):
        chosen = layers[max(0, first - overlap) : first + count + overlap]
        yield np.concatenate([np.arange(layer.start, layer.stop) for layer in chosen])


def close(values, expected):
    np.testing.assert_allclose(values, expected, rtol=0.0, atol=1e-12 * max(1.0, np.abs(expected).max(initial=0.0)))


@pytest.mark.parametrize(("name", "network", "count", "overlap"), PROBLEMS)
def test_changes_and_columns_are_those_of_the_whole(comm, name, network, count, overlap):
    whole = built(name, network, comm, chunk_size=8)
    theta = start(whole)
    value, gradient = whole.objective_gradient(theta)
    matrix = whole.linearize(theta).gauss_newton_matrix()
    for active in blocks_of(whole, count, overlap):
        local = RestrictedEvaluator(whole, active, whole.samples, comm)
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
    samples = everywhere(whole, MPI.COMM_SELF)
    layers = whole.parameters.layers
    local = RestrictedEvaluator(whole, np.arange(layers[0].start, layers[0].stop), samples, MPI.COMM_SELF)
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
    samples = everywhere(whole, MPI.COMM_SELF)
    actives = list(blocks_of(whole, 1, 0))
    work = closure_work(whole, actives, samples, MPI.COMM_SELF)
    (everything,) = closure_work(whole, [np.arange(whole.parameters.size)], samples, MPI.COMM_SELF)
    assert sum(work) == pytest.approx(everything)
    costs = [RestrictedEvaluator(whole, active, samples, MPI.COMM_SELF).cost for active in actives]
    np.testing.assert_allclose(costs, np.array(work) / everything, rtol=1e-12)
    assert closure_work(whole, actives, whole.samples, comm) == pytest.approx(work)


def test_every_rank_can_hold_what_its_blocks_see(comm):
    serial, spread = built("wave, periodic term", "boxes"), built("wave, periodic term", "boxes", comm)
    theta = start(serial)
    for active in blocks_of(serial, 2, 1):
        one = RestrictedEvaluator(serial, active, everywhere(serial, MPI.COMM_SELF), MPI.COMM_SELF)
        same = RestrictedEvaluator(spread, active, everywhere(spread, MPI.COMM_SELF), MPI.COMM_SELF)
        with one.frozen(theta), same.frozen(theta):
            assert one.objective(theta[active]).objective == same.objective(theta[active]).objective
        assert one.residual_count == same.residual_count
