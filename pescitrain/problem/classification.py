"""Classification: a network whose outputs are the logits of classes, trained on labelled samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem.problem import Problem
from pescitrain.problem.terms import Classes, Term

Array = NDArray[np.float64]


class LabelledData:
    """Samples with their classes.

    Parameters
    ----------
    inputs : (N, d)
    labels : (N,)       0, 1, …

    Raises
    ------
    ProblemError        shapes that do not fit, NaN, infinity, no samples
    """

    def __init__(self, inputs: ArrayLike, labels: ArrayLike) -> None:
        self.inputs: Array = np.asarray(inputs, dtype=np.float64)
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)
        if self.inputs.ndim != 2 or self.labels.shape != (len(self.inputs),) or self.inputs.size == 0:
            raise ProblemError(
                f"labelled data: inputs {self.inputs.shape} and labels {self.labels.shape} must be (N, d) and (N,)"
            )
        if not np.isfinite(self.inputs).all():
            raise ProblemError("labelled data: the inputs hold NaN or infinity; remove these samples")

    def __len__(self) -> int:
        """N."""
        return len(self.inputs)


class ClassificationProblem(Problem):
    """Base of problems that tell classes apart; ``coordinates`` name the inputs, ``fields`` the classes.

    The fields are the logits; errors are the share of the validation that gets a wrong class.
    """

    def training(self) -> LabelledData:
        """The samples that are fitted."""
        raise ProblemError(f"problem {self.name} has no training(): return its LabelledData")

    def validation(self) -> LabelledData:
        """Other samples, which are counted where their class is missed."""
        raise ProblemError(f"problem {self.name} has no validation(): return LabelledData that are not trained on")

    def domain(self) -> Box:
        """The box of the samples that are trained on."""
        inputs = self.training().inputs
        return Box(tuple(self.coordinates), tuple(inputs.min(0)), tuple(inputs.max(0)))

    def terms(self) -> Sequence[Term]:
        data = self.training()
        return [Classes(data.inputs, data.labels, name="cross_entropy")]


def class_names(count: int) -> tuple[str, ...]:
    """class_0, class_1, …"""
    return tuple(f"class_{number}" for number in range(count))
