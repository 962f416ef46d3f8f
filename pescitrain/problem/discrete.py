"""Equations that a simulation has discretised: its own residual, as a function of the fields at its own nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.networks.device import on_device, on_host
from pescitrain.problem.terms import Rows, Term

Array = NDArray[np.float64]


class DiscreteEquations(Protocol):
    """F(u) = 0 for the values u (K, k) of k fields at this rank's K nodes; every method is collective.

    Attributes
    ----------
    comm : MPI.Intracomm        the ranks that hold the nodes
    locations : (K, d)          of the nodes of this rank
    rows : int                  equations of this rank
    """

    comm: MPI.Intracomm
    locations: Array
    rows: int

    def residual(self, values: Array) -> Array:
        """F(u): (K, k) -> (rows,)."""
        ...

    def times(self, values: Array, changes: Array) -> Array:
        """F'(u) V: (K, k), (K k, q) -> (rows, q)."""
        ...

    def transpose_times(self, values: Array, cotangents: Array) -> Array:
        """F'(u)ᵀ W: (K, k), (rows, q) -> (K k, q)."""
        ...

    def forget(self) -> None:
        """The equations have changed. Not collective."""
        ...


@dataclass
class Discrete(Term):
    """The residual of a simulation, ½ weight ‖F(u)‖² over all its equations.

    It has one sample, of which every rank has the rows that are its own.
    """

    equations: DiscreteEquations

    def __post_init__(self) -> None:
        self.name = self.name or "equations"
        super().__post_init__()
        self.place = "points"

    def residual(self, known: dict[str, object]) -> Rows:
        raise ProblemError(f"term {self.label!r}: the equations of a simulation are evaluated at its nodes alone")

    def prepare(self, sample: int) -> None:
        """Make the equations those of a sample. Not collective."""

    def rows_at(self, values: Tensor, sample: int = 0) -> Tensor:
        """F(u): (K, k) -> (rows,), differentiable. Collective, and its derivative is, too."""
        return _Evaluation.apply(values, self, sample)  # pyright: ignore[reportReturnType]


@dataclass
class DiscreteOperator(Discrete):
    """The residual of a simulation for each of N inputs, at the field that an operator maps it to: the mean of ½ ‖F‖².

    Parameters
    ----------
    inputs : (N, s)         the same on all ranks
    set_inputs : callable   makes the equations those of one input (s,)
    """

    inputs: Array
    set_inputs: Callable[[Array], object]

    def rows_of_all(self, values: Tensor) -> Tensor:
        """F(u_i; a_i) of all samples: (N, K, 1) -> (N, rows), as :meth:`rows_at`. Collective."""
        return torch.stack([self.rows_at(one, sample) for sample, one in enumerate(values)])

    def prepare(self, sample: int) -> None:
        self.set_inputs(self.inputs[sample])
        self.equations.forget()


class _Evaluation(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, term: Discrete, sample: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.term, ctx.sample, ctx.values = term, sample, on_host(values.detach())
        term.prepare(sample)
        return on_device(term.equations.residual(ctx.values), values.device)

    @staticmethod
    def backward(ctx, cotangent: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.term.prepare(ctx.sample)
        gradient = ctx.term.equations.transpose_times(ctx.values, on_host(cotangent)[:, None])
        return on_device(gradient.reshape(ctx.values.shape), cotangent.device), None, None
