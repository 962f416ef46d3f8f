"""``python -m pescitrain``: start PETSc with the arguments, run, and turn errors into exit codes."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import petsc4py
from mpi4py import MPI

from pescitrain.errors import EvaluationError, OptionError, PescitrainError

CONVERGED, DIVERGED, USAGE = 0, 1, 2
"""Exit codes."""


def main(arguments: Sequence[str] | None = None, comm: MPI.Intracomm = MPI.COMM_WORLD) -> int:
    """Run the command; returns the exit code, the same on all ranks. Collective over ``comm``.

    ``arguments``: without the name of the program; None: those of the command line. What it prints comes from rank 0
    of COMM_WORLD, errors from rank 0 of ``comm``.
    """
    words = sys.argv[1:] if arguments is None else arguments
    arguments = ["-help" if word == "-h" else word for word in words]
    start = time.perf_counter()
    try:
        _start_petsc(arguments)
        from pescitrain.run.session import run

        _check_version()
        return run(arguments, start, comm)
    except PescitrainError as error:
        if comm.rank == 0:
            print(f"pescitrain: {error}", file=sys.stderr, flush=True)
        return DIVERGED if isinstance(error, EvaluationError) else USAGE
    except Exception:
        if comm.size == 1:
            raise
        traceback.print_exc()  # a defect, maybe on this rank only: the others must not wait for it
        sys.stderr.flush()
        time.sleep(1.0)  # the launcher forwards what was printed before it kills everyone
        comm.Abort(DIVERGED)
        return DIVERGED


def _start_petsc(arguments: Sequence[str]) -> None:
    """Before anything imports PETSc: only the first call counts."""
    for name, value in pairwise(arguments):
        if name in ("-options_file", "-options_file_yaml") and not Path(value.partition(":")[0]).is_file():
            raise OptionError(f"{name} {value}: there is no such file")
    first = "petsc4py.PETSc" not in sys.modules
    try:
        petsc4py.init(["pescitrain", *arguments])
    except RuntimeError as error:
        raise OptionError("PETSc cannot read these options; what it says about them stands above") from error
    if first and threading.current_thread() is threading.main_thread():
        for name in ("SIGPIPE", "SIGTERM"):  # of `| head` and of batch systems; PETSc would print half a page
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def _check_version() -> None:
    from petsc4py import PETSc

    if PETSc.Sys.getVersion() < (3, 26, 0):
        found = ".".join(map(str, PETSc.Sys.getVersion()))
        raise OptionError(f"PETSc {found} is too old: pescitrain needs 3.26 or newer with the petsc4py of that version")
