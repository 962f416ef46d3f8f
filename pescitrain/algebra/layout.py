"""θ as a distributed PETSc Vec: which rank owns which parameters."""

from __future__ import annotations

from typing import Literal

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.networks.parameters import Layer, Parameters

Array = NDArray[np.float64]


class Layout:
    """Layers one after the other in a global Vec, of which each rank owns a contiguous part.

    Parameters
    ----------
    layers : list of Layer      in the order of θ
    starts : (ranks + 1,)       the part of rank r is [starts[r], starts[r + 1])
    comm : PETSc.Comm           the ranks that share θ
    """

    def __init__(self, layers: list[Layer], starts: NDArray[np.integer], comm: PETSc.Comm) -> None:
        self.layers, self.starts, self.comm = layers, starts, comm
        self.size = layers[-1].stop
        self.start, self.stop = int(starts[comm.rank]), int(starts[comm.rank + 1])
        self.template = PETSc.Vec().createMPI((self.local_size, self.size), comm=comm)
        self.template.setName("theta")

    @property
    def local_size(self) -> int:
        """Entries on this rank."""
        return self.stop - self.start

    def owner(self, index: int) -> int:
        """The rank that owns an entry."""
        return int(np.searchsorted(self.starts, index, side="right")) - 1


class ParameterLayout(Layout):
    """The bijection between the flat θ of the modules and a global Vec of n entries in the same order.

    Parameters
    ----------
    parameters : Parameters         the order of θ and its layers
    comm : PETSc.Comm                   the ranks that share θ
    ownership : "blocks" or "even"      a rank owns whole layers, balanced by their sizes, or n / ranks entries each;
                                        or where the part of each rank starts, as in :class:`Layout`
    """

    def __init__(
        self,
        parameters: Parameters,
        comm: PETSc.Comm,
        ownership: Literal["blocks", "even"] | NDArray[np.integer] = "blocks",
    ) -> None:
        if not isinstance(ownership, str):
            starts = ownership
        elif ownership == "blocks":
            starts = _starts_of_whole_layers(parameters.layers, parameters.size, comm.size)
        else:
            starts = np.array([parameters.size * rank // comm.size for rank in range(comm.size + 1)])
        super().__init__(parameters.layers, starts, comm)
        self.parameters = parameters
        self.mpi_comm: MPI.Intracomm = comm.tompi4py()
        self._gathered = np.empty(self.size)
        self._sequential = PETSc.Vec().createWithArray(self._gathered, comm=PETSc.COMM_SELF)
        self._scatter = PETSc.Scatter().toAll(self.template)[0]

    def create_vec(self) -> PETSc.Vec:
        """A new Vec of this layout, zero."""
        vec = self.template.duplicate()
        vec.setName("theta")
        return vec

    def vec_from(self, theta: Array) -> PETSc.Vec:
        """A new Vec from values (n,) that all ranks have."""
        vec = self.create_vec()
        self.set(vec, theta)
        return vec

    def set(self, vec: PETSc.Vec, values: Array) -> None:
        """Overwrite a Vec with this rank's part of values (n,)."""
        vec.setArray(values[self.start : self.stop])

    def gather(self, vec: PETSc.Vec) -> Array:
        """All n entries on every rank, in a buffer that the next call overwrites. Collective."""
        if self.comm.size == 1:
            self._gathered[:] = vec.array_r
        else:
            self._scatter.scatter(vec, self._sequential, addv=PETSc.InsertMode.INSERT, mode=PETSc.ScatterMode.FORWARD)
        return self._gathered

    def destroy(self) -> None:
        """Collective."""
        for thing in (self._scatter, self._sequential, self.template):
            thing.destroy()


def _starts_of_whole_layers(layers: list[Layer], size: int, ranks: int) -> NDArray[np.int64]:
    """Cut θ between layers so that the parts come as close to n / ranks as whole layers allow."""
    cuts = np.array([0, *(layer.stop for layer in layers)])
    ideal = size * np.arange(1, ranks) / ranks
    inner = [int(cuts[np.abs(cuts - target).argmin()]) for target in ideal]
    return np.array([0, *inner, size], dtype=np.int64)
