"""Direct solves on one rank: of a sparse symmetric matrix, and of a part of the rows of a larger one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import csr_array

Array = NDArray[np.float64]


class Factors:
    """A direct PC of this rank alone, for one matrix after another with entries in the same places.

    Options, with ``prefix``: those of a PC of type ``cholesky``.
    """

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


class Elimination:
    """Of k inner numbers of a symmetric system, which meet c outer ones: A_II, A_IO and what is made of them."""

    def __init__(self, prefix: str) -> None:
        self._factors = Factors(prefix)

    def take(self, inner: csr_array, sides: Array) -> Array:
        """−A_OI A_II⁻¹ A_IO (c, c), which the outer ones get, from A_II (k, k) and A_IO (k, c)."""
        self._factors.take(inner)
        self._extension = self._factors.solve(sides)
        return -sides.T @ self._extension

    def forward(self, right: Array) -> Array:
        """What the right-hand side (k,) adds to that of the outer ones (c,)."""
        return -self._extension.T @ right

    def backward(self, right: Array, outer: Array) -> Array:
        """The inner solution (k,) for a right-hand side and the outer solution (c,)."""
        return self._factors.solve(right) - self._extension @ outer

    def destroy(self) -> None:
        """Not collective."""
        self._factors.destroy()
