"""Tables of numbers: parameters and coordinates in text, CSV or .npy files. For one rank."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pescitrain.coupling.files.content import broken
from pescitrain.errors import SnapshotError

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
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = _words(line)
        if (
            not rows
            and not names
            and _is_head(words if not line.lstrip().startswith("#") else _words(line.lstrip(" #")))
        ):
            names = tuple(words or _words(line.lstrip(" #")))
            continue
        if not words:
            continue
        rows.append(_row(words, f"{option} {path}, line {number}", len(rows[0]) if rows else len(words)))
    if not rows:
        raise SnapshotError(f"{option} {path}: it has no numbers")
    columns = len(rows[0])
    if names and len(names) != columns:
        names = () if path and lines[0].lstrip().startswith("#") else _refuse_head(option, path, names, columns)
    return Table(names, np.array(rows))


def _refuse_head(option: str, path: str, names: tuple[str, ...], columns: int) -> tuple[str, ...]:
    raise SnapshotError(f"{option} {path}: {len(names)} names ({', '.join(names)}) for {columns} columns")


def _words(line: str) -> list[str]:
    text = line.partition("#")[0].strip()
    if not text:
        return []
    return [
        word.strip().strip("\"'") for word in (re.split(r"[,;]", text) if re.search("[,;]", text) else text.split())
    ]


def _is_head(words: list[str]) -> bool:
    return any(_number(word) is None for word in words)


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
