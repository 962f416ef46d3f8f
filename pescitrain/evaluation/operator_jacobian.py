"""The Jacobian of operator data: of N · K rows, from the Jacobians of N branch and K trunk outputs alone.

With the outputs B (N, p) of the branch and the functions T (K, p) of the trunk, r = w (B Tᵀ − s) row by row and

    δr = w (δB Tᵀ + B δTᵀ),

so that a product with J or Jᵀ is one with the Jacobian of each network and two products of matrices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import torch
from torch import Tensor

from pescitrain.evaluation.jacobian import FactoredJacobian
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.samples import OperatorChunk, TermSamples
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.tape import Recorder
from pescitrain.problem.operator import BRANCH, TRUNK, basis_functions

Values = dict[str, Tensor]

PIECE = 1 << 24
"""Numbers of a matrix that is made at a time."""


class OperatorJacobian:
    """J at the θ that the modules have now; the rows of a sample are those of its locations.

    Cost of J v or Jᵀ w: two or three sweeps of each network over its own points, and 4 N K p flops.
    """

    def __init__(
        self, residuals: Residuals, samples: TermSamples, chunk: OperatorChunk, parameters: Parameters
    ) -> None:
        self.rows = chunk.samples * samples.rows
        self._residuals, self._samples, self._chunk, self._parameters = residuals, samples, chunk, parameters
        self._theta = parameters.current().copy()
        values = {entry.name: entry.parameter.detach().clone() for entry in parameters.entries}
        frozen = dict(parameters.frozen())
        self._branch = _Outputs(self._function(BRANCH, chunk.x), BRANCH, values, frozen)
        self._trunk = _Outputs(self._function(TRUNK, chunk.locations), TRUNK, values, frozen)
        self._weights = chunk.scale.unsqueeze(1)
        self._rows_of_outputs: dict[str, FactoredJacobian] = {}

    def residual(self) -> Tensor:
        """The rows (N, K) at this θ, from the outputs that are known here."""
        assert self._chunk.data is not None
        return self._weights * (self._branch.value @ self._trunk.value.t() - self._chunk.data)

    def _function(self, name: str, x: Tensor) -> Callable[[Values], Tensor]:
        network, factor = self._residuals.surrogate.networks[name], self._chunk.basis_factor

        def function(values: Values) -> Tensor:
            outputs = torch.func.functional_call(network, values, (x,))
            return outputs if name == BRANCH else basis_functions(network, outputs, factor)

        return function

    def times(self, direction: Tensor) -> Tensor:
        change = {e.name: direction[e.start : e.stop].view(e.parameter.shape) for e in self._parameters.entries}
        rows = self._branch.times(change) @ self._trunk.value.t() + self._branch.value @ self._trunk.times(change).t()
        return (self._weights * rows).view(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        weighted = self._weights * cotangent.view(self._chunk.samples, -1)
        gradients = self._branch.transpose_times(weighted @ self._trunk.value)
        gradients |= self._trunk.transpose_times(weighted.t() @ self._branch.value)
        for entry in self._parameters.entries:
            if entry.name in gradients:
                out[entry.start : entry.stop] += gradients[entry.name].reshape(-1)

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        parts = []
        for entry in entries:
            if entry.name.startswith(f"{BRANCH}."):
                part = self._of_outputs(BRANCH, [entry]) @ self._trunk.value.t()
            else:
                part = self._branch.value @ self._of_outputs(TRUNK, [entry]).mT
            parts.append((self._weights * part).flatten(1))
        return torch.cat(parts)

    def gram_factors(self, entries: Sequence[Entry]) -> Iterator[Tensor]:
        """In all (N + K) p columns in place of N K.

        T = Q R splits δr into the part in the range of Q, a matrix of (N, p), and B times the part of δTᵀ that is
        orthogonal to it, which has the norm of a matrix of (K, p).
        """
        of_branch = [entry for entry in entries if entry.name.startswith(f"{BRANCH}.")]
        of_trunk = [entry for entry in entries if not entry.name.startswith(f"{BRANCH}.")]
        orthonormal, triangle = torch.linalg.qr(self._trunk.value)  # (K, r), (r, p)
        columns = [(entry.start, entry) for entry in (*of_branch, *of_trunk)]
        assert columns == sorted(columns, key=lambda pair: pair[0])  # the branch comes first in θ
        size = sum(entry.stop - entry.start for entry in entries)
        inside = self._of_outputs(TRUNK, of_trunk) if of_trunk else None
        if inside is not None:
            inside = torch.einsum("ekp,kr->erp", inside, orthonormal)
        rank = len(triangle)
        for few in _pieces(self._chunk.samples, size * rank):
            parts = []
            if of_branch:
                parts.append(
                    (self._weights[few] * (self._of_outputs(BRANCH, of_branch, few) @ triangle.t())).flatten(1)
                )
            if inside is not None:
                weighted = self._weights[few] * self._branch.value[few]
                parts.append(torch.einsum("np,erp->enr", weighted, inside).flatten(1))
            yield torch.cat(parts)
        if inside is None:
            return
        root = torch.linalg.qr(self._weights * self._branch.value, mode="r")[1].t()  # (p, r')
        for few in _pieces(len(orthonormal), size * root.shape[1]):
            outside = self._of_outputs(TRUNK, of_trunk, few) - torch.einsum("kr,erp->ekp", orthonormal[few], inside)
            part = (outside @ root).flatten(1)
            yield torch.cat((part.new_zeros(size - len(part), part.shape[1]), part))

    def _of_outputs(self, name: str, entries: Sequence[Entry], few: slice = slice(None)) -> Tensor:
        """∂(outputs)/∂(entries): (Σ sizes, N or K, p)."""
        if name not in self._rows_of_outputs:
            self._rows_of_outputs[name] = self._sweep(name)
        jacobian = self._rows_of_outputs[name]
        if few != slice(None):
            jacobian = jacobian.subset(torch.arange(*few.indices(jacobian.samples), device=self._weights.device), 1.0)
        return jacobian.transposed(entries).view(-1, jacobian.samples, jacobian.count)

    def _sweep(self, name: str) -> FactoredJacobian:
        """The factors of a network at the θ of this linearization, made where a matrix is asked for."""
        now = self._parameters.current().copy()
        self._parameters.put(self._theta)
        try:
            with torch.enable_grad():
                recorder = Recorder()
                rows = self._residuals.operator_outputs(self._samples, self._chunk, name, recorder)
                return FactoredJacobian(rows, recorder, 1, self._parameters)
        finally:
            self._parameters.put(now)

    def subset(self, samples: Tensor, scale: float) -> OperatorJacobian:
        chunk = self._chunk.subset(samples, scale, 1)
        part = copy(self)
        part._chunk, part.rows = chunk, len(samples) * self._samples.rows
        part._weights = chunk.scale.unsqueeze(1)
        part._branch = self._branch.at(part._function(BRANCH, chunk.x))
        part._rows_of_outputs = {name: rows for name, rows in self._rows_of_outputs.items() if name == TRUNK}
        return part

    def kronecker_factors(self) -> None:
        return None


class _Outputs:
    """The outputs (N, p) of one network as a function of the parameters that are trained, linearized."""

    def __init__(self, function: Callable[[Values], Tensor], name: str, values: Values, frozen: Values) -> None:
        prefix = f"{name}."

        def own(whole: Values) -> Values:
            return {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}

        self._prefix, self._own, self._values, self._frozen = prefix, own, own(values), own(frozen)
        self._linearize(function)

    def _linearize(self, function: Callable[[Values], Tensor]) -> None:
        self._function = lambda values: function({**self._frozen, **values})
        if self._values:
            value, self._pull_back, *_ = torch.func.vjp(self._function, self._values)
        else:
            value = self._function({})
        self.value = value.detach()

    def at(self, function: Callable[[Values], Tensor]) -> _Outputs:
        """The same parameters, other points."""
        other = copy(self)
        other._linearize(function)
        return other

    def times(self, change: Values) -> Tensor:
        """(N, p) from a change of parameters by their names in θ."""
        if not self._values:
            return torch.zeros_like(self.value)
        return torch.func.jvp(self._function, (self._values,), (self._own(change),))[1]

    def transpose_times(self, cotangent: Tensor) -> Values:
        """By names in θ, from (N, p)."""
        if not self._values:
            return {}
        (gradients,) = self._pull_back(cotangent)
        return {f"{self._prefix}{key}": value for key, value in gradients.items()}


def _pieces(count: int, numbers: int) -> Iterator[slice]:
    """0 … count in parts, each of which makes about :data:`PIECE` numbers at ``numbers`` an index."""
    pieces = max(1, min(count, -(-count * numbers // PIECE)))
    for piece in range(pieces):
        yield slice(count * piece // pieces, count * (piece + 1) // pieces)
