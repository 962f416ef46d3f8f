"""Work that every rank does on its own: it fails on all of them or on none."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

from pescitrain.errors import PescitrainError, ProblemError


@contextmanager
def together(comm: MPI.Intracomm, problem: str) -> Iterator[None]:
    """A block that every rank runs on its own, in functions of the problem: what fails on one fails on all. Collective.

    ``problem``: the value of ``-problem``. An error in a user's file is told in one sentence; one in a shipped problem
    is a defect of ours and keeps its traceback.

    Raises
    ------
    PescitrainError     that of the lowest rank which failed; a ProblemError for any other exception
    """
    failure: Exception | None = None
    told: tuple[type[PescitrainError], str] | None = None
    try:
        yield
    except PescitrainError as error:
        failure, told = error, (type(error), str(error))
    except Exception as error:  # whatever a user's function raises
        file, isfile, _ = problem.partition(".py")
        if not isfile:
            raise
        failure, told = error, (ProblemError, f"-problem {problem}: {describe(error, Path(file + isfile))}")
    for first in comm.allgather(told):
        if first is not None:
            kind, text = first
            raise kind(text) from failure


def describe(error: Exception, file: Path) -> str:
    """An exception with its place: the last line of ``file`` on its way, or where it was raised."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).name == file.name] or frames
    place = f" ({own[-1].filename}:{own[-1].lineno}, in {own[-1].name})" if own else ""
    return f"{type(error).__name__}{f': {error}' if str(error) else ''}{place}"
