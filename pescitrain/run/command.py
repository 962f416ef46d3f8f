"""``python -m pescitrain``: start PETSc with the arguments, run, and turn errors into exit codes."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

import petsc4py
from mpi4py import MPI

from pescitrain.errors import EvaluationError, OptionError, PescitrainError

CONVERGED, DIVERGED, USAGE = 0, 1, 2
"""Exit codes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, the same on all ranks. Collective over COMM_WORLD.

    ``arguments``: without the name of the program; None: those of the command line.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    comm = MPI.COMM_WORLD
    start = time.perf_counter()
    petsc4py.init(["pescitrain", *arguments])  # before anything imports PETSc: only the first call counts
    from pescitrain.run.session import run

    try:
        _check_version()
        return run(arguments, start)
    except PescitrainError as error:
        if comm.rank == 0:
            print(f"pescitrain: {error}", file=sys.stderr, flush=True)
        return DIVERGED if isinstance(error, EvaluationError) else USAGE
    except Exception:
        if comm.size == 1:
            raise
        traceback.print_exc()  # a defect, maybe on this rank only: the others must not wait for it
        sys.stderr.flush()
        comm.Abort(DIVERGED)
        return DIVERGED


def _check_version() -> None:
    from petsc4py import PETSc

    if PETSc.Sys.getVersion() < (3, 26, 0):
        found = ".".join(map(str, PETSc.Sys.getVersion()))
        raise OptionError(f"PETSc {found} is too old: pescitrain needs 3.26 or newer with the petsc4py of that version")
