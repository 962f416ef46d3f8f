"""Residual, objective, gradient and linearization of a problem, over all ranks."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import EvaluationError
from pescitrain.evaluation.arithmetic import Arithmetic
from pescitrain.evaluation.batches import Batches
from pescitrain.evaluation.chunk_linearization import linearize_chunk
from pescitrain.evaluation.chunks import Chunk, TermSamples
from pescitrain.evaluation.counters import Counters
from pescitrain.evaluation.jacobian import ChunkJacobian
from pescitrain.evaluation.linearization import ChunkPlace, Linearization
from pescitrain.evaluation.neighbour_sums import NeighbourSums, agreed
from pescitrain.evaluation.output_layer import OutputLayer
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.samples import samples_at
from pescitrain.networks.device import at_home, on_host
from pescitrain.networks.parameters import Parameters
from pescitrain.networks.tape import Tape
from pescitrain.problem.problem import Problem
from pescitrain.problem.surrogate import Surrogate

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Value:
    """φ at a point, and the part of each term (weight · mean ℓ; of squares ½ weight · mean r²)."""

    objective: float
    terms: Array


@dataclass(frozen=True)
class _Point:
    value: Value
    gradient: Array | None


class _RecentPoints:
    """The last few points that were evaluated: solvers and monitors ask for the same ones again."""

    CAPACITY = 4

    def __init__(self) -> None:
        self._points: dict[bytes, _Point] = {}

    def clear(self) -> None:
        self._points.clear()

    def find(self, key: bytes) -> _Point | None:
        return self._points.get(key)

    def add(self, key: bytes, value: Value, gradient: Array | None) -> None:
        self._points.pop(key, None)  # what is evaluated again is recent again
        self._points[key] = _Point(value, gradient)
        while len(self._points) > self.CAPACITY:
            del self._points[next(iter(self._points))]


class Evaluator:
    """φ(θ) = ½‖r(θ)‖², its gradient and its linearization; θ (n,) is given whole on every rank, or as far as
    its samples see it, where there are ``neighbour_sums``: gradients are then those of the rank's own entries.

    Of terms with another loss than squares, the rows r are such that ∇φ = Jᵀr and JᵀJ is the generalized Gauss–Newton
    matrix; φ is then not ½‖r‖², and :attr:`quadratic` is false.

    Points are distributed over ranks; every evaluation makes one reduction, in which ranks also agree on failure: a
    Python error in the residual of one rank raises :class:`EvaluationError` on all of them. A value that is not finite
    is no error: φ = +inf with a zero gradient, which line searches and trust regions step back from.

    ``cost``: what a pass over all points, a linearization or a product counts as; below 1 for a coarser network.
    ``batches``: where there are any, φ and ∇φ are those of the present batch, which counts by its share.
    """

    def __init__(
        self,
        problem: Problem,
        surrogate: Surrogate,
        parameters: Parameters,
        samples: list[TermSamples],
        comm: MPI.Intracomm,
    ) -> None:
        self.parameters, self.samples, self.comm = parameters, samples, comm
        self.surrogate, self.problem = surrogate, problem
        self.counters, self.cost = Counters(), 1.0
        self.batches: Batches | None = None
        self.neighbour_sums: NeighbourSums | None = None
        self.arithmetic = Arithmetic(parameters.device)
        self.residuals = Residuals(problem, surrogate, parameters.unknowns)
        self._recent = _RecentPoints()

    @property
    def term_names(self) -> list[str]:
        """Names of the terms, in the order of :attr:`Value.terms`."""
        return [samples.term.label for samples in self.samples]

    @property
    def residual_count(self) -> int:
        """m, the number of residual rows over all ranks."""
        return sum(samples.residual_count for samples in self.samples)

    @property
    def quadratic(self) -> bool:
        """Whether φ = ½‖r‖² with J = ∂r/∂θ."""
        return all(samples.term.loss.quadratic for samples in self.samples)

    def objective(self, theta: Array) -> Value:
        """φ(θ). Collective; free where θ is one of the last points that were evaluated."""
        key = self._key(theta)
        known = self._recent.find(key)
        if known is not None:
            return known.value
        self.parameters.put(theta)
        self.counters.objective += self._cost
        value = _value(self._reduced("Objective", len(self.samples), self._add_objective))
        self._recent.add(key, value, None)
        return value

    def objective_gradient(self, theta: Array) -> tuple[Value, Array]:
        """φ(θ) and ∇φ(θ) (n,), on all ranks or of the own entries. Collective; free as :meth:`objective` is."""
        key = self._key(theta)
        known = self._recent.find(key)
        if known is not None and known.gradient is not None:
            return known.value, known.gradient
        self.parameters.put(theta)
        self.counters.gradient += self._cost
        value, gradient = self._summed_gradient()
        finite = np.isfinite(value.objective) and bool(np.isfinite(gradient).all())
        if not (finite if self.neighbour_sums is None else self.comm.allreduce(finite, op=MPI.LAND)):
            value, gradient = Value(np.inf, value.terms), np.zeros_like(gradient)
        self._recent.add(key, value, gradient)
        return value, gradient

    def learn(self, theta: Array, value: Value, gradient: Array) -> None:
        """Take φ and ∇φ = Jᵀr (n,) of a point that a solver has from a linearization. Collective."""
        self._recent.add(self._key(theta), value, gradient)

    def forget(self) -> None:
        """Evaluate anew at the next call: for a host that changed a coefficient of the problem. Not collective."""
        self._recent.clear()
        if self.batches is not None:
            self.batches.forget()

    def residual(self, theta: Array) -> Array:
        """This rank's residual rows (m_local,); φ at this point is known afterwards. Collective."""
        self.parameters.put(theta)
        self.counters.objective += self._cost
        parts: list[Array] = []

        def work(buffer: Array) -> None:
            with torch.no_grad():
                for term, samples, chunk in self._chunks():
                    rows, objective = self.residuals.rows_and_objective(samples, chunk, Tape())
                    buffer[term] += float(objective)
                    parts.append(on_host(rows.reshape(-1)))

        value = _value(self._reduced("Residual", len(self.samples), work))
        key = self._key(theta)
        if self._recent.find(key) is None:
            self._recent.add(key, value, None)
        return np.concatenate(parts) if parts else np.zeros(0)

    def residual_at(self, theta: Array, samples: TermSamples, x: Array) -> Array:
        """The residual of an interior term, unscaled, at other points of this rank: (N, d) -> (N, k). Collective."""
        self.parameters.put(theta)
        rows = np.zeros((len(x), samples.rows))

        def work(buffer: Array) -> None:
            rows[:] = self.local_residual_at(samples, x)

        self._reduced("Residual", 0, work)
        return rows

    def local_residual_at(self, samples: TermSamples, x: Array) -> Array:
        """As :meth:`residual_at` for the parameters in the modules, on this rank alone. Not collective."""
        elsewhere = samples_at(samples, self.surrogate, x)
        rows, position = np.zeros((len(x), samples.rows)), 0  # small arrays of each chunk would fragment the heap
        with torch.no_grad(), at_home(self.parameters.device):
            for chunk in elsewhere.chunks:
                rows[position : position + chunk.samples] = on_host(self.residuals.rows(elsewhere, chunk, Tape()))
                position += chunk.samples
        return rows

    def linearize(self, theta: Array) -> Linearization:
        """r and J at θ, to be applied by products; φ at this point is known afterwards. Collective."""
        self.parameters.put(theta)
        self.counters.linearization += self._cost
        jacobians: list[ChunkJacobian] = []
        residuals: list[Array] = []

        def work(buffer: Array) -> None:
            for term, samples, chunk in self._chunks():
                jacobian, rows, objective = linearize_chunk(self.residuals, samples, chunk, self.parameters)
                jacobians.append(jacobian)
                residuals.append(on_host(rows.reshape(-1)))
                buffer[term] += float(objective.detach())

        value = _value(self._reduced("Linearize", len(self.samples), work))
        key = self._key(theta)
        if self._recent.find(key) is None:
            self._recent.add(key, value, None)
        residual = np.concatenate(residuals) if residuals else np.zeros(0)
        return Linearization(
            self.comm,
            self.parameters,
            theta.copy(),
            jacobians,
            residual,
            self.counters,
            self.arithmetic,
            self._places(),
            self._cost,
            self.neighbour_sums,
        )

    def project(self, theta: Array) -> Array:
        """θ with the parameters in which the residual is linear solved for, the others kept (variable projection).

        Those are the output layer of the branch of an operator; elsewhere θ is returned as it is. Collective.
        """
        layer = OutputLayer.find(self.residuals, self.samples, self.parameters)
        if layer is None:
            return theta
        self.parameters.put(theta)
        self.counters.objective += self._cost
        return layer.solve(self._reduced("OutputLayer", layer.numbers, layer.add), theta)

    def _places(self) -> list[ChunkPlace]:
        """Where the chunks of this rank lie among the samples of all."""
        places = []
        for term, samples in enumerate(self.samples):
            total = samples.count
            first = samples.begin(self.comm.rank, self.comm.size)
            for chunk in samples.chunks:
                places.append(ChunkPlace(term, first, chunk.samples, total))
                first += chunk.samples
        return places

    def _key(self, theta: Array) -> bytes:
        """Of a point among the recent ones, the same on all ranks. Collective with neighbour sums."""
        near, batch = self.neighbour_sums, None if self.batches is None else self.batches.shown
        own = np.ascontiguousarray(theta if near is None else theta[near.own])
        known = hashlib.blake2b(own, digest_size=16)
        known.update(repr(batch).encode())
        if near is None:
            return known.digest()
        known.update(repr(near.own).encode())  # or equal parts of two ranks cancel out
        return agreed(self.comm, known.digest())

    @property
    def _cost(self) -> float:
        return self.cost if self.batches is None else self.cost * self.batches.share

    def _chunks(self) -> list[tuple[int, TermSamples, Chunk]]:
        if self.batches is not None:
            return self.batches.chunks()
        return [(term, samples, chunk) for term, samples in enumerate(self.samples) for chunk in samples.chunks]

    def _add_objective(self, buffer: Array) -> None:
        with torch.no_grad():
            for term, samples, chunk in self._chunks():
                buffer[term] += float(self.residuals.rows_and_objective(samples, chunk, Tape())[1])

    def _add_objective_gradient(self, buffer: Array) -> None:
        self.parameters.zero_gradient()
        for term, samples, chunk in self._chunks():
            objective = self.residuals.rows_and_objective(samples, chunk, Tape())[1]
            if objective.requires_grad:  # not so where a term depends on frozen parameters alone
                objective.backward()
            buffer[term] += float(objective.detach())
        buffer[len(self.samples) :] = self.parameters.collected_gradient()

    def _summed_gradient(self) -> tuple[Value, Array]:
        """φ and ∇φ, over all ranks. Collective."""
        terms, near = len(self.samples), self.neighbour_sums
        if near is None:
            buffer = self._reduced("Gradient", terms + self.parameters.size, self._add_objective_gradient)
            return _value(buffer[:terms]), buffer[terms:]
        buffer = np.zeros(terms + self.parameters.size)

        def work(objective: Array) -> None:
            self._add_objective_gradient(buffer)
            objective[:] = buffer[:terms]

        value, gradient = _value(self._reduced("Gradient", terms, work)), buffer[terms:]
        near.sum(gradient)
        return value, gradient

    def _reduced(self, event: str, size: int, work: Callable[[Array], None]) -> Array:
        """Sum over ranks what ``work`` adds to a buffer, timed as ``event``; agree on failure in the same reduction."""
        buffer = np.zeros(size + 1)
        failure: Exception | None = None
        try:
            with self.arithmetic.event(event):
                work(buffer[:size])
        except Exception as error:  # any error of a user's residual: agreed on below, raised on all ranks
            failure = error
            buffer[size] = 1.0
        self.comm.Allreduce(MPI.IN_PLACE, buffer)
        if buffer[size] > 0.0:
            raise_together(self.comm, failure)
        return buffer[:size]


def raise_together(comm: MPI.Intracomm, failure: Exception | None) -> None:
    """Raise one :class:`EvaluationError` on all ranks; the text comes from the lowest failing rank. Collective."""
    cause: BaseException | None = failure
    while cause is not None and cause.__cause__ is not None:  # PETSc wraps what a callback of its raises
        cause = cause.__cause__
    text = None if cause is None else f"{type(cause).__name__}: {cause} ({_where(cause)})"
    texts = comm.allgather(text)
    rank = next(r for r, t in enumerate(texts) if t is not None)
    raise EvaluationError(f"the residual failed on rank {rank}: {texts[rank]}") from failure


def _where(error: BaseException) -> str:
    """File and line where an error was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown place"


def _value(terms: Array) -> Value:
    total = float(terms.sum())
    return Value(total if np.isfinite(total) else np.inf, terms.copy())
