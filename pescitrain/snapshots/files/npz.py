"""NumPy archives with ``inputs`` (N, s), ``locations`` (K, d) and ``values`` (N, K). Rank 0 reads and writes."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.files.arrays import without_values
from pescitrain.snapshots.files.content import FORMAT, Content, Reading, broken, versions


def write_npz(whole: Content, path: Path) -> None:
    """Everything in one archive. For one rank."""
    header = {"format": FORMAT, "versions": versions()}
    with path.open("wb") as file:  # an open file: numpy would add an ending to a name
        np.savez(
            file,
            inputs=whole.inputs,
            locations=whole.locations,
            values=whole.values,
            parameters=np.array(whole.parameters, dtype=str),
            field=np.array(whole.field),
            header=np.array(json.dumps(header)),
        )


def read_npz(path: Path, reading: Reading) -> Content:
    """All of it. For one rank.

    Raises
    ------
    SnapshotError       it is cut off, or lacks an array
    """
    arrays = _load(path)
    content, key = without_values(arrays, str(path), reading)
    return replace(content, values=np.asarray(arrays[key], dtype=np.float64))


def _load(path: Path) -> Mapping[str, NDArray]:
    try:
        with path.open("rb") as file:  # numpy leaves a broken one open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise SnapshotError(f"{path}: it is one array and no .npz archive; write it by numpy.savez")
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError) as error:
        raise SnapshotError(
            f"{path}: it is cut off or no .npz archive, and nothing of it can be used ({broken(error)}); write it again"
        ) from None
