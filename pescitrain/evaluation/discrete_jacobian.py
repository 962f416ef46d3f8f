"""The Jacobian of a simulation's equations: F'(u) of the simulation times ∂u/∂θ at its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

import numpy as np
import torch
from torch import Tensor

from pescitrain.evaluation.chunks import Chunk, OperatorChunk
from pescitrain.evaluation.jacobian import ChunkJacobian
from pescitrain.evaluation.operator_jacobian import OperatorJacobian
from pescitrain.networks.device import on_device, on_host
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.problem.discrete import Discrete, DiscreteOperator
from pescitrain.problem.operator import OperatorSurrogate
from pescitrain.problem.surrogate import Surrogate


class DiscreteJacobian(ChunkJacobian):
    """J of the one sample of a chunk, at the θ that the modules have now; every product with it is collective.

    ``values`` (K, k): the fields at the nodes; ``fields``: their Jacobian.
    """

    def __init__(
        self, term: Discrete, chunk: Chunk, values: Tensor, fields: ChunkJacobian, parameters: Parameters
    ) -> None:
        self.rows, self.entries = term.equations.rows, parameters.entries
        self._equations, self._scale = term.equations, float(chunk.scale)
        self._at = on_host(values.detach()).copy()
        self._fields = fields

    def _derivative(self, changes: Tensor) -> Tensor:
        """scale F'(u) V: (K k, q) -> (rows, q)."""
        products = self._equations.times(self._at, on_host(changes))
        return self._scale * on_device(products, changes.device)

    def times(self, direction: Tensor) -> Tensor:
        return self._derivative(self._fields.times(direction)[:, None])[:, 0]

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        at_nodes = self._equations.transpose_times(self._at, on_host(self._scale * cotangent)[:, None])
        self._fields.add_transpose_times(on_device(at_nodes[:, 0].copy(), out.device), out)

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        return self._derivative(self._fields.transposed(entries).t()).t().contiguous()

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        yield self.transposed(entries)

    def subset(self, samples: Tensor, scale: float) -> DiscreteJacobian:
        part = copy(self)
        part._scale = scale * self._scale
        return part

    def kronecker_factors(self) -> None:
        return None


def of_values(chunk: OperatorChunk, surrogate: Surrogate) -> OperatorChunk:
    """The same inputs and locations, with rows that are the values of the operator there."""
    assert isinstance(surrogate, OperatorSurrogate)
    ones = torch.full_like(chunk.scale, surrogate.scale)
    return OperatorChunk(**{**vars(chunk), "scale": ones, "data": None})


class DiscreteOperatorJacobian(ChunkJacobian):
    """J of N samples, each with equations of its own; every product with it is collective.

    Parameters
    ----------
    values : (N, K)                     what the operator gives at the nodes
    operator : OperatorJacobian         their derivative
    """

    def __init__(
        self, term: DiscreteOperator, chunk: OperatorChunk, values: Tensor, operator: OperatorJacobian
    ) -> None:
        self.rows, self.entries = chunk.samples * term.equations.rows, operator.entries
        self._term, self._operator, self._scale = term, operator, chunk.scale
        self._at = on_host(values)[:, :, None].copy()
        self._samples = list(range(chunk.samples))

    def _derivative(self, place: int, changes: Tensor) -> Tensor:
        """scale F'(u) V of one sample: (K, q) -> (rows, q)."""
        sample = self._samples[place]
        self._term.prepare(sample)
        products = self._term.equations.times(self._at[sample], on_host(changes))
        return self._scale[place] * on_device(products, changes.device)

    def times(self, direction: Tensor) -> Tensor:
        changes = self._operator.times(direction).view(len(self._samples), -1, 1)
        return torch.cat([self._derivative(place, change)[:, 0] for place, change in enumerate(changes)])

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        at_nodes = []
        for place, one in enumerate(cotangent.view(len(self._samples), -1)):
            sample = self._samples[place]
            self._term.prepare(sample)
            weighted = on_host(self._scale[place] * one)[:, None]
            at_nodes.append(self._term.equations.transpose_times(self._at[sample], weighted)[:, 0])
        self._operator.add_transpose_times(on_device(np.concatenate(at_nodes), out.device), out)

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        return torch.cat(list(self.gram_factors(entries)), dim=1)

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        for place in range(len(self._samples)):
            alone = self._operator.subset(torch.tensor([place], device=self._scale.device), 1.0)
            yield self._derivative(place, alone.transposed(entries).t()).t().contiguous()

    def subset(self, samples: Tensor, scale: float) -> DiscreteOperatorJacobian:
        part = copy(self)
        part._operator, part._scale = self._operator.subset(samples, 1.0), scale * self._scale[samples]
        part._samples = [self._samples[place] for place in samples.tolist()]
        part.rows = len(part._samples) * self._term.equations.rows
        return part

    def kronecker_factors(self) -> None:
        return None
