"""The largest of numbers that many ranks have."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

LEAST, MOST = -(2**63), 2**63 - 1


def select_largest(comm: MPI.Intracomm, values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Which of this rank's values (n,) are among the ``count`` largest of all ranks. Collective.

    Of equal ones those of the first ranks, and on a rank the first. No value is sent: the smallest of those that are
    taken is found by bisection in the 64 bits of a number, by 64 reductions of a count.
    """
    bits = (values + 0.0).view(np.int64)  # one zero
    keys = np.where(bits < 0, bits ^ MOST, bits)  # integers in the order of the numbers
    ascending = np.sort(keys)
    low, high = LEAST, MOST  # at least `count` keys are ``low`` or more
    while low < high:
        middle = (low + high + 1) // 2
        if comm.allreduce(len(keys) - int(np.searchsorted(ascending, middle))) >= count:
            low = middle
        else:
            high = middle - 1
    above, equal = keys > low, keys == low
    ties = comm.allgather(int(equal.sum()))
    left = count - comm.allreduce(int(above.sum())) - sum(ties[: comm.rank])
    return above | (equal & (np.cumsum(equal) <= left))
