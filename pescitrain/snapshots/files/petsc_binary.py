"""PETSc binary files: Vecs one after the other, which any rank reads where its numbers are.

A Vec is its class number and its length, then its numbers, all with the high byte first. How wide they are follows
from how PETSc was configured, not from the file: the widths are those with which the file is Vecs to its end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError

Array = NDArray[np.float64]

VEC = 1211214
"""Class number of a Vec in a binary file."""


@dataclass(frozen=True)
class Record:
    """Where the numbers of a Vec begin, and how many there are."""

    offset: int
    size: int


@dataclass(frozen=True)
class Vecs:
    """The Vecs of a file. ``trouble``: why there are not more of them; empty at the end of a good file."""

    path: Path
    records: tuple[Record, ...]
    scalar: str
    trouble: str
    block_size: int

    def read(self, record: Record, start: int = 0, stop: int | None = None, step: int = 1) -> Array:
        """Numbers ``start`` … ``stop`` of a Vec, every ``step``-th. Not collective."""
        stop = record.size if stop is None else stop
        dtype = np.dtype(self.scalar)
        count = max(0, stop - start)
        numbers = np.fromfile(self.path, dtype, count, offset=record.offset + start * dtype.itemsize)
        return numbers[::step].astype(np.float64)


def scan(path: Path) -> Vecs:
    """Find the Vecs of a file. For one rank.

    Raises
    ------
    SnapshotError       no such file, an empty one, one that does not begin with a Vec
    """
    if not path.is_file():
        raise SnapshotError(f"{path}: there is no such file")
    length = path.stat().st_size
    if length == 0:
        raise SnapshotError(f"{path}: it is empty; write it again")
    with path.open("rb") as file:
        for index in (">i4", ">i8"):
            usual = _walk(file, length, index, ">f8")
            if usual is None:
                continue
            if usual[1]:  # cut off, or of another precision, which then fits to the end
                single = _walk(file, length, index, ">f4")
                if single is not None and not single[1]:
                    return Vecs(path, tuple(single[0]), ">f4", "", _block_size(path))
            return Vecs(path, tuple(usual[0]), ">f8", usual[1], _block_size(path))
    raise SnapshotError(f"{path}: it does not begin with a Vec; give a file of VecView or -vec_view binary:{path.name}")


def _walk(file: BinaryIO, length: int, index: str, scalar: str) -> tuple[list[Record], str] | None:
    """All Vecs until the end or trouble; None where the first class number is another."""
    width, number = np.dtype(index).itemsize, np.dtype(scalar).itemsize
    records: list[Record] = []
    place = 0
    while place < length:
        file.seek(place)
        head = np.frombuffer(file.read(2 * width)[: 2 * width], np.uint8)
        if head.size >= width:
            kind = int(head[:width].view(index)[0])
            if kind != VEC:
                return (records, f"object {len(records)} is no Vec (class {kind})") if records else None
        if head.size < 2 * width:
            return records, f"it is cut off in the head of Vec {len(records)}"
        size = int(head[width:].view(index)[0])
        end = place + 2 * width + size * number
        if size < 0 or end > length:
            there = max(0, (length - place - 2 * width) // number)
            return records, f"it is cut off in Vec {len(records)}: {there} of {size} numbers are there"
        records.append(Record(place + 2 * width, size))
        place = end
    return records, ""


def _block_size(path: Path) -> int:
    """What PETSc wrote into ``<path>.info`` next to the file; 1 where it wrote nothing."""
    info = path.with_name(path.name + ".info")
    found = re.findall(r"-\w*vecload_block_size\s+(\d+)", info.read_text(errors="replace")) if info.is_file() else []
    return int(found[-1]) if found else 1


def equal_sizes(records: Sequence[Record], size: int) -> int:
    """How many of the Vecs, from the first on, have this size."""
    return next((k for k, record in enumerate(records) if record.size != size), len(records))
