"""The error against a reference solution, over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from pescitrain.errors import ProblemError
from pescitrain.networks.device import evaluate
from pescitrain.problem.classification import LabelledData
from pescitrain.problem.operator import OperatorData
from pescitrain.problem.regression import RegressionData
from pescitrain.problem.surrogate import Surrogate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Errors:
    """Relative L2 error (all outputs together) and largest absolute error; of classes the share of wrong ones, and the
    largest probability of a sample's not being in its class."""

    rel_l2: float
    maximum: float


class ErrorMetric:
    """‖u − u*‖ / ‖u*‖ on fixed points with weights; every rank evaluates its share.

    Parameters
    ----------
    surrogate : Module      (M, d) -> (M, k)
    x : (M, d), weights : (M,), reference : (M, k)      the same on all ranks
    """

    name = "relative error"

    def __init__(self, surrogate: nn.Module, x: Array, weights: Array, reference: Array, comm: MPI.Intracomm) -> None:
        self.surrogate, self.comm = surrogate, comm
        self.x, self.weights, self.reference = x, weights, reference
        mine = slice(len(x) * comm.rank // comm.size, len(x) * (comm.rank + 1) // comm.size)
        self._x, self._weights, self._reference = x[mine], weights[mine, None], reference[mine]

    def evaluate(self) -> Errors:
        """The error of the surrogate as it is now. Collective: two reductions."""
        difference = evaluate(self.surrogate, self._x) - self._reference
        sums = np.array([(self._weights * difference**2).sum(), (self._weights * self._reference**2).sum()])
        self.comm.Allreduce(MPI.IN_PLACE, sums)
        largest = self.comm.allreduce(float(np.abs(difference).max(initial=0.0)), MPI.MAX)
        return Errors(float(np.sqrt(sums[0] / sums[1])), largest)


class OperatorErrorMetric:
    """The mean over input functions of ‖u(a) − s‖ / ‖s‖, in the mean square over the locations.

    Parameters
    ----------
    surrogate : Module      (N, s), (K, d) -> (N, K)
    data : OperatorData     every rank evaluates its share of the functions, or all of them at its locations
    """

    name = "relative error"

    def __init__(self, surrogate: nn.Module, data: OperatorData, comm: MPI.Intracomm) -> None:
        self.surrogate, self.data, self.comm = surrogate, data, comm
        rank, size = (comm.rank, comm.size) if data.comm is None else (0, 1)
        self._mine = slice(len(data) * rank // size, len(data) * (rank + 1) // size)

    def evaluate(self) -> Errors:
        """The error of the surrogate as it is now. Collective: two reductions."""
        data, mine = self.data, self._mine
        difference = evaluate(self.surrogate, data.inputs[mine], data.locations) - data.values[mine]
        squares = np.zeros(len(data))
        squares[mine] = (difference**2).sum(1)
        self.comm.Allreduce(MPI.IN_PLACE, squares)
        largest = self.comm.allreduce(float(np.abs(difference).max(initial=0.0)), MPI.MAX)
        return Errors(float(np.sqrt(squares / data.squares).mean()), largest)


class RegressionMetric:
    """The root mean square over the quantities of their relative L2 errors ‖u − y‖ / ‖y‖, whatever their units.

    Parameters
    ----------
    surrogate : Surrogate       (N, s) -> (N, k)
    data : RegressionData       the same on all ranks; every rank evaluates its share of the samples

    Raises
    ------
    ProblemError                other inputs or quantities than the surrogate has; one that is zero in all samples
    """

    name = "relative error"

    def __init__(self, surrogate: Surrogate, data: RegressionData, comm: MPI.Intracomm) -> None:
        self.surrogate, self.data, self.comm = surrogate, data, comm
        inputs, quantities = surrogate.arguments["x"], len(surrogate.outputs)
        if (data.inputs.shape[1], data.values.shape[1]) != (inputs, quantities):
            raise ProblemError(
                f"validation: inputs {data.inputs.shape} and values {data.values.shape} where the surrogate maps "
                f"{inputs} inputs to {quantities} quantities"
            )
        self._norms = np.linalg.norm(data.values, axis=0)
        if not self._norms.all():
            column = int(self._norms.argmin())
            raise ProblemError(
                f"validation: {surrogate.outputs[column]} is zero in all samples and has no relative error"
            )
        self._mine = slice(len(data) * comm.rank // comm.size, len(data) * (comm.rank + 1) // comm.size)

    def evaluate(self) -> Errors:
        """The error of the surrogate as it is now. Collective: two reductions."""
        difference = evaluate(self.surrogate, self.data.inputs[self._mine]) - self.data.values[self._mine]
        squares = (difference**2).sum(0)
        self.comm.Allreduce(MPI.IN_PLACE, squares)
        largest = self.comm.allreduce(float(np.abs(difference).max(initial=0.0)), MPI.MAX)
        return Errors(float(np.sqrt((squares / self._norms**2).mean())), largest)


class ClassificationMetric:
    """The share of samples whose largest output is not that of their class.

    Parameters
    ----------
    surrogate : Module      (N, d) -> (N, k)
    data : LabelledData     the same on all ranks; every rank evaluates its share of the samples
    """

    name = "wrong classes"

    def __init__(self, surrogate: nn.Module, data: LabelledData, comm: MPI.Intracomm) -> None:
        self.surrogate, self.data, self.comm = surrogate, data, comm
        self._mine = slice(len(data) * comm.rank // comm.size, len(data) * (comm.rank + 1) // comm.size)

    def evaluate(self) -> Errors:
        """The share for the surrogate as it is now. Collective: two reductions."""
        logits, labels = evaluate(self.surrogate, self.data.inputs[self._mine]), self.data.labels[self._mine]
        wrong = self.comm.allreduce(int((logits.argmax(1) != labels).sum()))
        missed = 1.0 - np.take_along_axis(softmax(logits, axis=1), labels[:, None], axis=1)
        largest = self.comm.allreduce(float(missed.max(initial=0.0)), MPI.MAX)
        return Errors(wrong / len(self.data), largest)
