"""Whether a matrix with so many entries can be held at all, before anything is allocated."""

from __future__ import annotations

import os

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.errors import OptionError

GIB = 2.0**30

LIMIT = int(np.iinfo(PETSc.IntType).max)
"""How many entries of a sparse matrix PETSc can count on a rank."""


def memory_of_machine() -> float:
    """Bytes that are installed."""
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def require_room(entries: int, what: str, instead: str, comm: MPI.Intracomm, indexed: bool = False) -> None:
    """Refuse numbers float64 of each rank that the smallest machine cannot hold even for one rank alone. Collective.

    Parameters
    ----------
    what, instead : str     begin and end the sentence
    indexed : bool          of a sparse matrix, whose entries PETSc counts in its integers

    Raises
    ------
    OptionError
    """
    room = comm.allreduce(memory_of_machine(), op=MPI.MIN)
    most = comm.allreduce(entries, op=MPI.MAX)
    if 8.0 * most > room:
        why = f"this machine has {room / GIB:.0f} GiB"
    elif indexed and most > LIMIT:
        why = f"this PETSc counts to {LIMIT:.1e}"
    else:
        return
    raise OptionError(f"{what} has {most:.1e} entries, {8.0 * most / GIB:.0f} GiB, and {why}: {instead}")
