"""Early stopping: when the error that is measured has stopped falling, and which parameters were the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Best:
    """The iteration with the smallest error of a stage, and how many measurements have passed since; −1: none yet."""

    iteration: int = -1
    error: float = math.inf
    since: int = 0

    def after(self, iteration: int, error: float) -> Best:
        """With one more measurement."""
        better = self.iteration < 0 or error < self.error  # NaN never is
        return Best(iteration, error) if better else replace(self, since=self.since + 1)


def best_of(rows: Sequence[Sequence[Any]], stage: str) -> Best:
    """From the rows of ``history.csv``, which a checkpoint holds.

    >>> rows = [["main", k, 0, 0, 0, 0, error] for k, error in enumerate(["0.3", "", "0.1", "0.2"])]
    >>> best_of(rows, "main")
    Best(iteration=2, error=0.1, since=1)
    """
    best = Best()
    for row in rows:
        if row[0] == stage and row[6] != "":
            best = best.after(int(row[1]), float(row[6]))
    return best
