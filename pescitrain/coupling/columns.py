"""A host's matrix times many distributed columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

Array = NDArray[np.float64]

MATRIX_FREE = (PETSc.Mat.Type.PYTHON, PETSc.Mat.Type.SHELL, PETSc.Mat.Type.MFFD)
"""Types that know products with one vector alone."""


def times_columns(matrix: PETSc.Mat, columns: Array, inverse: PETSc.PC | None = None) -> Array:
    """A V, or M⁻¹ A V with a PC: (local columns of A, q) -> (local rows, q). Collective."""
    if matrix.getType() in MATRIX_FREE or columns.shape[1] == 1:
        return _one_by_one(matrix, columns, inverse)
    sizes = ((len(columns), PETSc.DETERMINE), (PETSc.DECIDE, columns.shape[1]))
    dense = PETSc.Mat().createDense(sizes, comm=matrix.getComm())
    dense.setUp()
    dense.getDenseArray()[:] = columns
    dense.assemble()
    product = matrix.matMult(dense)
    if inverse is not None:
        product.copy(dense)
        inverse.matApply(dense, product)
    result = product.getDenseArray().copy()
    product.destroy()
    dense.destroy()
    return result


def _one_by_one(matrix: PETSc.Mat, columns: Array, inverse: PETSc.PC | None) -> Array:
    x, y = matrix.createVecRight(), matrix.createVecLeft()
    z = y if inverse is None else y.duplicate()
    result = np.empty((y.getLocalSize(), columns.shape[1]))
    for place, column in enumerate(columns.T):
        x.setArray(column)
        matrix.mult(x, y)
        if inverse is not None:
            inverse.apply(y, z)
        result[:, place] = z.array_r
    for vec in (x, y, z):
        vec.destroy()  # a second time where z is y, which does nothing
    return result
