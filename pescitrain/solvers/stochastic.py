"""What methods have in common that see another batch of samples in each iteration."""

from __future__ import annotations

from typing import NoReturn

from pescitrain.errors import OptionError
from pescitrain.evaluation.batches import Batches


class Stochastic:
    """Its iterations need no objective but the one of their own batch.

    ``steps``: iterations so far, which number the batches.
    """

    steps = 0
    batches: Batches | None = None

    def next_batch(self) -> None:
        """φ and ∇φ at the new iterate are those of the batch of the next step. Not collective."""
        if self.batches is not None:
            self.batches.show(self.steps)


def refuse_batches(method: str) -> NoReturn:
    """For a method that compares values of one objective.

    Raises
    ------
    OptionError
    """
    raise OptionError(
        f"{method} needs an objective that stays the same, and -sample_batch changes it: leave that out, or use "
        "-tao_type adam, adagrad, mladagrad, rmtr, sgd or soap"
    )
