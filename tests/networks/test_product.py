"""The network that is linear in some inputs: its formula, its Taylor mode, its sizes."""

import pytest
import torch

from pescitrain.networks import VALUE, Components, ProductNetwork, ScaleToUnitBox, Tape
from pescitrain.networks.network import Network

GAINS, OTHERS, TERMS, OUTPUTS = 2, 3, 4, 5


def product(depth=2):
    box = ScaleToUnitBox([-1.0] * (GAINS + OTHERS), [1.0] * (GAINS + OTHERS))
    return ProductNetwork(box, GAINS + OTHERS, OUTPUTS, 6, depth, GAINS, TERMS)


def inputs(count=7):
    return torch.rand(count, GAINS + OTHERS, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 0.5


def test_it_is_affine_in_the_other_inputs_and_in_no_gain():
    network, (one, other) = product(), inputs(2)
    for part, affine in ((slice(GAINS, None), True), (slice(0, GAINS), False)):
        points = one.repeat(3, 1)
        points[1, part], points[2, part] = other[part], 0.5 * (one[part] + other[part])
        first, second, middle = network(points)
        assert torch.allclose(middle, 0.5 * (first + second), rtol=0.0, atol=1e-14) == affine


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_taylor_mode_has_its_values(depth):
    network, components = product(depth), Components.closed([VALUE])
    assert isinstance(network, Network)
    jet = network.forward_jet(network.embed_jet(inputs(), components), components, Tape())
    torch.testing.assert_close(jet[0].t(), network(inputs()), rtol=0.0, atol=1e-14)


def test_every_parameter_is_in_one_layer():
    network = product()
    names = [name for _, layer in network.layers() for name in layer]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())


def test_another_size_keeps_what_it_maps():
    other = product().resized(9, 1)
    assert (other.gain[0].out_features, len(other.gain), other.terms) == (9, 2, TERMS)
    assert other(inputs()).shape == (7, OUTPUTS)
