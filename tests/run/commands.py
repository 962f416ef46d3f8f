"""The command for the tests: in this process, where one run is enough, or in processes of its own."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import toys  # noqa: F401  # pyright: ignore[reportMissingImports]  (loads what torch warns about once in a process)
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.run.command import main

MPIEXEC = Path(sys.executable).parent / "mpiexec"

TINY = (
    *("-net_width", "8", "-net_depth", "2"),
    *("-sample_points", "200", "-sample_boundary_points", "40"),
    *("-out_pictures", "false", "-out_model", "false"),
)
"""A network and a sample with which an iteration takes a millisecond, and no files that take seconds."""

PATIENCE_S = 120
"""After which a process counts as hanging; none needs a tenth of it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """Of the standard output."""
        return self.out.strip().splitlines()[-1]

    @property
    def complaint(self) -> str:
        """The one sentence of a command that failed; fails itself where there is more or less."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("pescitrain: "), self.err
        return lines[0].removeprefix("pescitrain: ")


@contextlib.contextmanager
def _captured(number: int, redirect: Any) -> Iterator[TextIO]:
    """What Python and what PETSc's C code write to a standard stream, in one file and in order."""
    before = os.dup(number)
    with tempfile.TemporaryFile("w+", buffering=1) as file:
        os.dup2(file.fileno(), number)
        try:
            with redirect(file):
                yield file
        finally:
            os.dup2(before, number)
            os.close(before)


def clear_options() -> None:
    """Empty the database; for fixtures that outlive the one of a test."""
    options = PETSc.Options()
    for key in options.getAll():
        options.delValue(key)


def command(*words: object, comm: MPI.Intracomm = MPI.COMM_WORLD) -> Ended:
    """``python -m pescitrain`` with these words, in this process: the same but for the start of PETSc.

    Collective over ``comm``; standard output is that of rank 0 of COMM_WORLD.
    """
    arguments = [str(word) for word in words]
    clear_options()
    PETSc.Options().insertString(" ".join(arguments))
    try:
        with _captured(1, contextlib.redirect_stdout) as out, _captured(2, contextlib.redirect_stderr) as err:
            code = main(arguments, comm)
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read())
    finally:
        clear_options()
    return Ended(code, *texts)


def refused(*words: object) -> str:
    """The sentence of a command that ends as a usage error before it prints anything else."""
    ended = command(*words)
    assert (ended.code, ended.out) == (2, "")
    return ended.complaint


def environment(**more: str) -> dict[str, str]:
    """For processes of their own: a launcher must not take itself for a rank of the job that runs the tests."""
    launchers = ("PMI", "OMPI_COMM", "PMIX", "HYDI")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(launchers)}
    allowed = {
        f"{library}_ALLOW_RUN_AS_ROOT{suffix}": "1" for library in ("OMPI", "PRTE") for suffix in ("", "_CONFIRM")
    }
    crowded = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    return {**kept, **allowed, **crowded, **more}


def arguments_of(words: tuple[object, ...], ranks: int | None = None) -> list[str]:
    """The command line of a process."""
    launcher = [] if ranks is None else [str(MPIEXEC), "-n", str(ranks)]
    return [*launcher, sys.executable, "-m", "pescitrain", *map(str, words)]


def process(
    *words: object, ranks: int | None = None, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ended:
    """``[mpiexec -n ranks] python -m pescitrain`` with these words; an error where it hangs."""
    return program(arguments_of(words, ranks), env, cwd)


def program(arguments: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ended:
    """Any command line in a process of its own; an error where it hangs."""
    ended = subprocess.run(
        arguments,
        env=environment(**(env or {})),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def history(folder: Path) -> list[dict[str, str]]:
    """The lines of ``history.csv``."""
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> np.ndarray:
    """A column of ``history.csv`` as numbers."""
    return np.array([float(row[name]) for row in history(folder)])


def summary(folder: Path) -> dict[str, Any]:
    """``summary.json``."""
    return json.loads((folder / "summary.json").read_text())
