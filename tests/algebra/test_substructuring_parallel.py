"""The direct solver by separators, beside dense inverses."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra import coarse_solve
from pescitrain.algebra.substructuring import Substructuring
from pescitrain.errors import OptionError

pytestmark = pytest.mark.parallel


def random_matrix(size: int, pairs: int, seed: int) -> np.ndarray:
    """Symmetric and diagonally dominant, with so many pairs of entries off the diagonal: its inverse is at most 1, so
    that solutions are exact to round-off.
    """
    generator = np.random.default_rng(seed)
    dense = np.zeros((size, size))
    for row, column in generator.integers(size, size=(pairs, 2)):
        dense[row, column] = dense[column, row] = generator.standard_normal()
    return dense + np.diag(1.0 + np.abs(dense).sum(1))


def distributed(comm, dense: np.ndarray, local: int) -> PETSc.Mat:
    """The entries that are not zero; ``local`` rows here."""
    size = (local, len(dense))
    mat = PETSc.Mat().createAIJ((size, size), nnz=len(dense), comm=PETSc.Comm(comm))
    first, last = mat.getOwnershipRange()
    for row in range(first, last):
        for column in np.flatnonzero(dense[row]):
            mat.setValue(row, column, dense[row, column])
    mat.assemble()
    return mat


def applied(solver: Substructuring, mat: PETSc.Mat, comm, right: np.ndarray) -> np.ndarray:
    x, y = mat.createVecs()
    x.setArray(right[slice(*mat.getOwnershipRange())])
    solver.apply(x, y)
    return np.concatenate(comm.allgather(y.array_r.copy()))


def local_rows(comm, size: int, how: str) -> int:
    if how == "even":
        return size // comm.size + (comm.rank < size % comm.size)
    owner = 0 if how == "first" else comm.size - 1
    return size if comm.rank == owner else 0


@pytest.mark.parametrize("group_size", [2, 32])
@pytest.mark.parametrize("how", ["even", "first", "last"])
@pytest.mark.parametrize(("size", "pairs"), [(1, 0), (2, 1), (9, 0), (20, 12), (20, 40), (12, 200)])
def test_it_is_the_inverse_also_after_an_update(comm, size, pairs, how, group_size):
    """With groups of two, three ranks have two levels and five have three."""
    PETSc.Options()["coarse_group_size"] = group_size
    dense, right = random_matrix(size, pairs, size + pairs), np.cos(np.arange(size))
    mat = distributed(comm, dense, local_rows(comm, size, how))
    solver = Substructuring(mat, "coarse_")
    np.testing.assert_allclose(applied(solver, mat, comm, right), np.linalg.solve(dense, right), rtol=0, atol=1e-12)
    mat.scale(2.0)
    mat.shift(0.5)
    solver.update(mat)
    changed = 2.0 * dense + 0.5 * np.eye(size)
    np.testing.assert_allclose(applied(solver, mat, comm, right), np.linalg.solve(changed, right), rtol=0, atol=1e-12)
    solver.destroy()


def test_entries_that_were_zero_at_first_count_after_an_update(comm):
    dense, right = random_matrix(20, 40, 3), np.cos(np.arange(20))
    mat = distributed(comm, dense, local_rows(comm, 20, "even"))
    diagonal = distributed(comm, dense, local_rows(comm, 20, "even"))
    diagonal.zeroEntries()
    diagonal.shift(1.0)
    solver = Substructuring(diagonal, "coarse_")
    np.testing.assert_allclose(applied(solver, mat, comm, right), right, rtol=0, atol=1e-14)
    solver.update(mat)
    np.testing.assert_allclose(applied(solver, mat, comm, right), np.linalg.solve(dense, right), rtol=0, atol=1e-12)
    solver.destroy()


def test_ranks_share_one_row_of_a_chain_with_the_next(comm):
    size = 8 * comm.size
    dense = 3.0 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    solver = Substructuring(distributed(comm, dense, 8), "coarse_")
    assert solver.reduced == comm.size - 1
    solver.destroy()


def test_a_rank_of_a_chain_reduces_what_its_groups_share_not_what_all_do(comm):
    """In groups of two: the row between them, and above, where it leads, that between groups, of which it knows two."""
    PETSc.Options()["coarse_group_size"] = 2
    size = 8 * comm.size
    dense = 3.0 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    solver = Substructuring(distributed(comm, dense, 8), "coarse_")
    levels, units = 0, comm.size
    while units > 2:
        levels, units = levels + 1, -(-units // 2)
    assert solver.reduced <= 3 * levels + 1
    assert comm.allreduce(solver.reduced, op=MPI.MAX) >= levels
    solver.destroy()


def test_a_group_of_one_rank_is_refused(comm):
    PETSc.Options()["coarse_group_size"] = 1
    with pytest.raises(OptionError, match="-coarse_group_size 1: it must be at least 2"):
        Substructuring(distributed(comm, np.eye(4), local_rows(comm, 4, "even")), "coarse_")


def test_a_direct_solver_of_several_ranks_is_left_to_petsc(comm, monkeypatch):
    monkeypatch.setattr(coarse_solve, "Substructuring", lambda *_: pytest.fail("it has been asked"))
    PETSc.Options()["coarse_pc_factor_mat_solver_type"] = "petsc"
    mat = distributed(comm, np.eye(4), local_rows(comm, 4, "even"))
    if comm.size == 1:
        coarse_solve.CoarseSolve(mat, mat, "coarse_").destroy()
        return
    with pytest.raises(PETSc.Error):  # PETSc's own are for one rank
        coarse_solve.CoarseSolve(mat, mat, "coarse_")
