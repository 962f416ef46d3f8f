"""Vecs that a PETSc code in any language wrote: ``VecView`` of many steps into one file, ``-vec_view binary:…``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed, on_root
from pescitrain.snapshots.files.content import RECOVER, Content, Reading
from pescitrain.snapshots.files.petsc_binary import Record, Vecs, equal_sizes, scan
from pescitrain.snapshots.files.series import Steps, parameters_of
from pescitrain.snapshots.files.text import Table, read_table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Head:
    """What all ranks know before they read: the good Vecs, their parameters, and where each component lies."""

    files: tuple[tuple[Vecs, tuple[Record, ...]], ...]
    table: Table
    locations: Array
    components: int
    component: int
    notice: str


def read_vecs(paths: Sequence[Path], reading: Reading) -> Content:
    """Every rank reads its locations. Collective.

    Raises
    ------
    SnapshotError       no Vecs, Vecs of different sizes, a file that is cut off, no parameters or coordinates for them
    """
    head = on_root(reading.comm, lambda: _head(paths, reading))
    mine = reading.share(len(head.locations))
    first, last = mine.start * head.components + head.component, mine.stop * head.components
    values = np.zeros((0, 0))
    with agreed(reading.comm):
        rows = [vecs.read(record, first, last, head.components) for vecs, records in head.files for record in records]
        values = np.array(rows).reshape(len(rows), mine.stop - mine.start)
    field = "u" if head.components == 1 else f"u{head.component}"
    return Content(head.table.names, field, head.table.numbers, head.locations[mine], values, head.notice)


def _head(paths: Sequence[Path], reading: Reading) -> _Head:
    files: list[tuple[Vecs, tuple[Record, ...]]] = []
    size, notice = -1, ""
    for path in paths:
        vecs = scan(path)
        records, trouble = vecs.records, vecs.trouble
        size = size if size >= 0 or not records else records[0].size
        good = equal_sizes(records, size)
        if good < len(records):
            trouble = f"Vec {good} has {records[good].size} numbers where the first has {size}"
        files.append((vecs, records[:good]))
        if trouble:
            count = sum(len(records) for _, records in files)
            why = f"{path}: {trouble}; {count} snapshots before it are good"
            if not reading.recover or count == 0:
                raise SnapshotError(f"{why}; write it again" + (f", or {RECOVER}" if count else ""))
            notice = f"{why} and used"
            break
    table = parameters_of([Steps(str(vecs.path), len(records)) for vecs, records in files], reading, bool(notice))
    locations, components = _locations(files[0][0], size, reading)
    return _Head(tuple(files), table, locations, components, _component(reading.field, components, paths[0]), notice)


def _component(field: str | None, components: int, path: Path) -> int:
    if field is None and components > 1:
        raise SnapshotError(
            f"{path}: its Vecs have {components} numbers at a location; say which by -data_field 0 … {components - 1}"
        )
    if field is not None and (not field.isdigit() or int(field) >= components):
        raise SnapshotError(f"{path}: -data_field {field} is no component of its Vecs; they are 0 … {components - 1}")
    return int(field or 0)


def _locations(vecs: Vecs, size: int, reading: Reading) -> tuple[Array, int]:
    """(K, d), and how many numbers of a Vec of ``size`` are at each location."""
    option = "-data_coordinates"
    if reading.coordinates is None:
        raise SnapshotError(
            f"{vecs.path}: it has no coordinates; give (K, d) as text, CSV or .npy, or the Vec of the DM's coordinates "
            f"by {option}"
        )
    if Path(reading.coordinates).suffix.lower() in (".txt", ".csv", ".npy"):
        locations = read_table(reading.coordinates, option).numbers
    else:
        locations = _from_vec(scan(Path(reading.coordinates)), vecs, size, option)
    if size % len(locations):
        raise SnapshotError(
            f"{vecs.path}: its Vecs have {size} numbers, which is no multiple of the {len(locations)} locations in "
            f"{reading.coordinates}; give the coordinates of these Vecs"
        )
    return locations, size // len(locations)


def _from_vec(coordinates: Vecs, vecs: Vecs, size: int, option: str) -> Array:
    """The number of columns: the block size that PETSc wrote, or what fits the Vecs of the solutions."""
    if coordinates.trouble or not coordinates.records:
        raise SnapshotError(f"{option} {coordinates.path}: {coordinates.trouble}; write it again")
    record = coordinates.records[0]
    columns = coordinates.block_size
    if columns == 1 and record.size:
        count = size // vecs.block_size
        columns = record.size // count if count and record.size % count == 0 else 0
    if not 1 <= columns <= 3 or record.size % columns or not record.size:
        raise SnapshotError(
            f"{option} {coordinates.path}: its Vec of {record.size} numbers does not say how many coordinates a "
            f"location has, for solutions of {size}; give (K, d) as text, CSV or .npy"
        )
    return coordinates.read(record).reshape(-1, columns)
