"""The work of local solves on the ranks: everything once, nobody idle, within the bound of the greedy rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import CASES

from pescitrain.evaluation.restriction import closure_work
from pescitrain.solvers.schwarz.local import shares


@given(work=st.lists(st.integers(1, 1000), min_size=1, max_size=12), groups=st.integers(1, 12))
def test_every_task_once_and_no_group_far_above_the_mean(work, groups):
    groups = min(groups, len(work))
    result = shares(work, groups)
    assert sorted(place for places in result for place in places) == list(range(len(work)))
    assert all(result)
    # a group is given a task while it has no more than the mean of the others
    assert max(sum(work[k] for k in places) for places in result) <= sum(work) / groups + max(work)


def test_layers_of_equal_size_are_paired_first_with_last():
    assert shares([4, 3, 2, 1], 2) == [[0, 3], [1, 2]]


def test_a_closure_of_a_layer_runs_through_all_that_follow():
    whole = CASES["two networks"].build()
    actives = [np.arange(layer.start, layer.stop) for layer in whole.parameters.layers]
    work = np.array(closure_work(whole, actives))
    firsts = []
    for name in {layer.network for layer in whole.parameters.layers}:
        numbers = [number for number, layer in enumerate(whole.parameters.layers) if layer.network == name]
        sizes = [whole.parameters.layers[number].size for number in numbers]
        assert work[numbers] / work[numbers[-1]] == pytest.approx(np.cumsum(sizes[::-1])[::-1] / sizes[-1])
        firsts.append(numbers[0])
    both = np.concatenate([actives[number] for number in sorted(firsts)])
    assert closure_work(whole, [both]) == [work[firsts].sum()]
