"""What a file of snapshots holds, and which part of it is a rank's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed

Array = NDArray[np.float64]

FORMAT = "pescitrain snapshots 1"
"""How our own files call what they are."""

RECOVER = "read with recover=True (-data_recover)"
"""The way to the good rows of a bad file, as sentences end."""


@dataclass(frozen=True)
class Content:
    """Snapshots as they lie in a file: the values at all K locations, or at those of a rank.

    Attributes
    ----------
    parameters : s names
    field : str
    inputs : (N, s)
    locations : (K, d)
    values : (N, K)
    notice : str            what the file had that is left out
    """

    parameters: tuple[str, ...]
    field: str
    inputs: Array
    locations: Array
    values: Array
    notice: str = ""


@dataclass(frozen=True)
class Reading:
    """How a file is to be read: what :meth:`Snapshots.read` is told, and on which ranks."""

    comm: MPI.Intracomm
    parameters: str | None = None
    coordinates: str | None = None
    field: str | None = None
    recover: bool = False

    def share(self, count: int) -> slice:
        """This rank's part of so many locations."""
        return slice(count * self.comm.rank // self.comm.size, count * (self.comm.rank + 1) // self.comm.size)

    def scatter(self, whole: Content | None) -> Content:
        """The share of each rank of what rank 0 has read. Collective."""
        parts: list[Content] | None = None
        if whole is not None:
            count, size = len(whole.locations), self.comm.size
            parts = [
                replace(whole, locations=whole.locations[a:b], values=np.ascontiguousarray(whole.values[:, a:b]))
                for a, b in ((count * rank // size, count * (rank + 1) // size) for rank in range(size))
            ]
        return self.comm.scatter(parts)


def versions() -> dict[str, str]:
    """What a file was written with."""
    import petsc4py
    from petsc4py import PETSc

    from pescitrain import __version__

    petsc = ".".join(map(str, PETSc.Sys.getVersion()))
    return {"pescitrain": __version__, "petsc": petsc, "petsc4py": petsc4py.__version__, "numpy": np.__version__}


def checked(content: Content, reading: Reading, name: str) -> Content:
    """The content of this rank without what nobody can use. Collective.

    Raises
    ------
    SnapshotError       shapes that do not fit, NaN, infinity, nothing left
    """
    with agreed(reading.comm):
        _check_shapes(content, name)
        for what, array in (("locations", content.locations), ("parameters", content.inputs)):
            if not np.isfinite(array).all():
                raise SnapshotError(f"{name}: the {what} hold NaN or infinity; repair them")
    finite = np.isfinite(content.values).all(1)
    reading.comm.Allreduce(MPI.IN_PLACE, finite, MPI.LAND)
    bad = np.flatnonzero(~finite)
    if bad.size and not reading.recover:
        raise SnapshotError(
            f"{name}: snapshot {bad[0]} (of 0 … {len(finite) - 1}) holds NaN or infinity; remove it, or {RECOVER}"
        )
    if not finite.any():
        raise SnapshotError(f"{name}: there are no good snapshots in it; write it again")
    if bad.size:
        left_out = f"{name}: {bad.size} of {len(finite)} snapshots hold NaN or infinity and are left out"
        notice = "; ".join(filter(None, (content.notice, left_out)))
        content = replace(content, inputs=content.inputs[finite], values=content.values[finite], notice=notice)
    return content


def _check_shapes(content: Content, name: str) -> None:
    inputs, locations, values = content.inputs.shape, content.locations.shape, content.values.shape
    fit = len(inputs) == len(locations) == len(values) == 2 and values == (inputs[0], locations[0])
    if not fit:
        raise SnapshotError(
            f"{name}: inputs {inputs}, locations {locations} and values {values} do not fit: they are (N, s), (K, d) "
            "and (N, K)"
        )
    if len(content.parameters) != inputs[1]:
        raise SnapshotError(f"{name}: {len(content.parameters)} names for {inputs[1]} parameters; write it again")


def broken(error: BaseException) -> str:
    """The first line of what a library says about a file."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160].rstrip('.')}" if lines else type(error).__name__


def names_of(header: Any, count: int) -> tuple[str, ...]:
    """The names of parameters in a file, or p0, p1, … where it has none."""
    names = [str(name) for name in np.atleast_1d(header)] if header is not None else []
    return tuple(names) or tuple(f"p{column}" for column in range(count))
