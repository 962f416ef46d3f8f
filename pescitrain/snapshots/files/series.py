"""The parameters of snapshots that come in files: a row of a table for each snapshot, or for each file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.files.content import Reading
from pescitrain.snapshots.files.text import Table, read_table

Array = NDArray[np.float64]

TIME = "t"
"""The parameter that is the time of a step of a series."""


@dataclass(frozen=True)
class Steps:
    """How many snapshots a file gives, and their times where it knows them."""

    name: str
    count: int
    times: tuple[float, ...] = ()


def parameters_of(files: Sequence[Steps], reading: Reading, cut: bool) -> Table:
    """Names and numbers (N, s) for all snapshots of the files. For one rank.

    ``cut``: the last file is cut off, so that a table may go on.

    Raises
    ------
    SnapshotError       there is no table, or one with another number of rows
    """
    total = sum(file.count for file in files)
    timed = all(file.times for file in files)
    if reading.parameters is None:
        if not (timed and len(files) == 1):
            raise SnapshotError(
                f"{files[0].name}: it has no parameters; give a text or CSV file with a row for each of the {total} "
                "snapshots by -data_parameters"
            )
        return Table((TIME,), np.array(files[0].times)[:, None])
    table = read_table(reading.parameters, "-data_parameters")
    names = table.names or tuple(f"p{column}" for column in range(table.numbers.shape[1]))
    rows = len(table.numbers)
    if rows == total or (cut and rows > total and rows > len(files)):
        numbers = table.numbers[:total]
    elif rows == len(files) or (cut and rows > len(files)):
        if any(file.count > 1 for file in files) and not timed:
            raise SnapshotError(
                f"{files[0].name}: a file has several snapshots and no times; give a row for each of the {total} "
                f"snapshots by -data_parameters, with a column {TIME!r} for the time"
            )
        numbers = np.repeat(table.numbers[: len(files)], [file.count for file in files], axis=0)
    else:
        raise SnapshotError(
            f"-data_parameters {reading.parameters}: it has {rows} rows where there are {total} snapshots; give a row "
            "for each"
        )
    if timed and TIME not in names and any(file.count > 1 for file in files):
        times = np.concatenate([file.times for file in files])
        return Table((*names, TIME), np.column_stack((numbers, times)))
    return Table(names, numbers)
