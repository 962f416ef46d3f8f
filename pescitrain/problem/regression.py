"""Regression: a network that maps parameters to quantities, trained on samples of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem.liftings import Lifting
from pescitrain.problem.problem import Problem
from pescitrain.problem.terms import Data, Rows, Term

Array = NDArray[np.float64]


class RegressionData:
    """Samples of parameters with the quantities that belong to them, in any units.

    Parameters
    ----------
    inputs : (N, s)
    values : (N, k)

    Raises
    ------
    ProblemError        shapes that do not fit, NaN, infinity, no samples
    """

    def __init__(self, inputs: ArrayLike, values: ArrayLike) -> None:
        self.inputs: Array = np.asarray(inputs, dtype=np.float64)
        self.values: Array = np.asarray(values, dtype=np.float64)
        shapes = f"inputs {self.inputs.shape} and values {self.values.shape}"
        if self.inputs.ndim != 2 or self.values.ndim != 2 or len(self.inputs) != len(self.values):
            raise ProblemError(f"regression data: {shapes} must be (N, s) and (N, k)")
        if self.inputs.size == 0 or self.values.size == 0:
            raise ProblemError(f"regression data: {shapes} hold no samples")
        for name in ("inputs", "values"):
            if not np.isfinite(getattr(self, name)).all():
                raise ProblemError(f"regression data: the {name} hold NaN or infinity; remove these samples")

    def __len__(self) -> int:
        """N."""
        return len(self.inputs)

    @property
    def deviations(self) -> Array:
        """(k,) standard deviations of the quantities; 1 for one that is constant."""
        deviations = self.values.std(0)
        return np.where(deviations > 0.0, deviations, 1.0)


@dataclass
class Quantities(Data):
    """All fields = values (N, k) at given points (N, d), their differences in units (k,): a mean square over the
    samples of a sum over the fields."""

    _: KW_ONLY
    units: ArrayLike = 1.0

    def __post_init__(self) -> None:
        Term.__post_init__(self)
        self.place = "points"
        self.coordinates = np.asarray(self.x, dtype=np.float64)
        self.data = np.asarray(self.values, dtype=np.float64)

    def residual(self, known: dict[str, Any]) -> Rows:
        fields, columns = list(known["__fields__"].values()), known["__data__"].unbind(1)
        if len(fields) != len(columns):
            raise ProblemError(f"term {self.label!r}: values of {len(columns)} quantities for {len(fields)} fields")
        units = np.broadcast_to(self.units, len(fields)).tolist()
        return [(u - value) / unit for u, value, unit in zip(fields, columns, units, strict=True)]


class RegressionProblem(Problem):
    """Base of surrogates of a map; ``coordinates`` name the inputs, ``fields`` the quantities that it gives.

    The network sees inputs of size one and gives quantities of mean zero and deviation one; the surrogate, and with it
    the model that is loaded, has those of the samples. Errors are relative and measured on the validation.
    """

    def training(self) -> RegressionData:
        """The samples that are fitted."""
        raise ProblemError(f"problem {self.name} has no training(): return its RegressionData")

    def validation(self) -> RegressionData:
        """Other samples, on which errors are measured."""
        raise ProblemError(f"problem {self.name} has no validation(): return RegressionData that are not trained on")

    def domain(self) -> Box:
        """The box of the samples that are trained on."""
        inputs = self.training().inputs
        return Box(tuple(self.coordinates), tuple(inputs.min(0)), tuple(inputs.max(0)))

    def terms(self) -> Sequence[Term]:
        data = self.training()
        return [Quantities(data.inputs, data.values, units=data.deviations, name="quantities")]

    def scaling(self) -> Lifting:
        """Mean + deviation · network, of the quantities that are trained on."""
        data = self.training()
        means, deviations = data.values.mean(0).tolist(), data.deviations.tolist()
        return Lifting(lambda: means, lambda: deviations, ())
