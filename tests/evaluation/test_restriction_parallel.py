"""φ over some layers with the rest frozen: values, gradients and columns of J are those of all of θ."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from toys import CASES, Opaque, opaque, random_vector, start

from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.restriction import RestrictedEvaluator
from pescitrain.networks.parameters import RestrictedParameters

pytestmark = pytest.mark.parallel

NAMES = ["poisson, adaptive slopes", "poisson, residual network", "two networks", "inverse", "lifted", "two rows"]


def restricted(whole, layers, comm=None):
    active = np.concatenate([np.arange(layer.start, layer.stop) for layer in layers])
    samples = None if comm is None else LocalSamples.seen(whole, [active], comm)
    return RestrictedEvaluator(whole, active, samples), active


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_whole_with_the_rest_frozen(comm, name):
    whole = CASES[name].build(comm, chunk_size=4)
    theta = start(whole)
    value, gradient = whole.objective_gradient(theta)
    vector = random_vector(whole.linearize(theta).rows)
    column_sums = whole.linearize(theta).transpose_times(vector)
    for layer in whole.parameters.layers:
        local, active = restricted(whole, [layer])
        with local.frozen(theta):
            here, own = local.objective_gradient(theta[active])
            linearization = local.linearize(theta[active])
            assert here.objective == pytest.approx(value.objective, rel=1e-13)
            np.testing.assert_allclose(own, gradient[active], rtol=0.0, atol=1e-13 * np.abs(gradient).max())
            products = linearization.transpose_times(vector)
            np.testing.assert_allclose(products, column_sums[active], rtol=0.0, atol=1e-13 * np.abs(products).max())
            direction = random_vector(len(active))
            padded = np.zeros_like(theta)
            padded[active] = direction
            np.testing.assert_allclose(
                linearization.times(direction), whole.linearize(theta).times(padded), rtol=0.0, atol=1e-12
            )


def test_the_frozen_point_is_the_one_given_and_comes_back(comm):
    whole = CASES["poisson, residual network"].build(comm)
    theta = start(whole)
    local, active = restricted(whole, whole.parameters.layers[2:3])
    other = theta + 0.1 * random_vector(len(theta))
    with local.frozen(other):
        moved = local.objective(other[active] + 0.3).objective
        inside = whole.parameters.current()
    expected = other.copy()
    expected[active] += 0.3
    assert np.array_equal(inside, expected)
    assert moved == pytest.approx(whole.objective(expected).objective, rel=1e-13)
    assert all(entry.parameter.requires_grad for entry in whole.parameters.entries)
    with local.frozen(theta):
        assert local.objective(theta[active]).objective == pytest.approx(whole.objective(theta).objective, rel=1e-13)


def test_every_rank_can_hold_all_points(comm):
    """The value does not depend on the ranks that share the points, not even in the last digit."""
    serial, spread = CASES["poisson"].build(), CASES["poisson"].build(comm)
    theta = start(serial)
    one, active = restricted(serial, serial.parameters.layers[1:2], MPI.COMM_SELF)
    same, _ = restricted(spread, spread.parameters.layers[1:2], MPI.COMM_SELF)
    with one.frozen(theta), same.frozen(theta):
        assert one.objective(theta[active]).objective == same.objective(theta[active]).objective
        assert np.array_equal(one.objective_gradient(theta[active])[1], same.objective_gradient(theta[active])[1])
    assert same.residual_count == spread.residual_count


def test_layers_before_the_block_are_not_evaluated_again(comm):
    whole = CASES["poisson, residual network"].build(comm)
    network, calls = next(iter(whole.surrogate.networks.values())), []
    layer_jet = network.layer_jet
    network.layer_jet = lambda index, *rest: calls.append(index) or layer_jet(index, *rest)
    last = len(network.layers()) - 1
    local, active = restricted(whole, whole.parameters.layers[last : last + 1])
    theta = start(whole)
    with local.frozen(theta):
        assert set(calls) == set(range(last)) or not any(s.chunks for s in whole.samples)
        calls.clear()
        local.objective_gradient(theta[active] + 1.0)
        assert set(calls) <= {last}


def test_a_module_without_taylor_mode_works(comm):
    whole = CASES["poisson"].build(comm, wrap=opaque)
    assert isinstance(next(iter(whole.surrogate.networks.values())), Opaque)
    theta = start(whole)
    _, gradient = whole.objective_gradient(theta)
    local, active = restricted(whole, whole.parameters.layers[:1])
    with local.frozen(theta):
        np.testing.assert_allclose(local.objective_gradient(theta[active])[1], gradient[active], atol=1e-13)
        linearization = local.linearize(theta[active])
        np.testing.assert_allclose(linearization.transpose_times(linearization.residual), gradient[active], atol=1e-12)
        np.testing.assert_allclose(
            linearization.dense(), whole.linearize(theta).dense()[:, active], rtol=0.0, atol=1e-12
        )


def test_parts_are_made_of_whole_layers(comm):
    whole = CASES["poisson"].build(comm)
    with pytest.raises(ValueError, match="whole layers"):
        RestrictedParameters(whole.parameters, np.arange(3))
    torch.testing.assert_close(whole.parameters.values, torch.from_numpy(start(whole)))
