"""How whole layers are dealt out to ranks."""

import numpy as np
import pytest

from pescitrain.algebra.layout import _starts_of_whole_layers
from pescitrain.networks.parameters import Layer


def starts(sizes, ranks):
    stops = np.cumsum(sizes).tolist()
    layers = [Layer(str(i), "", stop - size, stop) for i, (size, stop) in enumerate(zip(sizes, stops, strict=True))]
    return _starts_of_whole_layers(layers, stops[-1], ranks)


@pytest.mark.parametrize("ranks", range(1, 9))
@pytest.mark.parametrize("sizes", [[9, 12, 12, 12, 4], [1], [100, 1], [1, 100], [5] * 8])
def test_whole_layers_are_dealt_out_to_any_number_of_ranks(sizes, ranks):
    given = starts(sizes, ranks)
    cuts = {0, *np.cumsum(sizes).tolist()}
    assert len(given) == ranks + 1
    assert (given[0], given[-1]) == (0, sum(sizes))
    assert (np.diff(given) >= 0).all()
    assert set(given.tolist()) <= cuts
    ideal = sum(sizes) * np.arange(ranks + 1) / ranks
    nearest = [min(abs(cut - target) for cut in cuts) for target in ideal]
    assert np.array_equal(np.abs(given - ideal), nearest)


def test_equal_layers_are_dealt_out_evenly():
    assert starts([5] * 8, 4).tolist() == [0, 10, 20, 30, 40]
