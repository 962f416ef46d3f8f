"""Networks: the plain pass, the Taylor mode, the names of their layers, and what they see of their inputs."""

import math

import pytest
import torch
from toys import mlp, resnet, scaling

from pescitrain.geometry import Box
from pescitrain.networks import (
    ACTIVATIONS,
    MLP,
    Components,
    FourierFeatures,
    Laplacian,
    Network,
    PeriodicFeatures,
    Recorder,
    ResNet,
    ScaleToUnitBox,
    Tape,
)
from pescitrain.networks.jets import jet_of_function
from pescitrain.networks.network import ExtraFeatures

DOMAIN = Box(("x", "y"), (-1.0, 0.0), (2.0, 0.5))
COMPONENTS = Components.closed([(0, 0, 1), (1, 1), Laplacian((0, 1))])


def points(count=5):
    unit = torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return torch.tensor(DOMAIN.lower) + torch.from_numpy(DOMAIN.sides) * unit


def embeddings():
    scale = scaling(DOMAIN)
    return {
        "scaling": scale,
        "fourier": FourierFeatures(scale, 3, 0.4, torch.Generator().manual_seed(1)),
        "periodic": PeriodicFeatures(scale, 1, 0.5, 2),
        "extra": ExtraFeatures(scale, lambda x: (x[:, :1] + 2).sqrt(), 1),
    }


def random_parameters(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
    return network


@pytest.mark.parametrize("kind", [MLP, ResNet])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("adaptive_slope", [False, True])
@pytest.mark.parametrize("embedding", ["scaling", "fourier", "periodic", "extra"])
def test_the_taylor_mode_is_the_nested_derivatives_of_the_plain_pass(kind, activation, adaptive_slope, embedding):
    features = embeddings()[embedding]
    network = random_parameters(kind(features, features.outputs, 2, 4, 2, activation, adaptive_slope))
    x = points()
    jet = network.forward_jet(network.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    expected = jet_of_function(network, x, COMPONENTS)
    assert expected.shape == (len(COMPONENTS), 2, 5)
    scale = expected.detach().abs().amax((1, 2))[:, None, None].clamp(min=1.0)
    torch.testing.assert_close(jet / scale, expected / scale, rtol=0.0, atol=1e-12)
    # The gradient of the written backward passes against autograd through nested forward mode.
    weights = torch.randn(jet.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / scale
    parameters = list(network.parameters())
    given = torch.autograd.grad((jet * weights).sum(), parameters)
    reference = torch.autograd.grad((expected * weights).sum(), parameters)
    for one, other in zip(given, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11 * float(other.abs().max()))


@pytest.mark.parametrize("make", [mlp(depth=3), mlp(depth=0), resnet(depth=1), resnet(depth=4)])
@pytest.mark.parametrize("adaptive_slope", [False, True])
def test_layers_name_every_parameter_once(make, adaptive_slope):
    network = make(DOMAIN, 2, 0)
    if adaptive_slope:
        network = type(network)(network.embedding, 2, 2, 3, 3, adaptive_slope=True)
    names = [name for _, parameters in network.layers() for name in parameters]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())


def test_layers_are_in_feed_forward_order_with_their_slopes():
    assert mlp(depth=2, adaptive_slope=True)(DOMAIN, 1, 0).layers() == [  # type: ignore[operator]
        ("layer_0", ["affine.0.weight", "affine.0.bias", "slopes.0"]),
        ("layer_1", ["affine.1.weight", "affine.1.bias", "slopes.1"]),
        ("output", ["affine.2.weight", "affine.2.bias"]),
    ]
    assert resnet(depth=2, adaptive_slope=True)(DOMAIN, 1, 0).layers() == [  # type: ignore[operator]
        ("opening", ["opening.weight", "opening.bias", "slopes.0"]),
        ("step_0", ["steps.0.weight", "steps.0.bias", "slopes.1"]),
        ("output", ["output.weight", "output.bias"]),
    ]
    assert mlp(depth=1)(DOMAIN, 1, 0).layers() == [  # type: ignore[operator]
        ("layer_0", ["affine.0.weight", "affine.0.bias"]),
        ("output", ["affine.1.weight", "affine.1.bias"]),
    ]


def test_an_mlp_is_its_formula():
    network = random_parameters(MLP(scaling(DOMAIN), 2, 1, 3, 2, adaptive_slope=True))
    x = points()
    h = scaling(DOMAIN)(x)
    for k in range(2):
        weight, bias = network.affine[k].weight, network.affine[k].bias
        h = torch.tanh(10 * network.slopes[k] * (h @ weight.t() + bias))
    expected = h @ network.affine[2].weight.t() + network.affine[2].bias
    torch.testing.assert_close(network(x), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_residual_network_is_explicit_euler_over_the_final_time(depth):
    network = random_parameters(ResNet(scaling(DOMAIN), 2, 1, 3, depth, adaptive_slope=True, final_time=1.5))
    x = points()
    q = torch.tanh(10 * network.slopes[0] * network.opening(scaling(DOMAIN)(x)))
    for k in range(depth - 1):
        q = q + 1.5 / (depth - 1) * torch.tanh(10 * network.slopes[k + 1] * network.steps[k](q))
    torch.testing.assert_close(network(x), network.output(q), rtol=1e-14, atol=1e-15)


def test_slopes_start_where_the_activation_is_the_plain_one():
    plain, adaptive = (MLP(scaling(DOMAIN), 2, 1, 4, 2, adaptive_slope=a) for a in (False, True))
    assert len(adaptive.slopes) == 2
    assert len(plain.slopes) == 0
    x = points()
    torch.testing.assert_close(plain(x), adaptive(x), rtol=1e-14, atol=1e-15)


def test_depth_zero_is_an_affine_map():
    network = MLP(scaling(DOMAIN), 2, 1, 4, 0)
    assert sum(p.numel() for p in network.parameters()) == 3
    x = points(2)
    torch.testing.assert_close(network(x.mean(0, keepdim=True)), network(x).mean(0, keepdim=True))


@pytest.mark.parametrize("make", [mlp(width=30), resnet(width=30)])
def test_weights_are_glorot_uniform_and_follow_from_the_seed(make):
    network, again, other = make(DOMAIN, 2, 4), make(DOMAIN, 2, 4), make(DOMAIN, 2, 5)
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Linear)]
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert layer.weight.dtype == torch.float64
        assert 0.9 * bound < float(layer.weight.detach().abs().max()) <= bound  # the largest of 60 or more
        assert float(layer.weight.detach().min()) < 0 < float(layer.weight.detach().max())
        assert not layer.bias.detach().any()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(network.parameters()), next(other.parameters()))


