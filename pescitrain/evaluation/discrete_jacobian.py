"""The Jacobian of a simulation's equations: F'(u) of the simulation times ∂u/∂θ at its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy

from torch import Tensor

from pescitrain.evaluation.jacobian import FactoredJacobian
from pescitrain.evaluation.samples import Chunk
from pescitrain.networks.device import on_device, on_host
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.tape import Recorder
from pescitrain.problem.discrete import Discrete


class DiscreteJacobian:
    """J of the one sample of a chunk, at the θ that the modules have now; every product with it is collective.

    ``values`` (K, k): the fields at the nodes, from a sweep that ``recorder`` has recorded; its graph is consumed.
    """

    def __init__(
        self, term: Discrete, chunk: Chunk, values: Tensor, recorder: Recorder, parameters: Parameters
    ) -> None:
        self.rows = term.equations.rows
        self._equations, self._scale = term.equations, float(chunk.scale)
        self._at = on_host(values.detach()).copy()
        self._fields = FactoredJacobian(values, recorder, 1, parameters)

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

    def gram_factors(self, entries: Sequence[Entry]) -> Iterator[Tensor]:
        yield self.transposed(entries)

    def subset(self, samples: Tensor, scale: float) -> DiscreteJacobian:
        part = copy(self)
        part._scale = scale * self._scale
        return part

    def kronecker_factors(self) -> None:
        return None
