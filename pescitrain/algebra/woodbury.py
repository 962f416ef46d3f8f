"""The inverse by a system in the rows of J as a PC type: ``-pc_type woodbury``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.cholesky import ShiftedCholesky
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.operators import gauss_newton_behind
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization
from pescitrain.networks.device import on_device

Array = NDArray[np.float64]


class Woodbury:
    """(JᵀJ + λI)⁻¹ = (I − Jᵀ (J Jᵀ + λI)⁻¹ J) / λ: exact, for a residual with fewer rows than there are parameters.

    J Jᵀ (m, m) is factored for each refresh and each λ; of wide layers it is made without the columns of J. With
    ``-gn_rows`` it is the inverse for so many random rows, whatever the number of all. An application is one product
    with J and one with Jᵀ. Memory: 2 m² numbers on every rank. Parameters that are coupled with no other have their
    diagonal.

    Source: Hager, Updating the inverse of a matrix, SIAM Review 31 (1989) 221-239, eq. (2).
    """

    def __init__(self) -> None:
        self._factored: Linearization | None = None
        self._cholesky: ShiftedCholesky | None = None
        self._solve: Callable[[Array], Array] | None = None
        self._layout: ParameterLayout | None = None
        self._damping = 0.0
        self._alone, self._diagonal = np.zeros(0, dtype=int), np.zeros(0)

    def setUp(self, pc: PETSc.PC) -> None:
        """Another J, or another λ on the same. Collective.

        Raises
        ------
        OptionError     λ is zero
        """
        source = gauss_newton_behind(pc, "woodbury")
        self._damping = source.shift_of_identity
        if not self._damping > 0.0:
            raise OptionError(f"-pc_type woodbury divides by λ, which is {self._damping:g}: use -gn_shift above 0")
        if self._factored is not source.linearization or self._cholesky is None:
            self._factored, self._layout, self._alone = source.linearization, source.layout, source.uncoupled
            gram = self._factored.sample_gram_matrix_on_device()
            for unit in self._alone:
                column = on_device(self._column(int(unit)), gram.device)
                gram -= column.outer(column)
            self._cholesky = ShiftedCholesky(gram)
        self._solve = self._cholesky.factor(self._damping)
        self._diagonal = source.diagonal[self._alone] + self._damping

    def _column(self, number: int) -> Array:
        """Of J, for the rows of all ranks. Collective."""
        assert self._factored is not None
        unit = np.zeros(self._factored.parameters.size)
        unit[number] = 1.0
        return np.concatenate(self._factored.comm.allgather(self._factored.times(unit)))

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective: gathers x and the rows, and reduces n numbers."""
        assert self._layout is not None and self._factored is not None and self._solve is not None
        right = self._layout.gather(x)
        own = right[self._alone] / self._diagonal
        right[self._alone] = 0.0
        rows = self._factored.times(right)
        comm = self._factored.comm
        begin = comm.exscan(len(rows), op=MPI.SUM) or 0
        solved = self._solve(np.concatenate(comm.allgather(rows)))
        result = (right - self._factored.transpose_times(solved[begin : begin + len(rows)])) / self._damping
        result[self._alone] = own
        self._layout.set(y, result)

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric."""
        self.apply(pc, x, y)

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """λ."""
        viewer.printfASCII(f"  Woodbury: shift={self._damping:g}\n")
