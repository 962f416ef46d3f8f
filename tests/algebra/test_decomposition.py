"""Blocks of layers: every parameter in exactly one, as even as asked for, with overlap."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.algebra import decompose
from pescitrain.errors import OptionError
from pescitrain.networks.parameters import Layer

KINDS = ("layer", "balanced")


def layers_of(sizes):
    stops = np.cumsum(sizes).tolist()
    return [Layer(f"l{i}", "", stop - size, stop) for i, (size, stop) in enumerate(zip(sizes, stops, strict=True))]


sizes_and_count = st.lists(st.integers(1, 50), min_size=1, max_size=12).flatmap(
    lambda sizes: st.tuples(st.just(sizes), st.integers(1, len(sizes)))
)


@pytest.mark.parametrize("kind", KINDS)
@given(sizes_and_count, st.integers(0, 4))
def test_every_parameter_is_owned_by_exactly_one_block(kind, sizes_and_count, overlap):
    sizes, count = sizes_and_count
    blocks = decompose(layers_of(sizes), kind, count, overlap)
    assert len(blocks) == count
    assert np.array_equal(np.concatenate([b.owned for b in blocks]), np.arange(sum(sizes)))
    for block in blocks:
        assert len(block.owned) > 0
        assert block.owned.dtype == block.active.dtype == np.int32
        assert np.isin(block.owned, block.active).all()
        assert (np.diff(block.active) == 1).all()
        if overlap == 0:
            assert np.array_equal(block.active, block.owned)


@pytest.mark.parametrize("kind", KINDS)
@given(sizes_and_count, st.integers(0, 4))
def test_the_overlap_is_whole_layers_on_both_sides_clipped_to_the_network(kind, sizes_and_count, overlap):
    sizes, count = sizes_and_count
    layers = layers_of(sizes)
    starts, stops = [layer.start for layer in layers], [layer.stop for layer in layers]
    for block in decompose(layers, kind, count, overlap):
        first, last = starts.index(block.owned[0]), stops.index(block.owned[-1] + 1)
        outer = range(max(0, first - overlap), min(len(sizes), last + overlap + 1))
        assert (block.active[0], block.active[-1] + 1) == (starts[outer[0]], stops[outer[-1]])


def test_blocks_of_networks_never_have_layers_of_two():
    sizes, networks = [3, 4, 5, 2, 2, 1, 7], ["branch"] * 4 + ["trunk"] * 2 + [""]
    layers = [replace(layer, network=name) for layer, name in zip(layers_of(sizes), networks, strict=True)]
    owner = np.repeat(networks, sizes)
    for count in range(3, 8):
        blocks = decompose(layers, "network", count, 1)
        assert len(blocks) == count
        assert np.array_equal(np.concatenate([block.owned for block in blocks]), np.arange(sum(sizes)))
        assert all(len(set(owner[block.active])) == 1 for block in blocks)
    assert len(decompose(layers, "network", None, 0)) == 7
    shares = [
        sum(owner[block.owned[0]] == name for block in decompose(layers, "network", 5, 0))
        for name in ("branch", "trunk")
    ]
    assert shares == [3, 1]  # 5 · 4/7 and 5 · 2/7, and one for the unknowns
    for count in (2, 8):
        with pytest.raises(OptionError, match="choose from 3 to 7"):
            decompose(layers, "network", count, 0)


def test_even_blocks_are_the_published_rule_for_every_number_of_layers_up_to_40():
    for total in range(1, 41):
        layers = layers_of([1] * total)
        for count in range(1, total + 1):
            lengths = [len(b.owned) for b in decompose(layers, "layer", count, 0)]
            cuts = [s * total // count for s in range(count + 1)]
            assert lengths == np.diff(cuts).tolist()
            assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("sizes", "count", "even", "balanced"),
    [
        ([60, *[420] * 6, 21], 3, 1260, 900),
        ([150, *[2550] * 8, 51], 4, 7650, 5250),
        ([192, *[4160] * 4, 65], 4, 8320, 4352),
    ],
)
def test_balanced_blocks_of_published_networks_have_the_known_largest_size(sizes, count, even, balanced):
    largest = {kind: max(len(b.owned) for b in decompose(layers_of(sizes), kind, count, 0)) for kind in KINDS}
    assert largest == {"layer": even, "balanced": balanced}


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8).flatmap(
        lambda sizes: st.tuples(st.just(sizes), st.integers(1, len(sizes)))
    )
)
def test_no_cut_has_a_smaller_largest_block_than_the_balanced_one(sizes_and_count):
    sizes, count = sizes_and_count
    cuts = itertools.combinations(range(1, len(sizes)), count - 1)
    best = min(max(sum(sizes[a:b]) for a, b in itertools.pairwise((0, *inner, len(sizes)))) for inner in cuts)
    blocks = decompose(layers_of(sizes), "balanced", count, 0)
    assert max(len(b.owned) for b in blocks) == best


def test_there_is_one_block_for_each_layer_unless_a_number_is_given():
    blocks = decompose(layers_of([3, 2, 4]), "layer", None, 0)
    assert [(b.name, b.owned.tolist()) for b in blocks] == [("l0", [0, 1, 2]), ("l1", [3, 4]), ("l2", [5, 6, 7, 8])]


def test_blocks_are_named_after_their_first_and_last_layer():
    assert [b.name for b in decompose(layers_of([1] * 5), "layer", 2, 1)] == ["l0-l1", "l2-l4"]


@pytest.mark.parametrize("kind", KINDS)
def test_impossible_blocks_are_an_error_that_says_what_is_possible(kind):
    layers = layers_of([1, 1, 1])
    for count in (0, -1, 4):
        with pytest.raises(OptionError, match=rf"-part_blocks {count}: there are 3 layers, so choose from 1 to 3"):
            decompose(layers, kind, count, 0)
    with pytest.raises(OptionError, match=r"-part_overlap -1: the overlap is a number of layers, 0 or more"):
        decompose(layers, kind, 2, -1)


def test_layers_that_do_not_follow_each_other_take_their_neighbours_as_overlap():
    """Subdomains on a grid of 2 × 3: those beside one another, also across the rows."""
    beside = [[1, 3], [0, 2, 4], [1, 5], [0, 4], [1, 3, 5], [2, 4]]
    neighbours = [np.array(sorted([number, *others])) for number, others in enumerate(beside)]
    layers = layers_of([2] * 6)
    blocks = decompose(layers, "layer", None, 1, neighbours)
    assert [(block.active[::2] // 2).tolist() for block in blocks] == [n.tolist() for n in neighbours]
    assert [block.owned.tolist() for block in blocks] == [[2 * n, 2 * n + 1] for n in range(6)]
    pairs = decompose(layers, "layer", 3, 2, neighbours)
    assert (pairs[0].active[::2] // 2).tolist() == [0, 1, 2, 3, 4, 5]
    assert (decompose(layers, "layer", 3, 1, neighbours)[2].active[::2] // 2).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(OptionError, match="0 or more"):
        decompose(layers, "layer", 3, -1, neighbours)
