"""Parameters of other ranks that the samples of a rank see: PETSc's ghosts, of θ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.network_dm import index_set

Array = NDArray[np.float64]


class Ghosts:
    """Own entries of θ and some of others, sent by those who own them and summed where they are owned.

    Arrays are (n,), zero where this rank sees nothing, so that indices remain those of θ. Messages go between ranks
    that see parameters of one another and to no others. Construction is collective.

    Parameters
    ----------
    layout : ParameterLayout
    seen : (k,) int             sorted, own entries among them or not
    """

    def __init__(self, layout: ParameterLayout, seen: NDArray[np.integer]) -> None:
        self.layout, self.own = layout, slice(layout.start, layout.stop)
        elsewhere = index_set(seen[(seen < layout.start) | (seen >= layout.stop)])
        self._values = np.zeros(layout.size)
        self._local = PETSc.Vec().createWithArray(self._values, comm=PETSc.COMM_SELF)
        self._global = layout.create_vec()
        self._scatter = PETSc.Scatter().create(layout.template, elsewhere, self._local, elsewhere)
        elsewhere.destroy()

    def gather(self, vec: PETSc.Vec) -> Array:
        """Own and seen entries (n,), in a buffer that the next call overwrites. Collective."""
        self._values[:] = 0.0
        self._scatter.scatter(vec, self._local, addv=PETSc.InsertMode.INSERT, mode=PETSc.ScatterMode.FORWARD)
        self._values[self.own] = vec.array_r
        return self._values

    def sum(self, values: Array) -> None:
        """Sums over ranks into ``values`` (n,): of the own entries, zero elsewhere. Collective."""
        self._values[:] = values
        self._global.setArray(values[self.own])
        self._scatter.scatter(self._local, self._global, addv=PETSc.InsertMode.ADD, mode=PETSc.ScatterMode.REVERSE)
        values[:] = 0.0
        values[self.own] = self._global.array_r

    def dot(self, a: Array, b: Array) -> float:
        """⟨a, b⟩ of which each rank has its own entries. Collective."""
        return self.layout.mpi_comm.allreduce(float(a[self.own] @ b[self.own]))

    def destroy(self) -> None:
        """Collective."""
        for thing in (self._scatter, self._local, self._global):
            thing.destroy()
