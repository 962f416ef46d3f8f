"""The network as a DM: fields, subdomains, vectors and matrices."""

import itertools

import numpy as np
import pytest
from petsc4py import PETSc
from toys import setting

from pescitrain.algebra import AssembledGaussNewton, create_network_dm
from pescitrain.algebra.network_dm import blocks_of_rank, index_set

pytestmark = pytest.mark.parallel


@pytest.fixture(params=["blocks", "even"])
def parts(request, comm):
    return setting(comm, "two rows", request.param, overlap=1)


def matrix():
    return PETSc.Mat().createAIJ(3, nnz=1, comm=PETSc.COMM_SELF)


def test_fields_are_the_layers_by_their_names(parts, comm):
    names, sets, _ = create_network_dm(parts.layout, parts.blocks, matrix).createFieldDecomposition()
    assert names == [layer.name for layer in parts.layout.layers]
    for layer, indices in zip(parts.layout.layers, sets, strict=True):
        assert indices.getComm().size == comm.size
        own = indices.getIndices()
        assert all(parts.layout.start <= k < parts.layout.stop for k in own)
        assert np.array_equal(np.concatenate(comm.allgather(own)), np.arange(layer.start, layer.stop))


def asm_subdomains(parts):
    """(outer, inner) index sets of PCASM on this rank, as PETSc took them from the DM."""
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, "blocks", 0.1)
    assembled.assemble(parts.evaluator.linearize(parts.theta))
    PETSc.Options()["pc_asm_dm_subdomains"] = True
    pc = PETSc.PC().create(parts.layout.comm)
    pc.setType("asm")
    pc.setDM(create_network_dm(parts.layout, parts.blocks, lambda: assembled.mat))
    pc.setOperators(assembled.mat, assembled.mat)
    pc.setFromOptions()
    pc.setUp()
    count, outer, inner = pc.getASMLocalSubdomains()
    assert count == len(outer) == len(inner)
    return [i.getIndices().tolist() for i in outer], [i.getIndices().tolist() for i in inner]


def test_subdomains_are_the_blocks_of_the_rank_that_owns_their_first_entry(parts, comm):
    own = blocks_of_rank(parts.layout, parts.blocks)
    assert all(parts.layout.owner(int(b.owned[0])) == comm.rank for b in own)
    assert sorted(itertools.chain(*comm.allgather([b.name for b in own]))) == sorted(b.name for b in parts.blocks)
    outer, inner = asm_subdomains(parts)
    if own:
        assert inner == [b.owned.tolist() for b in own]
        assert outer == [b.active.tolist() for b in own]


def test_a_rank_without_blocks_has_an_empty_subdomain(comm):
    parts = setting(comm, "two rows", blocks=1)
    subdomains = comm.allgather(asm_subdomains(parts))
    everything = [list(range(parts.layout.size))]
    assert sorted(subdomains) == sorted([([[]], [[]])] * (comm.size - 1) + [(everything, everything)])


def test_vectors_have_the_layout_of_theta(parts):
    dm = create_network_dm(parts.layout, parts.blocks, matrix)
    assert dm.createGlobalVec().getSizes() == (parts.layout.local_size, parts.layout.size)
    assert dm.getAttr("layout") is parts.layout


def test_the_matrix_is_the_assembled_one(parts):
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, "blocks", 0.1)
    dm = create_network_dm(parts.layout, parts.blocks, lambda: assembled.mat)
    assert dm.createMat().handle == assembled.mat.handle


def test_index_sets_have_the_integers_of_petsc():
    indices = index_set(np.array([3, 1, 7], dtype=np.int64))
    assert indices.getIndices().tolist() == [3, 1, 7]
    assert indices.getComm().size == 1
