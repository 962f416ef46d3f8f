"""What an evaluator asks of an exchange between neighbouring ranks, in place of reductions of all of θ."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray


class NeighbourSums(Protocol):
    """Where the samples of a rank see a few parameters alone: it has no use for the others, nor for their sums."""

    own: slice
    """The entries of θ that this rank owns."""

    def sum(self, values: NDArray[np.float64]) -> None:
        """Sums over ranks into ``values`` (n,): of the own entries, zero elsewhere. Collective."""
        ...


def agreed(comm: MPI.Intracomm, digest: bytes) -> bytes:
    """One digest of those of all ranks, 16 bytes each, the same on all of them. Collective: one small reduction."""
    both = np.frombuffer(digest, dtype=np.uint64).copy()
    comm.Allreduce(MPI.IN_PLACE, both, MPI.BXOR)
    return both.tobytes()
