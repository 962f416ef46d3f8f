"""Networks in subdomains: windows that are a partition of unity, the Taylor mode, and evaluation where it counts."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pescitrain.errors import OptionError
from pescitrain.networks import Components, Laplacian, SubdomainNetwork, Tape
from pescitrain.networks.jets import jet_of_function
from pescitrain.networks.windows import BoxWindows, Levels

COMPONENTS = Components.closed([(0,), (1,), (0, 0), (0, 1), (1, 1, 1), Laplacian((0, 1))])
LOWER, UPPER = (0.0, -1.0), (1.0, 3.0)


def windows(overlap=0.5, *shapes):
    levels = [BoxWindows(LOWER, UPPER, shape, overlap) for shape in shapes or ((3, 4),)]
    return levels[0] if len(levels) == 1 else Levels(levels)


def whole_jet(one, x, components):
    """The jet (C, S, M) of all windows."""
    numbers, jets = one.jet(x, components)
    assert (numbers.sort(0)[0].diff(dim=0) > 0).all()  # no two of a point alike
    index = numbers.expand(len(components), *numbers.shape)
    return jets.new_zeros(len(components), len(one), len(x)).scatter_add(1, index, jets)


def points(count=50, seed=0):
    unit = torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(LOWER) + unit * (torch.tensor(UPPER) - torch.tensor(LOWER))


def network(parts=None, outputs=2):
    return SubdomainNetwork(parts or windows(), outputs, 5, 2, generator=torch.Generator().manual_seed(1))


@settings(max_examples=30, deadline=None)
@given(overlap=st.floats(0.05, 2.5), count=st.integers(3, 30), reach=st.floats(0.5, 2.0), seed=st.integers(0, 99))
def test_no_window_is_left_out(overlap, count, reach, seed):
    """All of them as they are defined, outside of the box as well; points on the ends of supports among others."""
    one = BoxWindows((0.0,), (1.0,), (count,), overlap)
    edges = torch.cat([one.centers - one.half_widths, one.centers + one.half_widths])
    x = torch.cat([reach * torch.rand(40, 1, generator=torch.Generator().manual_seed(seed)).double() - 0.3, edges])
    half = one.half_widths[0, 0]
    inside = x.clamp(one.centers[0, 0] - 0.99 * half, one.centers[-1, 0] + 0.99 * half)
    expected = (1.0 + torch.cos(np.pi * ((inside - one.centers.t()) / half).clamp(-1.0, 1.0))).square()
    torch.testing.assert_close(one(x), expected / expected.sum(1, keepdim=True), rtol=1e-12, atol=1e-30)
    assert len(one.near(x)[0]) <= 2.0 * overlap + 2.0


@settings(max_examples=30, deadline=None)
@given(overlap=st.floats(0.05, 2.5), rows=st.integers(1, 5), columns=st.integers(3, 5), seed=st.integers(0, 99))
def test_windows_add_up_to_one_and_end_with_their_support(overlap, rows, columns, seed):
    if 1 < rows < overlap:
        return
    one, x = windows(overlap, (rows, columns)), points(seed=seed)
    values = one(x)
    torch.testing.assert_close(values.sum(1), torch.ones(len(x), dtype=torch.float64))
    inside = ((x.unsqueeze(1) - one.centers).abs() < one.half_widths).all(2)
    assert (values >= 0.0).all()
    assert (values[~inside] == 0.0).all()
    assert (values.gather(1, one.owners(x).unsqueeze(1)) > 0.0).all()


def test_the_derivatives_of_windows_are_continuous_at_the_ends_of_their_support():
    one = BoxWindows((0.0,), (1.0,), (2,), 0.4)  # the first ends at 0.7, the second begins at 0.3
    wanted = Components.closed([(0, 0, 0)])
    at = whole_jet(one, torch.tensor([[0.3], [0.7]], dtype=torch.float64), wanted)
    torch.testing.assert_close(at[1:], torch.zeros_like(at[1:]))
    torch.testing.assert_close(at[0], torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))


MIXED = Components.closed([Laplacian((0, 1)), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1, 1)])


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    overlap=st.floats(0.1, 0.9),
    reach=st.floats(0.5, 2.0),
    levels=st.booleans(),
)
def test_jets_of_windows_are_their_nested_derivatives(rows, columns, overlap, reach, levels):
    """Outside of the box as well, where windows are constant along the axes of its faces."""
    shapes = ((1, 1), (rows, columns)) if levels else ((rows, columns),)
    one, x = windows(overlap, *shapes), reach * points()
    for components in (MIXED, Components.closed([()])):
        expected = jet_of_function(one, x, components)
        scale = (1.0 + rows + columns) ** 4 / overlap**4  # of a fourth derivative
        torch.testing.assert_close(whole_jet(one, x, components), expected, rtol=1e-10, atol=1e-13 * scale)


@pytest.mark.parametrize("shapes", [((3, 4),), ((1, 1), (2, 3)), ((1, 1),)])
def test_the_taylor_mode_is_that_of_the_whole_sum(shapes):
    model, x = network(windows(0.5, *shapes)), points()
    found = model.forward_jet(model.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    torch.testing.assert_close(found, jet_of_function(model, x, COMPONENTS), rtol=1e-10, atol=1e-10)


def test_networks_are_evaluated_only_where_their_window_is_not_zero():
    model, x = network(), points(200)
    jets = model.embed_jet(x, COMPONENTS)
    evaluated = int((jets.windows[0] > 0.0).sum())
    assert evaluated == int((model.windows(x) > 0.0).sum()) < 0.5 * len(x) * len(model.windows)
    assert jets.points.shape[1] < len(x)


def test_rows_are_of_a_length_that_leaves_little_empty():
    """All but a tenth of the points in one corner: with one row for a subdomain most of the places would be empty."""
    model, x = network(), points(1000)
    x[100:] = x[100:] * torch.tensor([0.2, 1.0])
    jets = model.embed_jet(x, COMPONENTS)
    sizes = torch.bincount(jets.subdomains.unsqueeze(1).expand_as(jets.here)[jets.here])
    assert torch.equal(sizes, (model.windows(x) > 0.0).sum(0))
    assert jets.here.double().mean() > 0.75
    assert sizes.double().mean() / sizes.max() < 0.45
    assert (jets.subdomains.diff() >= 0).all()
    assert len(jets.subdomains) > len(model.windows)
    whole = model.forward_jet(jets, COMPONENTS, Tape())
    torch.testing.assert_close(whole, jet_of_function(model, x, COMPONENTS), rtol=1e-10, atol=1e-10)


def test_some_of_the_points():
    model, x = network(), points()
    jets, chosen = model.embed_jet(x, COMPONENTS), torch.tensor([3, 8, 41])
    whole = model.forward_jet(jets, COMPONENTS, Tape())
    torch.testing.assert_close(model.forward_jet(jets.at(chosen), COMPONENTS, Tape()), whole[:, :, chosen])


def test_a_subdomain_is_a_layer_and_outputs_are_linear_in_the_last_of_its_numbers():
    model, x = network(outputs=1), points()
    assert [name for name, _ in model.layers()] == [f"subdomain_{s}" for s in range(12)]
    values = model(x)
    with torch.no_grad():
        for name, part in model.output_parts().items():
            dict(model.named_parameters())[name][part] *= 3.0
    torch.testing.assert_close(model(x), 3.0 * values)


@pytest.mark.parametrize("outputs", [1, 2])
def test_with_hidden_layers_frozen_it_is_the_same_function_of_fewer_parameters(outputs):
    model, whole, x = network(outputs=outputs), network(outputs=outputs), points()
    model.freeze_hidden()
    model.freeze_hidden()  # once more changes nothing
    assert {p.numel() for p in model.parameters()} == {6 * outputs}
    torch.testing.assert_close(model(x), whole(x), rtol=0.0, atol=0.0)
    found = model.forward_jet(model.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    expected = whole.forward_jet(whole.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
    assert model.output_parts().keys() == {name for _, names in model.trained_layers() for name in names}


def test_the_model_can_be_exported():
    model, x = network(), points(7)
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: rows}})
    torch.testing.assert_close(program.module()(points(31)), model(points(31)))


@pytest.mark.parametrize(("overlap", "sentence"), [(0.0, "must be above 0"), (4.5, "choose at most 3")])
def test_no_overlap_and_too_much_of_it_are_refused(overlap, sentence):
    with pytest.raises(OptionError, match=sentence):
        windows(overlap)


@settings(max_examples=20, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3),
    overlap=st.floats(0.05, 1.0),
)
def test_supports_that_overlap_are_found(shapes, overlap):
    """Among those of levels, which differ much in size; ends that touch do not overlap."""
    one, other = windows(overlap, *shapes), windows(0.5, (4, 2))
    for first, second in ((one, one), (one, other), (other, one)):
        apart = (first.centers[:, None] - second.centers).abs()
        expected = (apart < (1.0 - 1e-9) * (first.half_widths[:, None] + second.half_widths)).all(2)
        found = torch.zeros_like(expected)
        rows, columns = first.overlapping(second)
        found[rows, columns] = True
        assert torch.equal(found, expected)
        assert len(rows) == int(expected.sum())  # each pair once
