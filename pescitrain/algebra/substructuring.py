"""A direct solver of sparse symmetric systems on all ranks: what they do not share is eliminated by each alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import coo_array, csr_array

from pescitrain.algebra.elimination import Elimination
from pescitrain.algebra.shared_system import entries_of, shared_system
from pescitrain.errors import OptionError

Array = NDArray[np.float64]

GROUP_SIZE = 32


class Substructuring:
    """A⁻¹ for a sparse symmetric matrix A (K, K), its rows on several ranks. Construction is collective.

    Rows that meet rows of a later rank are separators T. The others of a rank, I, meet none of another rank: each rank
    factors its A_II. What is left, the Schur complement A_TT − Σ A_TI A_II⁻¹ A_IT of all separators, is factored by
    every rank of a few; of more ranks by groups, whose first ranks share what groups have in common.

    Options, with ``prefix``
    ------------------------
    -group_size 32          ranks that may have all that they share on each of them

    Raises
    ------
    OptionError

    Source: Smith, Bjørstad & Gropp, Domain Decomposition, Cambridge University Press, 1996, ch. 4.
    """

    def __init__(self, matrix: PETSc.Mat, prefix: str) -> None:
        group_size = PETSc.Options(prefix).getInt("group_size", GROUP_SIZE)
        if group_size < 2:
            raise OptionError(f"-{prefix}group_size {group_size}: it must be at least 2")
        comm = matrix.getComm().tompi4py()
        first, last = matrix.getOwnershipRange()
        rows = _local_rows(matrix)
        outward = np.zeros(last - first, dtype=bool)
        outward[np.repeat(np.arange(last - first), np.diff(rows.indptr))[rows.indices >= last]] = True
        self._inside, self._own = np.flatnonzero(~outward), np.flatnonzero(outward)
        self._columns = first + self._inside
        self._touched = np.setdiff1d(rows[self._inside].indices, self._columns)
        met = np.unique(rows[self._own].indices)
        met = met[met >= last]
        met = met[_marked(matrix, outward, met)]
        self._known = np.unique(np.concatenate((first + self._own, met, self._touched)))
        self._here, self._own_here = (np.searchsorted(self._known, n) for n in (self._touched, first + self._own))
        self._elimination = Elimination(prefix)
        part = self._schur_part(rows, np.zeros((len(self._touched),) * 2))
        self._shared = shared_system(comm, self._known, part.row, part.col, group_size, prefix)
        self.update(matrix)

    @property
    def reduced(self) -> int:
        """Numbers that an application sums over ranks."""
        return self._shared.reduced

    @property
    def gathered(self) -> int:
        """Numbers that an update gathers here."""
        return self._shared.gathered

    def update(self, matrix: PETSc.Mat) -> None:
        """Other entries in the same places. Collective."""
        rows = _local_rows(matrix)
        inside = rows[self._inside]
        given = self._elimination.take(csr_array(inside[:, self._columns]), inside[:, self._touched].toarray())
        self._shared.take(self._schur_part(rows, given).data)

    def _schur_part(self, rows: csr_array, eliminated: Array) -> coo_array:
        """What this rank adds to the upper triangle of the Schur complement, among the separators that it knows: its
        rows of A_TT, and what it has eliminated (t, t).
        """
        own = coo_array(rows[self._own][:, self._known])
        upper = self._own_here[own.row] <= own.col
        row, column = np.triu_indices(len(self._here))
        values = np.concatenate((own.data[upper], eliminated[row, column]))
        places = (
            np.concatenate((self._own_here[own.row[upper]], self._here[row])),
            np.concatenate((own.col[upper], self._here[column])),
        )
        return coo_array((values, places), shape=(len(self._known),) * 2)

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A⁻¹ x. Collective."""
        right = x.array_r
        inside = right[self._inside]
        part = np.zeros(len(self._known))
        part[self._own_here] = right[self._own]
        part[self._here] += self._elimination.forward(inside)
        shared = self._shared.solve(part)
        solution = np.empty(len(right))
        solution[self._own] = shared[self._own_here]
        solution[self._inside] = self._elimination.backward(inside, shared[self._here])
        y.setArray(solution)

    def destroy(self) -> None:
        """Collective."""
        self._elimination.destroy()
        self._shared.destroy()


def _marked(matrix: PETSc.Mat, marks: NDArray[np.bool_], columns: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which columns (k,) have a mark, of those (local,) that the ranks put on their own. Collective."""
    everywhere = matrix.createVecRight()
    everywhere.setArray(marks.astype(float))
    found = entries_of(everywhere, columns)
    everywhere.destroy()
    return found > 0.5


def _local_rows(matrix: PETSc.Mat) -> csr_array:
    """The rows of this rank (k, K)."""
    starts, columns, values = matrix.getValuesCSR()
    return csr_array((values, columns, starts), shape=(len(starts) - 1, matrix.getSize()[1]))
