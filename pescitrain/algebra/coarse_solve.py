"""The solve of a coarse system, by a PC of PETSc's over all ranks, or on every one of them."""

from __future__ import annotations

from petsc4py import PETSc

from pescitrain.algebra.operators import gather_rows
from pescitrain.algebra.preconditioner import DIRECT


class CoarseSolve:
    """A⁻¹ for a matrix A (K, K), by the PC that the options name. Construction is collective.

    ``cholesky`` and ``lu``, which PETSc has on one rank, factor all of A on every rank; an application then gathers K
    numbers by one collective, where PETSc's ``redundant`` sends a message to each other rank.

    Options, with ``prefix``
    ------------------------
    -pc_type cholesky
    """

    def __init__(self, matrix: PETSc.Mat, prefix: str) -> None:
        kind = PETSc.Options(prefix).getString("pc_type", "cholesky")
        self._whole: PETSc.Vec | None = None
        if kind in DIRECT and matrix.getComm().size > 1:
            rows = gather_rows(matrix)
            arrays = tuple(part.astype(PETSc.IntType) for part in (rows.indptr, rows.indices))
            local = PETSc.Mat().createAIJ(rows.shape, csr=(*arrays, rows.data), comm=PETSc.COMM_SELF)
            template = matrix.createVecRight()
            self._scatter, self._whole = PETSc.Scatter.toAll(template)
            self._solved, self._range = self._whole.duplicate(), matrix.getOwnershipRange()
            template.destroy()
        else:
            local = matrix
        self._pc = PETSc.PC().create(local.getComm())
        self._pc.setOptionsPrefix(prefix)
        self._pc.setType(kind)
        self._pc.setOperators(local, local)
        self._pc.setFromOptions()
        self._pc.setUp()
        if local is not matrix:
            local.destroy()

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
            for thing in (self._scatter, self._whole, self._solved):
                thing.destroy()
