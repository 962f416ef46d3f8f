"""The error against a reference solution, over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.special import softmax
from torch import nn

from pescitrain.networks.device import evaluate
from pescitrain.problem.classification import LabelledData
from pescitrain.problem.operator import OperatorData

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
