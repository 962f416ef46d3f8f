"""Sparse symmetric systems of which each rank has a part and knows few of the numbers: Σ F_p z = Σ r_p."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import coo_array, csr_array

from pescitrain.algebra.elimination import Elimination, Factors

Array = NDArray[np.float64]
Integers = NDArray[np.integer]


class SharedSystem(Protocol):
    """The sum over ranks of matrices that each has for some numbers, its own and others' among them.

    Attributes
    ----------
    reduced : int       numbers that a solve sums over ranks, this one among them
    gathered : int      numbers that are gathered here for another matrix
    """

    reduced: int
    gathered: int

    def take(self, values: Array) -> None:
        """Other entries in the same places. Collective."""
        ...

    def solve(self, right: Array) -> Array:
        """z of this rank's numbers from its part of the right-hand side. Collective."""
        ...

    def destroy(self) -> None:
        """Collective."""
        ...


def shared_system(
    comm: MPI.Intracomm, numbers: Integers, row: Integers, column: Integers, group_size: int, prefix: str
) -> SharedSystem:
    """A system without entries as yet, by groups of ranks where there are more than ``group_size``. Collective.

    Parameters
    ----------
    numbers : (k,)          ascending; what ranks call alike is the same
    row, column : (e,)      places among ``numbers``, row ≤ column, of the entries of this rank's part
    group_size : int        at least 2
    prefix : str            of the options of the factorisations
    """
    if comm.size <= group_size:
        return ReplicatedSystem(comm, numbers, row, column, prefix)
    return GroupedSystem(comm, numbers, row, column, group_size, prefix)


class ReplicatedSystem:
    """Every rank factors the sum of all parts."""

    def __init__(self, comm: MPI.Intracomm, numbers: Integers, row: Integers, column: Integers, prefix: str) -> None:
        self._comm = comm
        everything = np.unique(np.concatenate(comm.allgather(numbers)))
        self._here, self.reduced = np.searchsorted(everything, numbers), len(everything)
        places = comm.allgather((self._here[row], self._here[column]))
        self._places, self._counts = _all_places(places), [len(part[0]) for part in places]
        self.gathered = sum(self._counts)
        self._factors = SharedFactors(prefix)

    def take(self, values: Array) -> None:
        """Other entries in the same places. Collective."""
        everywhere = np.empty(self.gathered)
        self._comm.Allgatherv(np.ascontiguousarray(values), (everywhere, self._counts))
        self._factors.take(_symmetric(everywhere, self._places, self.reduced))

    def solve(self, right: Array) -> Array:
        """z of this rank's numbers from its part of the right-hand side. Collective."""
        total = np.zeros(self.reduced)
        total[self._here] = right
        self._comm.Allreduce(MPI.IN_PLACE, total)
        return self._factors.solve(total)[self._here]

    def destroy(self) -> None:
        """Not collective."""
        self._factors.destroy()