@pytest.mark.parametrize("kind", [MLP, ResNet])
def test_a_network_draws_its_own_reproducible_weights_without_a_generator(kind):
    torch.manual_seed(1)
    first = kind(scaling(DOMAIN), 2, 1, 3, 1)
    torch.manual_seed(2)
    second = kind(scaling(DOMAIN), 2, 1, 3, 1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_scaling_maps_the_box_onto_the_unit_box():
    corners = torch.tensor([DOMAIN.lower, DOMAIN.upper], dtype=torch.float64)
    scale = ScaleToUnitBox(DOMAIN.lower, DOMAIN.upper)
    torch.testing.assert_close(scale(corners), torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64))
    assert scale.outputs == 2


def test_fourier_features_are_coordinates_sines_and_cosines():
    features, x = embeddings()["fourier"], points()
    y = scaling(DOMAIN)(x)
    phase = 2 * math.pi * y @ features.frequencies
    assert features.outputs == 8
    torch.testing.assert_close(features(x), torch.cat((y, torch.sin(phase), torch.cos(phase)), dim=-1))
    many = FourierFeatures(scaling(DOMAIN), 2000, 0.4, torch.Generator().manual_seed(1))
    assert float(many.frequencies.std()) == pytest.approx(0.4, rel=0.05)  # 4000 draws: 1 % is one standard deviation


def test_periodic_features_make_the_network_exactly_periodic():
    features = embeddings()["periodic"]
    network = random_parameters(MLP(features, features.outputs, 1, 4, 2))
    assert features.outputs == 5
    x = points()
    shifted = x + torch.tensor([0.0, 0.5], dtype=torch.float64)
    jets = [jet_of_function(network, y, COMPONENTS) for y in (x, shifted)]
    torch.testing.assert_close(jets[0], jets[1], rtol=1e-9, atol=1e-9)  # phases of 25 rounded, derivatives of (4π)³
    half = x + torch.tensor([0.0, 0.25], dtype=torch.float64)
    assert (network(x) - network(half)).abs().max() > 1e-3
    y = 4 * math.pi * x[:, 1:]
    expected = torch.cat((y.sin(), (2 * y).sin(), y.cos(), (2 * y).cos(), scaling(DOMAIN)(x)[:, :1]), dim=-1)
    torch.testing.assert_close(features(x), expected)


def test_extra_features_are_appended():
    features, x = embeddings()["extra"], points()
    assert features.outputs == 3
    torch.testing.assert_close(features(x), torch.cat((scaling(DOMAIN)(x), (x[:, :1] + 2).sqrt()), dim=-1))


def test_embeddings_have_buffers_that_travel_with_the_model_and_no_parameters():
    for name, features in embeddings().items():
        assert not list(features.parameters())
        assert any("center" in key for key in features.state_dict()), name
    assert "frequencies" in embeddings()["fourier"].state_dict()


def test_a_network_must_say_how_it_works():
    network = Network(scaling(DOMAIN), "tanh", False)
    with pytest.raises(NotImplementedError):
        network.layers()
    with pytest.raises(NotImplementedError):
        network.forward_jet(torch.zeros(1, 1, 1), COMPONENTS, Tape())


def test_a_recorder_keeps_what_goes_in_and_comes_out_of_every_affine_map():
    network = random_parameters(MLP(scaling(DOMAIN), 2, 1, 3, 2, adaptive_slope=True))
    x, recorder = points(), Recorder()
    jet = network.embed_jet(x, COMPONENTS)
    result = network.forward_jet(jet, COMPONENTS, recorder)
    torch.testing.assert_close(result, network.forward_jet(jet, COMPONENTS, Tape()))
    records = recorder.affine_records
    assert [r.layer for r in records] == list(network.affine)
    assert torch.equal(records[0].inputs, jet)
    assert records[-1].outputs is result
    assert not any(r.inputs.requires_grad for r in records)
    assert [r.parameter for r in recorder.parameter_records] == list(network.slopes)
    assert all(r.copies.shape == (1, 5) for r in recorder.parameter_records)
    assert len(recorder.leaves()) == 5
    assert all(one is other.outputs for one, other in zip(recorder.leaves(), records, strict=False))
    result.sum().backward()
    assert all(p.grad is None for p in network.parameters())


def test_a_recorder_takes_affine_maps_without_bias():
    layer, recorder = torch.nn.Linear(2, 3, bias=False, dtype=torch.float64), Recorder()
    h = torch.randn(2, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(recorder.affine(layer, h), layer.weight @ h)
