"""What the benchmarks share: run the command in a process of its own, and read its run folder."""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """A run folder: ``summary.json``, and columns of ``history.csv``, an entry for each iterate.

    ``errors``: NaN where the error was not measured.
    """

    summary: dict[str, Any]
    closures: list[float]
    seconds: list[float]
    objectives: list[float]
    errors: list[float] = field(default_factory=list)

    def objective_at(self, closures: float = float("inf"), seconds: float = float("inf")) -> float:
        """The objective of the last iterate within a budget; that of the start where the budget ends before it."""
        rows = zip(self.objectives, self.closures, self.seconds, strict=True)
        within = [phi for phi, spent, wall in rows if spent <= closures and wall <= seconds]
        return within[-1] if within else self.objectives[0]


def read(folder: Path) -> Run:
    """The run that a folder is of."""
    summary = json.loads((folder / "summary.json").read_text())
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("closures", "wall_s", "objective", "rel_l2")
    columns = ([float(row[name] or "nan") for row in rows] for name in names)
    return Run(summary, *columns)


ON_CPU_TIME = (
    "import time, runpy; time.perf_counter = time.process_time; runpy.run_module('pescitrain', run_name='__main__')"
)
"""The command with CPU time for its clock."""


def train(*words: object, cpu: bool = False) -> Run:
    """``python -m pescitrain`` with these words, without what only a person looks at.

    ``cpu``: on one thread, its seconds those of the CPU.

    Raises
    ------
    SystemExit      the command has no result; with what it said
    """
    with tempfile.TemporaryDirectory() as folder:
        silent = ("-out_pictures", "false", "-out_model", "false", "-out_error_interval", 1_000_000, "-out_dir", folder)
        program = ["-c", ON_CPU_TIME] if cpu else ["-m", "pescitrain"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"} if cpu else None
        command = [sys.executable, *program, *map(str, (*silent, *words))]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        # A run that diverged (exit code 1) is a result as any other, as long as it wrote one.
        if ended.returncode not in (0, 1) or not (Path(folder) / "summary.json").is_file():
            raise SystemExit(f"{' '.join(command)}\n{ended.stderr}")
        return read(Path(folder))


def arguments(description: str | None, **lists: Sequence[Any]) -> tuple[argparse.Namespace, list[str]]:
    """``--name a,b`` for each list of values that a script runs through, ``--name ""`` for none of them.

    All other words go to every run.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,  # its -h would swallow options of the command
    )
    parser.add_argument("--help", action="help")
    for name, values in lists.items():
        kind, default = type(values[0]), ",".join(map(str, values))
        parser.add_argument(
            f"--{name}",
            type=lambda text, kind=kind: [kind(part) for part in text.split(",") if part],
            default=list(values),
            help=f"default: {default}",
        )
    return parser.parse_known_args()
