"""The Jacobian of operator data: of N · K rows, from the Jacobians of N branch and K trunk outputs alone.

With the outputs B (N, p) of the branch and the functions T (K, p) of the trunk, r = w (B Tᵀ − s) row by row and

    δr = w (δB Tᵀ + B δTᵀ),

so that a product with J or Jᵀ is one with the Jacobian of each network and two products of matrices, and a product with
JᵀJ needs p × p matrices alone:

    ‖δr‖² = ‖w δB Rᵀ‖² + 2 ⟨w² (δB Tᵀ), B δTᵀ⟩ + ‖δT Sᵀ‖²,  RᵀR = TᵀT,  SᵀS = Bᵀ w² B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import torch
from torch import Tensor

from pescitrain.evaluation.chunks import OperatorChunk, TermSamples
from pescitrain.evaluation.jacobian import ChunkJacobian, FactoredJacobian, KroneckerFactor
from pescitrain.evaluation.residuals import Residuals
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.tape import Recorder
from pescitrain.problem.operator import BRANCH, TRUNK, basis_functions

Values = dict[str, Tensor]

PIECE = 1 << 24
"""Numbers of a matrix that is made at a time."""


class OperatorJacobian(ChunkJacobian):
    """J at the θ that the modules have now; the rows of a sample are those of its locations.

    Cost of J v or Jᵀ w: a sweep of each network over its own points, and 4 N K p flops; of JᵀJ v: two sweeps of each
    and 8 (N + K) p² flops.
    """

    def __init__(
        self, residuals: Residuals, samples: TermSamples, chunk: OperatorChunk, parameters: Parameters
    ) -> None:
        self.rows, self.entries = chunk.samples * samples.rows, parameters.entries
        self._residuals, self._samples, self._chunk, self._parameters = residuals, samples, chunk, parameters
        self._theta = parameters.current().copy()
        values = {entry.name: entry.parameter.detach().clone() for entry in parameters.entries}
        frozen = dict(parameters.frozen())
        self._branch = _Outputs(self._function(BRANCH, chunk.x), BRANCH, values, frozen)
        self._trunk = _Outputs(self._function(TRUNK, chunk.locations), TRUNK, values, frozen)
        self._weigh()

    def _weigh(self) -> None:
        """What follows from the samples, their weights and the outputs of both networks."""
        self._weights = self._chunk.scale.unsqueeze(1)
        self._weighted = self._weights * self._branch.value
        self._trunk_gram = self._trunk.value.t() @ self._trunk.value
        self._branch_gram = self._weighted.t() @ self._weighted
        self._rows_of_outputs: dict[str, FactoredJacobian] = {}
        self._rows_in_norm: dict[str, FactoredJacobian] = {}

    def residual(self) -> Tensor:
        """The rows (N, K) at this θ, from the outputs that are known here."""
        assert self._chunk.data is not None
        return self.outputs() - self._weights * self._chunk.data

    def outputs(self) -> Tensor:
        """w B Tᵀ (N, K)."""
        return self._weighted @ self._trunk.value.t()

    def _function(self, name: str, x: Tensor) -> Callable[[Values], Tensor]:
        network, factor = self._residuals.surrogate.networks[name], self._chunk.basis_factor

        def function(values: Values) -> Tensor:
            outputs = torch.func.functional_call(network, values, (x,))
            return outputs if name == BRANCH else basis_functions(network, outputs, factor)

        return function

    def _changes(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """w δB (N, p) and δT (K, p)."""
        change = {e.name: direction[e.start : e.stop].view(e.parameter.shape) for e in self._parameters.entries}
        return self._weights * self._branch.times(change), self._trunk.times(change)

    def _add_gradients(self, of_branch: Tensor, of_trunk: Tensor, out: Tensor) -> None:
        """Back from cotangents of w B and T."""
        gradients = self._branch.transpose_times(self._weights * of_branch) | self._trunk.transpose_times(of_trunk)
        for entry in self._parameters.entries:
            if entry.name in gradients:
                out[entry.start : entry.stop] += gradients[entry.name].reshape(-1)

    def times(self, direction: Tensor) -> Tensor:
        of_branch, of_trunk = self._changes(direction)
        return (of_branch @ self._trunk.value.t()).addmm_(self._weighted, of_trunk.t()).view(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        rows = cotangent.view(self._chunk.samples, -1)
        self._add_gradients(rows @ self._trunk.value, rows.t() @ self._weighted, out)

    def add_gauss_newton_times(self, direction: Tensor, out: Tensor) -> None:
        branch, trunk = self._weighted, self._trunk.value
        of_branch, of_trunk = self._changes(direction)
        self._add_gradients(
            of_branch @ self._trunk_gram + branch @ (of_trunk.t() @ trunk),
            trunk @ (of_branch.t() @ branch) + of_trunk @ self._branch_gram,
            out,
        )

    def add_gauss_newton_products(self, directions: Tensor, out: Tensor) -> None:
        for direction, total in zip(directions.t(), out.t(), strict=True):
            self.add_gauss_newton_times(direction, total)

    def gram_diagonal(self) -> Tensor:
        return self._in_norm(BRANCH).gram_diagonal() + self._in_norm(TRUNK).gram_diagonal()

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        parts = []
        for entry in entries:
            if entry.name.startswith(f"{BRANCH}."):
                part = self._of_outputs(BRANCH, [entry]) @ self._trunk.value.t()
            else:
                part = self._branch.value @ self._of_outputs(TRUNK, [entry]).mT
            parts.append((self._weights * part).flatten(1))
        return torch.cat(parts)

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        """In all (N + K) p columns in place of N K.

        T = Q R splits δr into the part in the range of Q, a matrix of (N, p), and B times the part of δTᵀ that is
        orthogonal to it, which has the norm of a matrix of (K, p).
        """
        of_branch, of_trunk = _split(entries)
        orthonormal, triangle = torch.linalg.qr(self._trunk.value)  # (K, r), (r, p)
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

    def _in_norm(self, name: str) -> FactoredJacobian:
        """∂(w B Rᵀ)/∂θ or ∂(T Sᵀ)/∂θ: the change of one network alone has the norm that it has in δr."""
        if name not in self._rows_in_norm:
            of_other, weights = (self._trunk.value, self._weights) if name == BRANCH else (self._weighted, 1.0)
            root = torch.linalg.qr(of_other, mode="r")[1]
            self._rows_in_norm[name] = self._sweep(name, lambda outputs: weights * (outputs @ root.t()))
        return self._rows_in_norm[name]

    def _sweep(self, name: str, rows_of: Callable[[Tensor], Tensor] = lambda outputs: outputs) -> FactoredJacobian:
        """The factors of a network at the θ of this linearization, made where a matrix is asked for."""
        now = self._parameters.current().copy()
        self._parameters.put(self._theta)
        try:
            with torch.enable_grad():
                recorder = Recorder()
                outputs = self._residuals.operator_outputs(self._samples, self._chunk, name, recorder)
                return FactoredJacobian(rows_of(outputs), recorder, 1, self._parameters)
        finally:
            self._parameters.put(now)

    def subset(self, samples: Tensor, scale: float) -> OperatorJacobian:
        chunk = self._chunk.subset(samples, scale, 1)
        part = copy(self)
        part._chunk, part.rows = chunk, len(samples) * self._samples.rows
        part._branch = self._branch.at(part._function(BRANCH, chunk.x))
        part._weigh()
        part._rows_of_outputs = {name: rows for name, rows in self._rows_of_outputs.items() if name == TRUNK}
        return part

    def kronecker_factors(self) -> list[KroneckerFactor]:
        """Of each network in the norm that its outputs have in δr; exact for the output layer of the branch."""
        of_branch = self._in_norm(BRANCH).kronecker_factors(self._chunk.scale.square())
        return of_branch + self._in_norm(TRUNK).kronecker_factors()


def _split(entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
    """Those of the branch, which come first, and those of the trunk."""
    of_branch = [entry for entry in entries if entry.name.startswith(f"{BRANCH}.")]
    of_trunk = [entry for entry in entries if not entry.name.startswith(f"{BRANCH}.")]
    starts = [entry.start for entry in (*of_branch, *of_trunk)]
    assert starts == sorted(starts)  # the order of θ
    return of_branch, of_trunk


class _Outputs:
    """The outputs (N, p) of one network as a function of the parameters that are trained, linearized.

    Both products are sweeps through recorded graphs, in which no activation is evaluated again: Jᵀ w by reverse mode,
    and since Jᵀ w is linear in w, J v by reverse mode through that.
    """

    def __init__(self, function: Callable[[Values], Tensor], name: str, values: Values, frozen: Values) -> None:
        prefix = f"{name}."

        def own(whole: Values) -> Values:
            return {key.removeprefix(prefix): value for key, value in whole.items() if key.startswith(prefix)}

        self._prefix, self._own, self._values, self._frozen = prefix, own, own(values), own(frozen)
        self._linearize(function)

    def _linearize(self, function: Callable[[Values], Tensor]) -> None:
        with torch.enable_grad():
            leaves = {key: value.detach().requires_grad_() for key, value in self._values.items()}
            self._leaves = list(leaves.values())
            self._outputs = function({**self._frozen, **leaves})
            self.value = self._outputs.detach()
            if self._leaves:
                self._cotangent = torch.zeros_like(self.value).requires_grad_()
                self._pulled_back = torch.autograd.grad(
                    self._outputs, self._leaves, self._cotangent, create_graph=True, materialize_grads=True
                )

    def at(self, function: Callable[[Values], Tensor]) -> _Outputs:
        """The same parameters, other points."""
        other = copy(self)
        other._linearize(function)
        return other

    def times(self, change: Values) -> Tensor:
        """(N, p) from a change of parameters by their names in θ."""
        if not self._leaves:
            return torch.zeros_like(self.value)
        own = self._own(change)
        directions = [own[key] for key in self._values]
        (outputs,) = torch.autograd.grad(self._pulled_back, self._cotangent, directions, retain_graph=True)
        return outputs

    def transpose_times(self, cotangent: Tensor) -> Values:
        """By names in θ, from (N, p)."""
        if not self._leaves:
            return {}
        gradients = torch.autograd.grad(
            self._outputs, self._leaves, cotangent, retain_graph=True, materialize_grads=True
        )
        return {f"{self._prefix}{key}": value for key, value in zip(self._values, gradients, strict=True)}


def _pieces(count: int, numbers: int) -> Iterator[slice]:
    """0 … count in parts, each of which makes about :data:`PIECE` numbers at ``numbers`` an index."""
    pieces = max(1, min(count, -(-count * numbers // PIECE)))
    for piece in range(pieces):
        yield slice(count * piece // pieces, count * (piece + 1) // pieces)
