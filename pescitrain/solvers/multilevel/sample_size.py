"""Batches that grow while a method of descent trains on them: dynamic sample sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.batches import Batches
from pescitrain.solvers.outcome import Array


@dataclass(frozen=True)
class Epoch:
    """Where an epoch began, φ of all samples there, and what φ of its batches has fallen by so far."""

    theta: Array
    objective: float
    gained: float = 0.0


class SampleSize:
    """Doubles the batches when an epoch on them has reduced φ of all samples too little.

    ρ is what φ of all samples fell by in an epoch, over the mean of what it fell by on each batch: 1 where a batch
    helped itself alone. Where ρ is not above 0 the epoch is taken back and the radius halved; below :data:`ENOUGH` the
    batches are doubled, until one holds all samples (after Kopaničáková & Krause, arXiv:2107.07572; the details are our
    own).
    """

    ENOUGH = 0.5

    def __init__(self, evaluator: Evaluator, batches: Batches) -> None:
        self._evaluator, self.batches = evaluator, batches
        self.epoch, self.place = 0, 0
        self.begun: Epoch | None = None

    @property
    def whole(self) -> bool:
        """Whether a batch holds all samples."""
        return self.batches.count == 1

    def begin(self, theta: Array) -> None:
        """Show the next batch. Collective: an epoch begins with φ of all samples."""
        if self.place == 0 and not self.whole:
            self.begun = Epoch(theta.copy(), self._of_all(theta))
        self._show()

    def end(self, theta: Array, gained: float) -> Array | None:
        """A batch has fallen by ``gained``: θ of the beginning where the epoch is taken back, or None. Collective."""
        if self.whole or self.begun is None:
            return None
        begun = Epoch(self.begun.theta, self.begun.objective, self.begun.gained + gained)
        self.begun, self.place = begun, self.place + 1
        if self.place < self.batches.count:
            return None
        reduction, mean = begun.objective - self._of_all(theta), begun.gained / self.batches.count
        ratio = reduction / mean if mean > 0.0 else 0.0
        self.epoch, self.place = self.epoch + 1, 0
        if not ratio >= self.ENOUGH:  # NaN is not enough
            self.batches.resize(min(2 * self.batches.size, self.batches.total))
        self._show()
        return None if ratio > 0.0 else begun.theta

    def _show(self) -> None:
        self.batches.show(self.epoch * self.batches.count + self.place)

    def _of_all(self, theta: Array) -> float:
        self.batches.show(None)
        return self._evaluator.objective(theta).objective

    def save(self) -> dict[str, list[Array]]:
        """For a checkpoint."""
        begun = self.begun or Epoch(np.zeros(0), 0.0)
        numbers = [float(self.batches.size), float(self.epoch), float(self.place), begun.objective, begun.gained]
        return {"epoch": [np.array(numbers), begun.theta]}

    def restore(self, saved: list[Array]) -> None:
        """Continue from :meth:`save`."""
        numbers, theta = saved
        self.batches.resize(int(numbers[0]))
        self.epoch, self.place = int(numbers[1]), int(numbers[2])
        self.begun = Epoch(theta, float(numbers[3]), float(numbers[4])) if theta.size else None
        self._show()
