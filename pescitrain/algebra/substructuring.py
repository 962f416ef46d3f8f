"""A direct solver of sparse symmetric systems on all ranks: what they do not share is eliminated by each alone."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import coo_array, csr_array

Array = NDArray[np.float64]


class Substructuring:
    """A⁻¹ for a sparse symmetric matrix A (K, K), its rows on several ranks. Construction is collective.

    Rows that meet rows of a later rank are separators T. The others of a rank, I, meet none of another rank: each rank
    factors its A_II, and each the Schur complement A_TT − Σ A_TI A_II⁻¹ A_IT of all separators. An application sums
    |T| numbers over the ranks.

    Attributes
    ----------
    size : |T|

    Source: Smith, Bjørstad & Gropp, Domain Decomposition, Cambridge University Press, 1996, ch. 4.
    """

    def __init__(self, matrix: PETSc.Mat, prefix: str) -> None:
        self._comm = matrix.getComm().tompi4py()
        first, last = matrix.getOwnershipRange()
        rows = _local_rows(matrix)
        outward = np.zeros(last - first, dtype=bool)
        outward[np.repeat(np.arange(last - first), np.diff(rows.indptr))[rows.indices >= last]] = True
        self._inside, self._own = np.flatnonzero(~outward), np.flatnonzero(outward)
        parts = self._comm.allgather(first + self._own)
        separators = np.concatenate(parts)
        self.size = len(separators)
        touched = np.setdiff1d(rows[self._inside].indices, first + self._inside)
        self._touched, self._here = touched, np.searchsorted(separators, touched)
        self._own_here = np.searchsorted(separators, first + self._own)
        self._columns, self._separators = first + self._inside, separators
        local = self._schur_part(rows, np.zeros((len(touched), len(touched))))
        places = self._comm.allgather((local.row, local.col))
        self._places = tuple(np.concatenate([place[i] for place in places]) for i in range(2))
        self._counts = [len(place[0]) for place in places]
        self._interior, self._schur = Factors(prefix), SharedFactors(prefix)
        self.update(matrix)

    def update(self, matrix: PETSc.Mat) -> None:
        """Other entries in the same places. Collective."""
        rows = _local_rows(matrix)
        inside = rows[self._inside]
        sides = inside[:, self._touched].toarray()
        self._interior.take(csr_array(inside[:, self._columns]))
        self._extension = self._interior.solve(sides)
        part = self._schur_part(rows, -sides.T @ self._extension)
        values = np.empty(self.gathered)
        self._comm.Allgatherv(np.ascontiguousarray(part.data), (values, self._counts))
        off = self._places[0] != self._places[1]
        everywhere = np.concatenate((values, values[off]))
        places = tuple(np.concatenate((self._places[i], self._places[1 - i][off])) for i in range(2))
        self._schur.take(csr_array(coo_array((everywhere, places), shape=(self.size,) * 2)))

    def _schur_part(self, rows: csr_array, eliminated: Array) -> coo_array:
        """What this rank adds to the upper triangle of the Schur complement: its rows of A_TT, and what it has
        eliminated (t, t).
        """
        own = coo_array(rows[self._own][:, self._separators])
        upper = self._own_here[own.row] <= own.col
        row, column = np.triu_indices(len(self._here))
        values = np.concatenate((own.data[upper], eliminated[row, column]))
        places = (
            np.concatenate((self._own_here[own.row[upper]], self._here[row])),
            np.concatenate((own.col[upper], self._here[column])),
        )
        return coo_array((values, places), shape=(self.size,) * 2)

    @property
    def gathered(self) -> int:
        """Numbers that an update gathers on every rank."""
        return sum(self._counts)

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A⁻¹ x. Collective."""
        right = x.array_r
        inside = right[self._inside]
        shared = np.zeros(self.size)
        shared[self._own_here] = right[self._own]
        shared[self._here] -= self._extension.T @ inside
        self._comm.Allreduce(MPI.IN_PLACE, shared)
        shared = self._schur.solve(shared)
        solution = np.empty(len(right))
        solution[self._own] = shared[self._own_here]
        solution[self._inside] = self._interior.solve(inside) - self._extension @ shared[self._here]
        y.setArray(solution)

    def destroy(self) -> None:
        """Collective."""
        self._interior.destroy()
        self._schur.destroy()


class Factors:
    """A direct PC of this rank alone, for one matrix after another with entries in the same places."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._pc: PETSc.PC | None = None

    def take(self, rows: csr_array) -> None:
        """Factor another matrix (k, k), also with k = 0."""
        rows.sort_indices()
        csr = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType), rows.data)
        if self._pc is None:
            self._matrix = PETSc.Mat().createAIJ(rows.shape, csr=csr, comm=PETSc.COMM_SELF)
            self._right, self._solution = self._matrix.createVecLeft(), self._matrix.createVecRight()
            self._pc = PETSc.PC().create(PETSc.COMM_SELF)
            self._pc.setOptionsPrefix(self._prefix)
            self._pc.setType("cholesky")
            self._pc.setFromOptions()
        else:
            self._matrix.setValuesCSR(*csr)
            self._matrix.assemble()
        self._pc.setOperators(self._matrix, self._matrix)
        if len(csr[2]):
            self._pc.setUp()

    def solve(self, right: Array) -> Array:
        """(k,) or (k, c) -> the same."""
        if right.ndim == 2:
            return np.stack([self.solve(column) for column in right.T], axis=1) if right.size else right
        if not len(right):
            return right
        assert self._pc is not None
        self._right.setArray(right)
        self._pc.apply(self._right, self._solution)
        return self._solution.array_r.copy()

    def destroy(self) -> None:
        """Not collective."""
        if self._pc is not None:
            for thing in (self._pc, self._matrix, self._right, self._solution):
                thing.destroy()


class SharedFactors(Factors):
    """Of a matrix that every rank has, all with the same entries."""


def _local_rows(matrix: PETSc.Mat) -> csr_array:
    """The rows of this rank (k, K)."""
    starts, columns, values = matrix.getValuesCSR()
    return csr_array((values, columns, starts), shape=(len(starts) - 1, matrix.getSize()[1]))
