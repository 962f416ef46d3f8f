"""Where the values of a host's Vec live: the coordinates of its nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed
from pescitrain.snapshots.entries import entries_of

Array = NDArray[np.float64]


def locations_of(where: PETSc.DM | ArrayLike) -> Array:
    """Coordinates (K, d) of this rank's nodes, as a global Vec of a DM has them, or as they are given. Collective.

    Raises
    ------
    SnapshotError       the DM does not say where its values are, or has not the same number of them at every node
    """
    if not isinstance(where, PETSc.DM):
        return np.asarray(where, dtype=np.float64)
    comm = where.getComm().tompi4py()
    entries = entries_of(where, 0, comm)
    count = len(entries.locations)
    with agreed(comm):
        stride = entries.size // max(count, 1)
        if entries.places is None or not np.array_equal(entries.places, stride * np.arange(count)):
            raise SnapshotError("the DM has other values at some nodes than at others: give locations (K, d)")
    return entries.locations
