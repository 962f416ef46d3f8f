"""The local solves of two-level Schwarz: the same with submatrices of the rank's own rows and of all ranks."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import Case, _poisson, start, subdomains

from pescitrain.algebra import ParameterLayout, decompose
from pescitrain.algebra.local_solves import LocalSolves
from pescitrain.algebra.network_dm import create_network_dm
from pescitrain.algebra.operators import gather_rows
from pescitrain.algebra.sparse_gauss_newton import SparseGaussNewton
from pescitrain.evaluation.couplings import find_couplings

pytestmark = pytest.mark.parallel


def setting(comm, overlap=0, shape=(5, 3)):
    """Layout, blocks, and JᵀJ + λI for two θ."""
    evaluator = Case(_poisson, subdomains((shape,), 0.3)).build(comm, chunk_size=7)
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm), "blocks")
    couplings = find_couplings(evaluator.surrogate, layout.layers, evaluator.samples, comm)
    assert couplings is not None
    blocks = decompose(layout.layers, "layer", None, overlap, couplings.neighbours)
    matrix = SparseGaussNewton(layout, couplings.coupled, 0.1)
    matrix.assemble(evaluator.linearize(start(evaluator)))
    return evaluator, layout, blocks, matrix


def block_inverses(matrix, blocks):
    """Σ R_iᵀ A_i⁻¹ R_i, dense."""
    whole = gather_rows(matrix.mat).toarray()
    result = np.zeros_like(whole)
    for block in blocks:
        result[np.ix_(block.active, block.active)] += np.linalg.inv(whole[np.ix_(block.active, block.active)])
    return result


def applied(layout, local, vector):
    x, y = layout.vec_from(vector), layout.create_vec()
    y.set(7.0)  # which is overwritten
    local.apply(x, y)
    np.testing.assert_array_equal(layout.gather(x), vector)
    return layout.gather(y).copy()


@pytest.mark.parametrize("overlap", [0, 1])
def test_they_are_the_inverses_of_the_blocks(comm, overlap):
    evaluator, layout, blocks, matrix = setting(comm, overlap)
    local = LocalSolves(matrix.mat, create_network_dm(layout, blocks, lambda: matrix.mat), "own_")
    vector = np.sin(np.arange(layout.size))
    for theta in (start(evaluator), start(evaluator) + 0.1):
        matrix.assemble(evaluator.linearize(theta))
        local.update(matrix.mat)
        expected = block_inverses(matrix, blocks) @ vector
        # Blocks have condition numbers of up to 1e3; 3e-14 was seen.
        np.testing.assert_allclose(applied(layout, local, vector), expected, rtol=0.0, atol=1e-12 * abs(expected).max())
    local.destroy()


@pytest.mark.parametrize("overlap", [0, 1])
def test_blocks_that_stay_on_their_rank_ask_no_other(comm, overlap):
    """With an overlap they reach to other ranks, where there are any."""
    _, layout, blocks, matrix = setting(comm, overlap)
    local = LocalSolves(matrix.mat, create_network_dm(layout, blocks, lambda: matrix.mat), "own_")
    assert local.alone == (overlap == 0 or comm.size == 1)


def test_the_overlap_of_petsc_grows_on_all_ranks(comm):
    """It gives up the blocks: the PC is PETSc's, of one subdomain for each rank and its neighbours in the matrix."""
    PETSc.Options()["own_pc_asm_overlap"] = 1
    _, layout, blocks, matrix = setting(comm)
    local = LocalSolves(matrix.mat, create_network_dm(layout, blocks, lambda: matrix.mat), "own_")
    local.update(matrix.mat)
    alone = PETSc.PC().create(comm)
    alone.setType("asm")
    alone.setASMType(PETSc.PC.ASMType.BASIC)
    alone.setASMOverlap(1)
    alone.setOperators(matrix.mat)
    PETSc.Options()["alone_sub_pc_type"] = "cholesky"
    alone.setOptionsPrefix("alone_")
    alone.setFromOptions()
    vector = np.sin(np.arange(layout.size))
    expected = applied(layout, alone, vector)
    np.testing.assert_allclose(applied(layout, local, vector), expected, rtol=0.0, atol=1e-12 * abs(expected).max())


def test_ranks_without_a_block_take_part(comm):
    _, layout, blocks, matrix = setting(comm, shape=(1, 1))
    local = LocalSolves(matrix.mat, create_network_dm(layout, blocks, lambda: matrix.mat), "own_")
    local.update(matrix.mat)
    vector = np.sin(np.arange(layout.size))
    expected = block_inverses(matrix, blocks) @ vector
    np.testing.assert_allclose(applied(layout, local, vector), expected, rtol=0.0, atol=1e-12 * abs(expected).max())


def test_it_is_shown_once(comm, capfd):
    _, layout, blocks, matrix = setting(comm)
    local = LocalSolves(matrix.mat, create_network_dm(layout, blocks, lambda: matrix.mat), "own_")
    local.update(matrix.mat)
    local.view(PETSc.Viewer.STDOUT(layout.comm))
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert shown.count("type: asm") == 1
    assert shown.count("restriction/interpolation type - BASIC") == 1
