"""HDF5 files through h5py, laid out as the .npz archives; every rank reads its locations, rank 0 writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed, on_root
from pescitrain.snapshots.files.arrays import without_values
from pescitrain.snapshots.files.content import FORMAT, Content, Reading, broken, versions


def write_hdf5(whole: Content, path: Path) -> None:
    """Everything in one file. For one rank.

    Raises
    ------
    SnapshotError       there is no h5py
    """
    with _h5py(path).File(path, "w") as file:
        file["inputs"], file["locations"], file["values"] = whole.inputs, whole.locations, whole.values
        file.attrs["parameters"], file.attrs["field"] = list(whole.parameters), whole.field
        file.attrs["header"] = json.dumps({"format": FORMAT, "versions": versions()})


def read_hdf5(path: Path, reading: Reading) -> Content:
    """The values at this rank's locations. Collective.

    Raises
    ------
    SnapshotError       there is no h5py; the file is cut off, or lacks an array
    """

    def head() -> tuple[Content, str]:
        with _opened(path) as arrays:
            return without_values(arrays, str(path), reading)

    whole, key = on_root(reading.comm, head)
    mine = reading.share(len(whole.locations))
    values = np.zeros((0, 0))
    with agreed(reading.comm), _opened(path) as arrays:
        values = np.asarray(arrays[key][:, mine], dtype=np.float64)
    return replace(whole, locations=whole.locations[mine], values=values)


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, Any]]:
    """The datasets and attributes of the file by name."""
    h5py = _h5py(path)
    try:
        with h5py.File(path, "r") as file:
            yield {**{name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}, **dict(file.attrs)}
    except OSError as error:
        raise SnapshotError(
            f"{path}: it is cut off or no HDF5 file, and nothing of it can be used ({broken(error)}); write it again"
        ) from None


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise SnapshotError(
            f"{path}: HDF5 needs the package h5py, which is not installed; install pescitrain[hdf5], or use .npz or a "
            "PETSc binary file"
        ) from None
    return h5py
