"""Tables of numbers: parameters and coordinates in text, CSV or .npy files. For one rank."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.files.content import broken

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Numbers (N, s) and the names of their columns; none where the file has no head line."""

    names: tuple[str, ...]
    numbers: Array


def read_table(path: str, option: str) -> Table:
    """Columns apart by commas, semicolons or spaces; a first line of words has names; ``#`` starts a comment.

    Raises
    ------
    SnapshotError       no such file, a line with another number of columns, what is no number
    """
    file = Path(path)
    if not file.is_file():
        raise SnapshotError(f"{option} {path}: there is no such file")
    if file.suffix == ".npy":
        return Table((), _binary(file, option))
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SnapshotError(f"{option} {path}: it is no text; give text, CSV or .npy") from None
    names: tuple[str, ...] = ()
    commented: tuple[str, ...] = ()
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        text, _, comment = line.partition("#")
        words = _words(text)
        if not words:
            commented = commented if rows else tuple(_words(comment))
        elif not rows and not names and not _are_numbers(words):
            names = tuple(words)
        else:
            rows.append(_row(words, f"{option} {path}, line {number}", len(rows[0]) if rows else len(words)))
    if not rows:
        raise SnapshotError(f"{option} {path}: it has no numbers")
    columns = len(rows[0])
    if names and len(names) != columns:
        raise SnapshotError(f"{option} {path}: {len(names)} names ({', '.join(names)}) for {columns} columns")
    if not names and len(commented) == columns and not _are_numbers(commented):
        names = commented
    return Table(names, np.array(rows))


def _words(text: str) -> list[str]:
    parts = re.split(r"[,;]", text) if re.search("[,;]", text) else text.split()
    return [word.strip().strip("\"'") for word in parts]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(_number(word) is not None for word in words)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _row(words: list[str], where: str, columns: int) -> list[float]:
    numbers = [_number(word) for word in words]
    for word, number in zip(words, numbers, strict=True):
        if number is None or not np.isfinite(number):
            raise SnapshotError(f"{where}: {word!r} is no finite number")
    if len(numbers) != columns:
        raise SnapshotError(f"{where}: {len(numbers)} columns where the lines before have {columns}")
    return [number for number in numbers if number is not None]


def _binary(file: Path, option: str) -> Array:
    try:
        numbers = np.asarray(np.load(file, allow_pickle=False), dtype=np.float64)
    except (ValueError, EOFError, TypeError) as error:
        raise SnapshotError(f"{option} {file}: it is broken or holds no numbers ({broken(error)})") from None
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    if numbers.ndim != 2 or not np.isfinite(numbers).all():
        raise SnapshotError(f"{option} {file}: it must hold finite numbers (N, s), not {numbers.shape}")
    return numbers
