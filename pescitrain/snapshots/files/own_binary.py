"""Our own PETSc binary files: the Vecs of locations, inputs and solutions, and a JSON file that says what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed, on_root
from pescitrain.snapshots.files.content import FORMAT, RECOVER, Content, Reading, broken, versions
from pescitrain.snapshots.files.petsc_binary import Record, Vecs, scan
from pescitrain.snapshots.files.text import read_table

Array = NDArray[np.float64]


def header_of(path: Path) -> Path:
    """The JSON file next to a binary file."""
    return path.with_name(path.name + ".json")


def write_binary(content: Content, path: Path, comm: MPI.Intracomm) -> None:
    """Locations (K·d), inputs (N·s) and N solutions (K) as Vecs, by PETSc. Collective."""
    total = comm.allreduce(len(content.locations))
    dimension = content.locations.shape[1]
    on_first = content.inputs if comm.rank == 0 else content.inputs[:0]
    viewer = PETSc.Viewer().createBinary(str(path), "w", comm=comm)
    _view(content.locations.ravel(), total * dimension, viewer, comm)
    _view(on_first.ravel(), content.inputs.size, viewer, comm)
    for row in content.values:
        _view(row, total, viewer, comm)
    viewer.destroy()
    with agreed(comm):
        if comm.rank == 0:
            header = {
                "format": FORMAT,
                "vecs": "locations (K, d), inputs (N, s), then N solutions (K)",
                "field": content.field,
                "parameters": list(content.parameters),
                "snapshots": len(content.inputs),
                "locations": total,
                "dimension": dimension,
                "versions": versions(),
            }
            header_of(path).write_text(json.dumps(header, indent=1) + "\n")


def _view(numbers: Array, size: int, viewer: PETSc.Viewer, comm: MPI.Intracomm) -> None:
    local = np.ascontiguousarray(numbers, dtype=PETSc.ScalarType)
    vec = PETSc.Vec().createWithArray(local, (len(local), size), comm=comm)
    vec.view(viewer)
    vec.destroy()


def read_binary(path: Path, reading: Reading) -> Content:
    """Every rank reads its locations. Collective.

    Raises
    ------
    SnapshotError       the header is broken or belongs to another file; the file is cut off
    """

    def head() -> tuple[Content, Vecs, tuple[Record, ...], str]:
        return _head(path, reading)

    whole, vecs, records, notice = on_root(reading.comm, head)
    mine = reading.share(len(whole.locations))
    values = np.zeros((0, 0))
    with agreed(reading.comm):
        rows = [vecs.read(record, mine.start, mine.stop) for record in records]
        values = np.array(rows).reshape(len(rows), mine.stop - mine.start)
    return Content(whole.parameters, whole.field, whole.inputs, whole.locations[mine], values, notice)


def _head(path: Path, reading: Reading) -> tuple[Content, Vecs, tuple[Record, ...], str]:
    name = header_of(path)
    try:
        header: dict[str, Any] = json.loads(name.read_text())
        parameters, field = tuple(map(str, header["parameters"])), str(header["field"])
        snapshots, locations, dimension = (int(header[key]) for key in ("snapshots", "locations", "dimension"))
    except (ValueError, KeyError, TypeError) as error:
        raise SnapshotError(f"{name}: it is broken ({broken(error)}); write the snapshots again") from None
    if reading.field not in (None, field):
        raise SnapshotError(f"{path}: it has no field {reading.field!r} (there is {field})")
    vecs = scan(path)
    expected = [locations * dimension, snapshots * len(parameters), *[locations] * snapshots]
    for number, (record, size) in enumerate(zip(vecs.records, expected, strict=False)):
        if record.size != size:
            raise SnapshotError(
                f"{path}: Vec {number} has {record.size} numbers where {name.name} says {size}; they are not of one "
                "writing"
            )
    found = min(len(vecs.records) - 2, snapshots)
    notice = ""
    if len(vecs.records) > len(expected):
        raise SnapshotError(f"{path}: it has {len(vecs.records)} Vecs where {name.name} says {len(expected)}")
    if found < snapshots:
        why = f"{path}: {vecs.trouble or 'it is cut off'}; {max(found, 0)} of {snapshots} snapshots are good"
        if found < 1:
            raise SnapshotError(f"{why}; write it again")
        if not reading.recover:
            raise SnapshotError(f"{why}; write it again, or {RECOVER}")
        notice = f"{why} and used"
    inputs = vecs.read(vecs.records[1]).reshape(snapshots, len(parameters))[:found]
    if reading.parameters is not None:
        table = read_table(reading.parameters, "-data_parameters")
        inputs, parameters = table.numbers[:found], table.names or parameters
    coordinates = vecs.read(vecs.records[0]).reshape(locations, dimension)
    return Content(parameters, field, inputs, coordinates, np.zeros((0, 0))), vecs, vecs.records[2 : 2 + found], notice
