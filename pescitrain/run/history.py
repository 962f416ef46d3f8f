"""history.csv, the lines on the screen, and the clock of a run."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from petsc4py import PETSc

from pescitrain.evaluation import Value
from pescitrain.run.build import Setup
from pescitrain.solvers.outcome import Iterate


class Clock:
    """Seconds of solving: it stands still while errors are measured and files are written."""

    def __init__(self, elapsed: float = 0.0) -> None:
        self._before = elapsed
        self._start: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self._before + (time.perf_counter() - self._start if self._start is not None else 0.0)

    def start(self) -> None:
        """Run on."""
        self._start = time.perf_counter()

    def stop(self) -> None:
        """Stand still."""
        self._before, self._start = self.elapsed, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still inside the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()


class History:
    """One row for each iteration, written at once; rank 0 holds the file, all ranks the numbers.

    ``rel_l2`` is measured every ``error_interval`` iterations and empty between them.
    """

    def __init__(
        self,
        folder: Path,
        setup: Setup,
        clock: Clock,
        error_interval: int,
        print_interval: int,
        saved: str = "",
    ) -> None:
        self.clock = clock
        self.follow(setup)
        self.error_interval, self.print_interval = error_interval, print_interval
        self.columns = ["stage", "iteration", "wall_s", "closures", "objective", "gradient_norm", "rel_l2"]
        self.columns += self.evaluator.term_names
        self.path = folder / "history.csv"
        self.rank = self.evaluator.comm.rank
        self.rows: list[list[Any]] = [row for row in csv.reader(io.StringIO(saved)) if row][1:]
        self._kept: list[Any] | None = None
        self._live = self.rank == 0 and sys.stdout.isatty()
        if self.rank == 0:
            self._file = self.path.open("w", newline="")
            self._writer = csv.writer(self._file)
            self._writer.writerow(self.columns)
            self._writer.writerows(self.rows)
            self._file.flush()

    def follow(self, setup: Setup) -> None:
        """Record the iterates of a setup from now on; its terms are those of the one before."""
        self.evaluator, self.metric = setup.evaluator, setup.metric

    def keep(self, stage: str, iteration: int) -> None:
        """The run ends with the parameters of this iteration, if no other stage follows."""
        self._kept = next(row for row in reversed(self.rows) if row[0] == stage and int(row[1]) == iteration)

    @property
    def final(self) -> list[Any] | None:
        """The row of the parameters that the run ends with."""
        return self._kept or (self.rows[-1] if self.rows else None)

    def text(self) -> str:
        """The whole file so far, for a checkpoint."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer)
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return buffer.getvalue()

    def record(self, stage: str, iterate: Iterate) -> float | None:
        """Add a row for an iterate; returns its error where it is measured, which is collective."""
        wall, self._kept = self.clock.elapsed, None
        with self.clock.paused():
            closures = self.evaluator.counters.closures
            value = self._terms(iterate.theta)
            error: float | None = None
            if self.metric is not None and iterate.iteration % self.error_interval == 0:
                self.evaluator.parameters.put(iterate.whole())
                error = self.metric.evaluate().rel_l2
            row = [stage, iterate.iteration, f"{wall:.4f}", f"{closures:g}", repr(float(iterate.objective))]
            row += [repr(float(iterate.gradient_norm)), "" if error is None else repr(error)]
            row += [repr(float(term)) for term in value.terms]
            self.rows.append(row)
            if self.rank == 0:
                self._writer.writerow(row)
                self._file.flush()
                self._print(iterate, closures, wall, error)
        return error

    def _terms(self, theta: np.ndarray) -> Value:
        """The terms at an iterate; charged to nobody where the evaluator has moved on."""
        counters = self.evaluator.counters
        before = counters.objective
        value = self.evaluator.objective(theta)
        counters.objective = before
        return value

    def _print(self, iterate: Iterate, closures: float, wall: float, error: float | None) -> None:
        regular = iterate.iteration % self.print_interval == 0 or iterate.iteration < 5
        if not (regular or self._live):
            return
        shown = f"   error {error:.3e}" if error is not None else ""
        line = (
            f"{iterate.iteration:6d}   objective {iterate.objective:.6e}   |g| {iterate.gradient_norm:.3e}   "
            f"closures {round(closures, 1):g}   {wall:.1f} s{shown}"
        )
        if self._live:
            print(f"\r\x1b[2K{line}", end="\n" if regular else "", flush=True)
        else:
            print(line, flush=True)

    def close(self) -> None:
        """Close the file."""
        if self.rank == 0:
            self._file.close()


def say(text: str) -> None:
    """A line from rank 0."""
    PETSc.Sys.Print(text)
