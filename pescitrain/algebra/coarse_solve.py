"""The solve of a coarse system, by a PC of PETSc's over all ranks, or on every one of them."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.operators import gather_rows
from pescitrain.algebra.options import DIRECT


class CoarseSolve:
    """(PᵀAP)⁻¹ for matrices A (n, n) and P (n, K), by the PC that the options name. Construction is collective.

    ``cholesky`` and ``lu``, which PETSc has on one rank, factor all of PᵀAP on every rank; an application then gathers
    K numbers by one collective, where PETSc's ``redundant`` sends a message to each other rank.

    Options, with ``prefix``
    ------------------------
    -pc_type cholesky
    """

    def __init__(self, matrix: PETSc.Mat, basis: PETSc.Mat, prefix: str) -> None:
        kind = PETSc.Options(prefix).getString("pc_type", "cholesky")
        self._basis = basis
        self._products = matrix.matMult(basis)
        self._coarse = basis.transposeMatMult(self._products)
        self._whole: PETSc.Vec | None = None
        self._local = self._coarse
        if kind in DIRECT and matrix.getComm().size > 1:
            rows = gather_rows(self._coarse)
            self._starts, self._columns = (part.astype(PETSc.IntType) for part in (rows.indptr, rows.indices))
            csr = (self._starts, self._columns, rows.data)
            self._local = PETSc.Mat().createAIJ(rows.shape, csr=csr, comm=PETSc.COMM_SELF)
            template = self._coarse.createVecRight()
            self._scatter, self._whole = PETSc.Scatter.toAll(template)
            self._solved, self._range = self._whole.duplicate(), self._coarse.getOwnershipRange()
            template.destroy()
        self._pc = PETSc.PC().create(self._local.getComm())
        self._pc.setOptionsPrefix(prefix)
        self._pc.setType(kind)
        self._pc.setOperators(self._local, self._local)
        self._pc.setFromOptions()
        self._pc.setUp()

    def update(self, matrix: PETSc.Mat) -> None:
        """For an A with other entries in the same places. Collective."""
        matrix.matMult(self._basis, result=self._products)
        self._basis.transposeMatMult(self._products, result=self._coarse)
        if self._whole is not None:
            mine = self._coarse.getValuesCSR()[2]
            comm = self._coarse.getComm().tompi4py()
            values = np.empty(len(self._columns))
            comm.Allgatherv(mine, (values, comm.allgather(len(mine))))
            self._local.setValuesCSR(self._starts, self._columns, values)
            self._local.assemble()
        self._pc.setOperators(self._local, self._local)
        self._pc.setUp()

    @property
    def gathered(self) -> int:
        """Numbers that an application gathers on every rank."""
        return 0 if self._whole is None else self._whole.getSize()

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = A⁻¹ x. Collective."""
        if self._whole is None:
            self._pc.apply(x, y)
            return
        self._scatter.scatter(x, self._whole, addv=PETSc.InsertMode.INSERT, mode=PETSc.ScatterMode.FORWARD)
        self._pc.apply(self._whole, self._solved)
        y.setArray(self._solved.array_r[slice(*self._range)])

    def destroy(self) -> None:
        """Collective."""
        self._pc.destroy()
        if self._whole is not None:
            for thing in (self._scatter, self._whole, self._solved, self._local):
                thing.destroy()
        for thing in (self._products, self._coarse):
            thing.destroy()