class GroupedSystem:
    """The first rank of a group eliminates what no other group knows, and shares the rest with those of the others.

    With P ranks in groups of G it is a tree of log P / log G levels: a rank that leads groups has what some G of them
    share, and no rank has all. A solve is a reduction and a broadcast in the groups of each level.
    Source: multifrontal elimination, Duff & Reid, ACM Trans. Math. Softw. 9 (1983) 302; ranks are its elements.
    """

    def __init__(
        self, comm: MPI.Intracomm, numbers: Integers, row: Integers, column: Integers, group_size: int, prefix: str
    ) -> None:
        self._group = comm.Split(comm.rank // group_size, comm.rank)
        self._leads = self._group.rank == 0
        self._leaders = comm.Split(0 if self._leads else MPI.UNDEFINED, comm.rank)
        parts = self._group.gather(numbers)
        everything = self._group.bcast(None if parts is None else np.unique(np.concatenate(parts)))
        self._here, self._size = np.searchsorted(everything, numbers), len(everything)
        self.reduced, self.gathered = self._size, 0
        places = self._group.gather((self._here[row], self._here[column]))
        if places is not None:
            self._places, self._counts = _all_places(places), [len(part[0]) for part in places]
            outer = _known_elsewhere(everything, self._leaders)
            self._inner, self._outer = np.flatnonzero(~outer), np.flatnonzero(outer)
            self._upper = np.triu_indices(len(self._outer))
            self._elimination = Elimination(prefix)
            self._above = shared_system(self._leaders, everything[outer], *self._upper, group_size, prefix)
            self.gathered = sum(self._counts) + self._above.gathered
            self.reduced += self._above.reduced

    def take(self, values: Array) -> None:
        """Other entries in the same places. Collective."""
        own = np.ascontiguousarray(values)
        if not self._leads:
            self._group.Gatherv(own, None)
            return
        everywhere = np.empty(sum(self._counts))
        self._group.Gatherv(own, (everywhere, self._counts))
        matrix = _symmetric(everywhere, self._places, self._size)
        inside = matrix[self._inner]
        given = self._elimination.take(csr_array(inside[:, self._inner]), inside[:, self._outer].toarray())
        left = matrix[self._outer][:, self._outer].toarray() + given
        self._above.take(left[self._upper])

    def solve(self, right: Array) -> Array:
        """z of this rank's numbers from its part of the right-hand side. Collective."""
        total = np.zeros(self._size)
        total[self._here] = right
        if self._leads:
            self._group.Reduce(MPI.IN_PLACE, total)
            inner = total[self._inner]
            outer = self._above.solve(total[self._outer] + self._elimination.forward(inner))
            total[self._inner], total[self._outer] = self._elimination.backward(inner, outer), outer
        else:
            self._group.Reduce(total, None)
        self._group.Bcast(total)
        return total[self._here]

    def destroy(self) -> None:
        """Collective."""
        if self._leads:
            self._elimination.destroy()
            self._above.destroy()
            self._leaders.Free()
        self._group.Free()


class SharedFactors(Factors):
    """Of a matrix that every rank has, all with the same entries."""


def _all_places(places: list[tuple[Integers, Integers]]) -> tuple[Integers, Integers]:
    """Those of ranks, one after the other."""
    row, column = (np.concatenate(parts) for parts in zip(*places, strict=True))
    return row, column


def _symmetric(values: Array, places: tuple[Integers, Integers], size: int) -> csr_array:
    """The matrix (size, size) of which these are entries on and above the diagonal, to be added up."""
    row, column = places
    off = row != column
    both = (np.concatenate((row, column[off])), np.concatenate((column, row[off])))
    return csr_array(coo_array((np.concatenate((values, values[off])), both), shape=(size, size)))


def _known_elsewhere(numbers: Integers, comm: MPI.Intracomm) -> NDArray[np.bool_]:
    """Which numbers (k,) another rank has as well. Collective: each is counted by the rank that owns its place."""
    total = comm.allreduce(int(numbers.max(initial=-1)) + 1, op=MPI.MAX)
    counts = PETSc.Vec().createMPI(total, comm=comm)
    counts.setValues(numbers.astype(PETSc.IntType), np.ones(len(numbers)), addv=PETSc.InsertMode.ADD)
    counts.assemble()
    found = entries_of(counts, numbers)
    counts.destroy()
    return found > 1.5


def entries_of(vec: PETSc.Vec, places: Integers) -> Array:
    """Some entries (k,) of a Vec, this rank's and others'. Collective."""
    here = PETSc.Vec().createSeq(len(places))
    index = PETSc.IS().createGeneral(places.astype(PETSc.IntType), comm=PETSc.COMM_SELF)
    scatter = PETSc.Scatter().create(vec, index, here, None)
    scatter.scatter(vec, here)
    found = here.array_r.copy()
    for thing in (scatter, index, here):
        thing.destroy()
    return found
