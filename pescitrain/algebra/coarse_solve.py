"""The solve of a coarse system, by a PC of PETSc's over all ranks, or directly by what they share."""

from __future__ import annotations

from petsc4py import PETSc

from pescitrain.algebra.options import DIRECT, get_string
from pescitrain.algebra.substructuring import Substructuring


class CoarseSolve:
    """(PᵀAP)⁻¹ for matrices A (n, n) and P (n, K), by the PC that the options name. Construction is collective.

    ``cholesky`` and ``lu``, which PETSc has on one rank, factor on several what each rank has alone, and on every rank
    what they share: an application then sums the latter over ranks. With ``-pc_factor_mat_solver_type mumps`` or
    another solver for several ranks, PETSc's own has all.

    Options, with ``prefix``
    ------------------------
    -pc_type cholesky
    """

    def __init__(self, matrix: PETSc.Mat, basis: PETSc.Mat, prefix: str) -> None:
        kind = PETSc.Options(prefix).getString("pc_type", "cholesky")
        self._basis = basis
        self._products = matrix.matMult(basis)
        self._coarse = basis.transposeMatMult(self._products)
        self._solver: Substructuring | PETSc.PC
        if kind in DIRECT and matrix.getComm().size > 1 and not get_string(f"{prefix}pc_factor_mat_solver_type"):
            self._solver = Substructuring(self._coarse, prefix)
            return
        self._solver = PETSc.PC().create(matrix.getComm())
        self._solver.setOptionsPrefix(prefix)
        self._solver.setType(kind)
        self._solver.setFromOptions()
        self._factor(self._solver)

    def _factor(self, pc: PETSc.PC) -> None:
        pc.setOperators(self._coarse, self._coarse)
        pc.setUp()

    def update(self, matrix: PETSc.Mat) -> None:
        """For an A with other entries in the same places. Collective."""
        matrix.matMult(self._basis, result=self._products)
        self._basis.transposeMatMult(self._products, result=self._coarse)
        if isinstance(self._solver, Substructuring):
            self._solver.update(self._coarse)
        else:
            self._factor(self._solver)

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = (PᵀAP)⁻¹ x. Collective."""
        self._solver.apply(x, y)

    def destroy(self) -> None:
        """Collective."""
        for thing in (self._solver, self._products, self._coarse):
            thing.destroy()
