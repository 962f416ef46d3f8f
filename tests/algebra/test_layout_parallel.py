"""θ as a Vec over the ranks."""

import itertools

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import mlp

from pescitrain.algebra import ParameterLayout
from pescitrain.geometry import Box
from pescitrain.networks.parameters import FlatParameters

pytestmark = pytest.mark.parallel


def parameters(depth=4):
    network = mlp(width=3, depth=depth)(Box(("x", "y"), (0, 0), (1, 1)), 1, 0)
    return FlatParameters(torch.nn.ModuleDict({"network": network}))


@pytest.fixture(params=["blocks", "even"])
def layout(request, comm):
    layout = ParameterLayout(parameters(), PETSc.Comm(comm), request.param)
    yield layout
    layout.destroy()


def test_gather_undoes_set(layout):
    values = np.random.default_rng(0).standard_normal(layout.size)
    vec = layout.vec_from(values)
    assert np.array_equal(layout.gather(vec), values)
    assert np.array_equal(vec.array_r, values[layout.start : layout.stop])
    layout.set(vec, 2 * values)
    assert np.array_equal(layout.gather(vec), 2 * values)
    vec.destroy()


def test_new_vecs_are_zero_and_independent(layout):
    one, other = layout.create_vec(), layout.create_vec()
    one.set(3.0)
    assert other.norm() == 0.0
    assert layout.create_vec().norm() == 0.0
    assert one.getSizes() == (layout.local_size, layout.size)
    assert one.getName() == layout.template.getName() == "theta"


def test_the_parts_of_the_ranks_follow_each_other(layout, comm):
    spans = comm.allgather((layout.start, layout.stop))
    assert spans[0][0] == 0
    assert spans[-1][1] == layout.size
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert all(start <= stop for start, stop in spans)
    for rank, (start, stop) in enumerate(spans):
        assert all(layout.owner(index) == rank for index in range(start, stop))


def test_the_rank_of_a_layer_owns_all_of_it(comm):
    layout = ParameterLayout(parameters(), PETSc.Comm(comm), "blocks")
    for layer in layout.layers:
        assert len({layout.owner(index) for index in range(layer.start, layer.stop)}) == 1
    assert layout.local_size > 0  # five layers of sizes 9, 12, 12, 12, 4 for up to three ranks


def test_even_parts_differ_by_one(comm):
    layout = ParameterLayout(parameters(), PETSc.Comm(comm), "even")
    sizes = comm.allgather(layout.local_size)
    assert max(sizes) - min(sizes) <= 1


def test_a_rank_without_parameters_takes_part(comm):
    layout = ParameterLayout(parameters(depth=0), PETSc.Comm(comm), "blocks")  # one layer
    sizes = comm.allgather(layout.local_size)
    assert sorted(sizes) == [0] * (comm.size - 1) + [3]
    vec = layout.vec_from(np.arange(3.0))
    assert np.array_equal(layout.gather(vec), np.arange(3.0))
    assert [layout.owner(k) for k in range(3)] == [sizes.index(3)] * 3
