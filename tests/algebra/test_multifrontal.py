"""The multifrontal Cholesky factorisation of blocks between layers, on graphs of any kind."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from scipy.linalg import LinAlgError
from torch import nn

from pescitrain.algebra.multifrontal import EliminationOrder, MultifrontalCholesky
from pescitrain.evaluation.jacobian import GramBlock
from pescitrain.networks.parameters import Entry, Layer


def layers_of(sizes):
    ends = np.cumsum([0, *sizes]).tolist()
    return [Layer(f"layer_{i}", "", start, stop) for i, (start, stop) in enumerate(pairwise(ends))]


def blocks_of(matrix, layers, coupled):
    """Of each pair of tensors, two in a layer of more than one parameter."""
    entries = []
    for i, layer in enumerate(layers):
        middle = (layer.start + layer.stop + 1) // 2
        for start, stop in {(layer.start, middle), (middle, layer.stop)}:
            if stop > start:
                entries.append((i, Entry(f"{start}", nn.Parameter(torch.zeros(stop - start)), start, stop)))
    entries.sort(key=lambda entry: entry[1].start)
    for k, (i, row) in enumerate(entries):
        for j, column in entries[k:]:
            if j in coupled[i]:
                part = matrix[row.start : row.stop, column.start : column.stop]
                yield GramBlock(row, column, torch.from_numpy(part.copy()))


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 12))
    pairs = draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=20))
    near = np.eye(count, dtype=bool)
    for i, j in pairs:
        near[i, j] = near[j, i] = True
    return draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)), [np.flatnonzero(row) for row in near]


def grid(rows, columns):
    """Boxes that meet those beside them, corners included."""
    i, j = (index.ravel() for index in np.indices((rows, columns)))
    return [np.flatnonzero((abs(i - a) <= 1) & (abs(j - b) <= 1)) for a, b in zip(i, j, strict=True)]


def positive_definite(layers, coupled, seed=0):
    size = layers[-1].stop
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    matrix += matrix.T
    for i, layer in enumerate(layers):
        for j, other in enumerate(layers):
            if j not in coupled[i]:
                matrix[layer.start : layer.stop, other.start : other.stop] = 0.0
    return matrix + 1.1 * np.abs(matrix).sum(1).max() * np.eye(size)


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 99))
def test_it_solves_with_any_pattern_of_blocks(graph, seed):
    sizes, coupled = graph
    layers = layers_of(sizes)
    matrix, order = positive_definite(layers, coupled, seed), EliminationOrder(layers, coupled)
    factors = MultifrontalCholesky(blocks_of(matrix, layers, coupled), order, MPI.COMM_SELF)
    np.testing.assert_array_equal(factors.diagonal, matrix.diagonal())
    b = np.random.default_rng(seed).standard_normal(len(matrix))
    for shift in (0.0, 3.0):
        x = factors.factor(shift)(b)
        np.testing.assert_allclose(matrix @ x + shift * x, b, rtol=0.0, atol=1e-12 * np.abs(b).max())


@given(graphs())
def test_each_layer_is_eliminated_once_and_children_before_their_parents(graph):
    sizes, coupled = graph
    order = EliminationOrder(layers_of(sizes), coupled)
    own = [layer for front in order.fronts for layer in front.own]
    assert sorted(own) == list(range(len(sizes)))
    assert np.array_equal(np.argsort(order.place), own)
    for number, front in enumerate(order.fronts):
        assert all(child < number for child in front.children)
        assert all(order.place[layer] > order.place[front.own].max() for layer in front.others)
        assert {*front.own, *front.others} >= {
            int(i) for j in front.own for i in coupled[j] if i not in own[: own.index(j)]
        }


def test_a_grid_takes_less_than_its_band_and_what_meets_everything_comes_last():
    size, side = 7, 16
    layers = layers_of([size] * side**2)
    order = EliminationOrder(layers, grid(side, side))
    assert order.flops < 0.75 * side**2 * size * ((side + 2) * size) ** 2
    both = [np.append(near, side**2) for near in grid(side, side)] + [np.arange(side**2 + 1)]
    with_all = EliminationOrder(layers_of([size] * (side**2 + 1)), both)
    assert side**2 in with_all.fronts[-1].own
    assert with_all.flops < 1.3 * order.flops


def test_what_is_not_positive_definite_is_told():
    layers, coupled = layers_of([2, 2, 2]), grid(1, 3)
    matrix = positive_definite(layers, coupled)
    matrix[3, 3] = -1.0
    factors = MultifrontalCholesky(blocks_of(matrix, layers, coupled), EliminationOrder(layers, coupled), MPI.COMM_SELF)
    with pytest.raises(LinAlgError):
        factors.factor(0.0)
    x = factors.factor(100.0)(np.ones(6))
    np.testing.assert_allclose(matrix @ x + 100.0 * x, 1.0, rtol=1e-12)
