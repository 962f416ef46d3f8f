"""What fails on one rank fails on all, with one sentence: the host never waits for a rank that has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mpi4py import MPI

from pescitrain.errors import MeshError, SnapshotError

Result = TypeVar("Result")


@contextmanager
def agreed(comm: MPI.Intracomm) -> Iterator[None]:
    """A block that every rank runs on its own and that does not communicate: it fails on all or on none. Collective.

    Raises
    ------
    SnapshotError       that of the lowest rank which failed
    """
    failure: Exception | None = None
    sentence: str | None = None
    try:
        yield
    except Exception as error:  # every failure must reach the other ranks, which wait
        failure, sentence = error, _sentence(error)
    for told in comm.allgather(sentence):
        if told is not None:
            raise SnapshotError(told) from failure


def on_root(comm: MPI.Intracomm, work: Callable[[], Result]) -> Result:
    """Do ``work`` on rank 0 and give its result to all ranks. Collective.

    Raises
    ------
    SnapshotError       on all ranks, where ``work`` fails
    """
    result: Result | None = None
    with agreed(comm):
        if comm.rank == 0:
            result = work()
    return comm.bcast(result)  # pyright: ignore[reportReturnType]  (rank 0 has one)


def _sentence(error: Exception) -> str:
    if isinstance(error, SnapshotError | MeshError):
        return str(error)
    if isinstance(error, OSError):
        return (
            f"the system refuses {error.filename or 'a file'} ({error.strerror or error}); check path and permissions"
        )
    return f"an unexpected {type(error).__name__} came up among snapshots: {error}"
