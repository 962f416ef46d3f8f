"""Sums over ranks that only one of them needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

Array = NDArray[np.float64]


def sum_on_owners(
    comm: MPI.Intracomm, parts: Sequence[Array | None], shapes: Sequence[tuple[int, ...]], owners: Sequence[int]
) -> list[Array | None]:
    """Sums of contiguous arrays float64 over the ranks that have a part, each on its owner, None elsewhere. Collective.

    Where every rank has a part of all, by reductions; else each part is sent to its owner, and nobody else is told.

    Parameters
    ----------
    parts : of this rank, None where it has none; overwritten
    shapes, owners : of all arrays, the same on all ranks
    """
    if comm.allreduce(all(part is not None for part in parts), op=MPI.LAND):
        return [_reduced(comm, part, owner) for part, owner in zip(parts, owners, strict=True)]
    mine: list[Array | None] = [
        (np.zeros(shape) if part is None else part) if owner == comm.rank else None
        for part, shape, owner in zip(parts, shapes, owners, strict=True)
    ]
    numbers: list[list[int]] = [[] for _ in range(comm.size)]
    for number, (part, owner) in enumerate(zip(parts, owners, strict=True)):
        if part is not None and owner != comm.rank:
            numbers[owner].append(number)
    received = comm.alltoall(numbers)
    requests = [comm.Isend(parts[number], owner) for owner, several in enumerate(numbers) for number in several]
    for source, several in enumerate(received):
        for number in several:  # in the order in which they were sent
            part, total = np.empty(shapes[number]), mine[number]
            comm.Recv(part, source)
            assert total is not None
            total += part
    MPI.Request.Waitall(requests)
    return mine


def _reduced(comm: MPI.Intracomm, part: Array | None, owner: int) -> Array | None:
    mine = comm.rank == owner
    comm.Reduce(MPI.IN_PLACE if mine else part, part if mine else None, root=owner)
    return part if mine else None
