"""The Jacobian of one chunk of residual rows, in two forms with one interface.

:class:`FactoredJacobian` keeps, for every affine layer, its inputs A and the cotangents G of its pre-activations, so
that the row of sample i is Σ_c G[c, i] ⊗ A[c, i]: a product with J is one matrix product per layer, without autograd.
:class:`FunctionalJacobian` differentiates the residual of any module by `torch.func`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.samples import Chunk, TermSamples
from pescitrain.networks.parameters import Entry, FlatParameters
from pescitrain.networks.tape import Recorder


class ChunkJacobian(Protocol):
    """∂(rows)/∂θ of one chunk, with N·k rows (sample-major) and n columns; local to this rank."""

    rows: int

    def times(self, direction: Tensor) -> Tensor:
        """J v: (n,) -> (rows,)."""
        ...

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        """out += Jᵀ w: (rows,), (n,)."""
        ...

    def dense(self, entries: Sequence[Entry]) -> Tensor:
        """The columns of these parameters, one after the other: (rows, Σ sizes)."""
        ...

    def subset(self, samples: Tensor, scale: float) -> ChunkJacobian:
        """The rows of some samples (indices in this chunk), times a factor."""
        ...

    def kronecker_factors(self) -> list[KroneckerFactor] | None:
        """Second moments of every affine layer in the sweep; None where they are not known."""
        ...


@dataclass(frozen=True)
class KroneckerFactor:
    """Second moments of the inputs and of the cotangents of one affine layer, summed over samples and components.

    With one sample and one component, its block of JᵀJ is ``cotangents`` ⊗ ``inputs``, the weights row by row and the
    bias as a last column; in general ``cotangents`` ⊗ ``inputs`` / ``count`` approximates the block (KFAC-expand:
    Eschenhagen et al., arXiv:2311.00636, for the components of a jet: Dangel et al., arXiv:2405.15603).
    """

    weight: Entry
    bias: Entry | None
    inputs: Tensor  # Σ a aᵀ (in, in), or (in + 1, in + 1) with a bias
    cotangents: Tensor  # Σ g gᵀ (out, out)
    count: Tensor  # (1,): samples × components

    @classmethod
    def zero(cls, weight: Entry, bias: Entry | None) -> KroneckerFactor:
        """Of no samples."""
        rows, columns = weight.parameter.shape
        size = columns + (bias is not None)
        inputs, cotangents, count = (torch.zeros(*s, dtype=torch.float64) for s in ((size, size), (rows, rows), (1,)))
        return cls(weight, bias, inputs, cotangents, count)

    def plus(self, other: KroneckerFactor) -> KroneckerFactor:
        """Of the samples of both."""
        return KroneckerFactor(
            self.weight,
            self.bias,
            self.inputs + other.inputs,
            self.cotangents + other.cotangents,
            self.count + other.count,
        )


@dataclass(frozen=True)
class _AffineFactor:
    weight: Entry
    bias: Entry | None
    inputs: Tensor  # A: (C', N, in), C' = components × sides
    cotangents: Tensor  # G: (k, C', N, out)


@dataclass(frozen=True)
class _SmallFactor:
    entry: Entry
    derivative: Tensor  # (k, N, size)


class FactoredJacobian:
    """J from the factors of the affine layers, plus dense columns for the few other parameters.

    Memory: (in + k · out) · C' · N doubles a layer. Cost of J v or Jᵀ w: 2 k C' N · in · out flops a layer.
    """

    def __init__(self, rows: Tensor, recorder: Recorder, sides: int, parameters: FlatParameters) -> None:
        """``rows`` (N, k): the residual of a sweep that ``recorder`` has recorded; its graph is consumed."""
        samples, count = rows.shape
        self.samples, self.count, self.sides = samples, count, sides
        self.rows = samples * count
        leaves = recorder.leaves()
        cotangents = []
        for k in range(count):
            keep = k < count - 1
            grads = torch.autograd.grad(rows[:, k].sum(), leaves, retain_graph=keep, allow_unused=True)
            cotangents.append([torch.zeros_like(z) if g is None else g for g, z in zip(grads, leaves, strict=True)])
        self._affine: list[_AffineFactor] = []
        for position, record in enumerate(recorder.affine_records):
            stacked = torch.stack([c[position].reshape(-1, samples, c[position].shape[-1]) for c in cotangents])
            inputs = record.inputs.reshape(-1, samples, record.inputs.shape[-1])
            bias = record.layer.bias
            self._affine.append(
                _AffineFactor(
                    parameters.entry_of[id(record.layer.weight)],
                    None if bias is None else parameters.entry_of[id(bias)],
                    inputs,
                    stacked,
                )
            )
        self._small: list[_SmallFactor] = []
        offset = len(recorder.affine_records)
        for position, record in enumerate(recorder.parameter_records):
            stacked = torch.stack([c[offset + position] for c in cotangents])  # (k, sides · N, size)
            per_side = stacked.view(count, -1, samples, record.copies.shape[-1]).sum(1)
            self._small.append(_SmallFactor(parameters.entry_of[id(record.parameter)], per_side))

    def times(self, direction: Tensor) -> Tensor:
        out = direction.new_zeros(self.count, self.samples)
        for factor in self._affine:
            shape = factor.weight.parameter.shape
            change = torch.matmul(factor.inputs, direction[_span(factor.weight)].view(shape).t())
            if factor.bias is not None:
                change[: self.sides] += direction[_span(factor.bias)]
            for k in range(self.count):
                out[k] += (factor.cotangents[k] * change).sum(-1).sum(0)
        for small in self._small:
            out += torch.matmul(small.derivative, direction[_span(small.entry)])
        return out.t().reshape(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        by_row = cotangent.view(self.samples, self.count).t().unsqueeze(-1)
        for factor in self._affine:
            weighted = factor.cotangents[0] * by_row[0]
            for k in range(1, self.count):
                weighted.addcmul_(factor.cotangents[k], by_row[k])
            flat, inputs = weighted.reshape(-1, weighted.shape[-1]), factor.inputs.reshape(-1, factor.inputs.shape[-1])
            out[_span(factor.weight)].view(factor.weight.parameter.shape).addmm_(flat.t(), inputs)
            if factor.bias is not None:
                out[_span(factor.bias)] += weighted[: self.sides].sum((0, 1))
        for small in self._small:
            out[_span(small.entry)] += (small.derivative * by_row).sum((0, 1))

    def dense(self, entries: Sequence[Entry]) -> Tensor:
        wanted = {entry.name: column for entry, column in zip(entries, _columns(entries), strict=True)}
        total = sum(entry.stop - entry.start for entry in entries)
        jacobian = torch.zeros(self.samples, self.count, total, dtype=torch.float64)
        for factor in self._affine:
            cotangents = factor.cotangents.permute(2, 0, 3, 1)  # (N, k, out, C')
            if factor.weight.name in wanted:
                inputs = factor.inputs.permute(1, 0, 2)  # (N, C', in)
                flat = cotangents.reshape(self.samples, -1, cotangents.shape[-1])
                block = torch.bmm(flat, inputs).view(self.samples, self.count, -1)
                jacobian[..., wanted[factor.weight.name]] += block
            if factor.bias is not None and factor.bias.name in wanted:
                jacobian[..., wanted[factor.bias.name]] += cotangents[..., : self.sides].sum(-1)
        for small in self._small:
            if small.entry.name in wanted:
                jacobian[..., wanted[small.entry.name]] += small.derivative.transpose(0, 1)
        return jacobian.view(self.rows, total)

    def subset(self, samples: Tensor, scale: float) -> FactoredJacobian:
        part = copy(self)
        part.samples, part.rows = len(samples), len(samples) * self.count
        part._affine = [
            replace(f, inputs=f.inputs[:, samples], cotangents=scale * f.cotangents[:, :, samples])
            for f in self._affine
        ]
        part._small = [replace(f, derivative=scale * f.derivative[:, samples]) for f in self._small]
        return part

    def kronecker_factors(self) -> list[KroneckerFactor]:
        result = []
        for factor in self._affine:
            inputs = factor.inputs
            if factor.bias is not None:
                ones = torch.zeros(*inputs.shape[:2], 1, dtype=inputs.dtype)
                ones[: self.sides] = 1.0
                inputs = torch.cat((inputs, ones), dim=-1)
            count = torch.full((1,), float(inputs.shape[0] * inputs.shape[1]), dtype=torch.float64)
            a, g = inputs.flatten(0, -2), factor.cotangents.flatten(0, -2)
            result.append(KroneckerFactor(factor.weight, factor.bias, a.t() @ a, g.t() @ g, count))
        return result


class FunctionalJacobian:
    """J of any residual by forward and reverse mode of `torch.func`; nothing but θ is stored."""

    def __init__(self, residuals: Residuals, samples: TermSamples, chunk: Chunk, parameters: FlatParameters) -> None:
        self._residuals, self._samples, self._chunk, self._parameters = residuals, samples, chunk, parameters
        self.rows = chunk.samples * samples.rows
        self._values = {entry.name: entry.parameter.detach().clone() for entry in parameters.entries}

    def _rows(self, values: dict[str, Tensor]) -> Tensor:
        return self._residuals.rows_of(self._samples, self._chunk, values)

    def times(self, direction: Tensor) -> Tensor:
        change = {e.name: direction[_span(e)].view(e.parameter.shape) for e in self._parameters.entries}
        return torch.func.jvp(self._rows, (self._values,), (change,))[1].reshape(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        rows, pull_back, *_ = torch.func.vjp(self._rows, self._values)
        (grads,) = pull_back(cotangent.view_as(rows))
        for entry in self._parameters.entries:
            out[_span(entry)] += grads[entry.name].reshape(-1)

    def dense(self, entries: Sequence[Entry]) -> Tensor:
        chunk, sides = self._chunk, self._samples.sides
        chosen = {entry.name: self._values[entry.name] for entry in entries}

        def rows_of_sample(values: dict[str, Tensor], x: Tensor, scale: Tensor, constants: dict[str, Tensor]) -> Tensor:
            normal, data = constants.get("normal"), constants.get("data")
            single = Chunk(
                x,
                scale.view(1),
                normal,
                None if data is None else data.view(1),
                {},
                constants.get("base"),
                constants.get("factor"),
            )
            return self._residuals.rows_of(self._samples, single, self._values | values)[0]

        def by_sample(points: Tensor | None, dim: int) -> Tensor | None:
            """(…, sides · N, …) -> (N, …, sides, …)."""
            if points is None:
                return None
            return points.unflatten(dim, (sides, chunk.samples)).movedim(dim + 1, 0)

        constants = {
            "normal": by_sample(chunk.normal, 0),
            "data": chunk.data,
            "base": by_sample(chunk.base, 1),
            "factor": by_sample(chunk.factor, 1),
        }
        present = {name: value for name, value in constants.items() if value is not None}
        jacobian = torch.func.vmap(torch.func.jacrev(rows_of_sample), in_dims=(None, 0, 0, 0))
        blocks = jacobian(chosen, by_sample(chunk.x, 0), chunk.scale, present)
        return torch.cat([blocks[e.name].reshape(self.rows, -1) for e in entries], dim=1)

    def subset(self, samples: Tensor, scale: float) -> FunctionalJacobian:
        part = copy(self)
        part._chunk = self._chunk.subset(samples, scale, self._samples.sides)
        part.rows = len(samples) * self._samples.rows
        return part

    def kronecker_factors(self) -> None:
        return None


def _span(entry: Entry) -> slice:
    return slice(entry.start, entry.stop)


def _columns(entries: Sequence[Entry]) -> list[slice]:
    columns, position = [], 0
    for entry in entries:
        size = entry.stop - entry.start
        columns.append(slice(position, position + size))
        position += size
    return columns
