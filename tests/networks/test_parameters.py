"""θ as one flat vector of which the parameters of modules are views."""

import pytest
import torch
from toys import Opaque, mlp, resnet

from pescitrain.geometry import Box
from pescitrain.networks.parameters import FlatParameters

DOMAIN = Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))


def two_networks():
    return torch.nn.ModuleDict({"a": mlp(3, 1, adaptive_slope=True)(DOMAIN, 1, 0), "b": resnet(2, 2)(DOMAIN, 2, 1)})


def test_every_parameter_is_in_theta_once_and_in_feed_forward_order():
    networks = two_networks()
    flat = FlatParameters(networks, [("nu", 0.3), ("k", 2.0)])
    assert [(e.name, e.start) for e in flat.entries[:5]] == [
        ("a.affine.0.weight", 0),
        ("a.affine.0.bias", 6),
        ("a.slopes.0", 9),
        ("a.affine.1.weight", 10),
        ("a.affine.1.bias", 13),
    ]
    assert [e.name for e in flat.entries[-2:]] == ["nu", "k"]
    parameters = [*networks.parameters(), *flat.unknowns.values()]
    assert sorted(id(e.parameter) for e in flat.entries) == sorted(map(id, parameters))
    stops = [0, *(e.stop for e in flat.entries)]
    assert stops[:-1] == [e.start for e in flat.entries]
    assert stops[-1] == flat.size == sum(p.numel() for p in parameters)
    assert all(e.stop - e.start == e.parameter.numel() for e in flat.entries)


def test_layers_are_consecutive_and_carry_the_name_of_their_network_where_there_are_several():
    flat = FlatParameters(two_networks(), [("nu", 0.3)])
    assert [(layer.name, layer.network, layer.size) for layer in flat.layers] == [
        ("a.layer_0", "a", 10),
        ("a.output", "a", 4),
        ("b.opening", "b", 6),
        ("b.step_0", "b", 6),
        ("b.output", "b", 6),
        ("unknowns", "", 1),
    ]
    assert [layer.start for layer in flat.layers[1:]] == [layer.stop for layer in flat.layers[:-1]]
    assert flat.layers[-1].stop == flat.size
    single = FlatParameters(torch.nn.ModuleDict({"network": mlp(3, 1)(DOMAIN, 1, 0)}))
    assert [layer.name for layer in single.layers] == ["layer_0", "output"]


def test_a_module_without_layers_is_grouped_by_its_submodules():
    class Strange(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.amplitude = torch.nn.Parameter(torch.ones(1))
            self.body = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))

    flat = FlatParameters(torch.nn.ModuleDict({"network": Strange()}))
    assert [(layer.name, layer.size) for layer in flat.layers] == [("network", 1), ("body.0", 9), ("body.2", 4)]
    assert flat.values.dtype == torch.float64


def test_values_and_parameters_share_their_memory():
    networks = two_networks()
    before = [p.detach().clone() for p in networks.parameters()]
    flat = FlatParameters(networks, [("nu", 0.3)])
    assert all(torch.equal(p, b) for p, b in zip(networks.parameters(), before, strict=True))
    assert float(flat.values[-1]) == 0.3
    flat.values.copy_(torch.arange(flat.size))
    for entry in flat.entries:
        assert torch.equal(entry.parameter.detach().reshape(-1), torch.arange(entry.start, entry.stop).double())
        assert flat.slice(entry.parameter) == slice(entry.start, entry.stop)
    with torch.no_grad():
        flat.unknowns["nu"].fill_(-1.0)
    assert float(flat.values[-1]) == -1.0


def test_backward_accumulates_into_the_gradient_without_a_copy():
    networks = two_networks()
    flat = FlatParameters(networks, [("nu", 0.3)])
    where = flat.gradient.data_ptr()
    assert not flat.gradient.any()

    def loss():
        x = torch.ones(2, 2, dtype=torch.float64)
        return (networks["a"](x) ** 2).sum() + (networks["b"](x) ** 2).sum() * flat.unknowns["nu"].sum()

    loss().backward()
    once = flat.gradient.clone()
    expected = torch.autograd.grad(loss(), [e.parameter for e in flat.entries])
    torch.testing.assert_close(once, torch.cat([g.reshape(-1) for g in expected]), rtol=1e-13, atol=1e-15)
    loss().backward()
    torch.testing.assert_close(flat.gradient, 2 * once, rtol=1e-13, atol=1e-15)
    assert flat.gradient.data_ptr() == where
    assert all(
        e.parameter.grad is not None and e.parameter.grad.data_ptr() == flat.gradient[e.start :].data_ptr()
        for e in flat.entries
    )


def test_a_parameter_of_another_module_is_not_in_theta():
    flat = FlatParameters(two_networks())
    with pytest.raises(KeyError):
        flat.slice(torch.nn.Parameter(torch.zeros(1)))


def test_an_opaque_network_has_the_same_theta_as_the_network_in_it():
    plain = FlatParameters(torch.nn.ModuleDict({"network": mlp()(DOMAIN, 1, 0)}))
    hidden = FlatParameters(torch.nn.ModuleDict({"network": Opaque(mlp()(DOMAIN, 1, 0))}))
    assert torch.equal(plain.values, hidden.values)
    assert [layer.size for layer in hidden.layers] == [layer.size for layer in plain.layers]
