"""The Jacobian of one chunk of residual rows, in two forms with one interface.

:class:`FactoredJacobian` keeps, for every affine layer, its inputs A and the cotangents G of its pre-activations, so
that the row of sample i is Σ_c G[c, :, i] ⊗ A[c, :, i]: a product with J is one matrix product per layer, without
autograd.
:class:`FunctionalJacobian` differentiates the residual of any module by `torch.func`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pescitrain.evaluation.chunks import Chunk, TermSamples
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.sample_gram import LayerRows, SampleRows
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.tape import Recorder

PIECE = 1 << 20
"""Numbers of J that are made at a time where all of them are more than 16 times as many: what a cache holds."""


class ChunkJacobian(Protocol):
    """∂(rows)/∂θ of one chunk, with N·k rows (sample-major) and n columns; local to this rank.

    ``entries``: all n parameters.
    """

    rows: int
    entries: Sequence[Entry]

    def times(self, direction: Tensor) -> Tensor:
        """J v: (n,) -> (rows,)."""
        ...

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        """out += Jᵀ w: (rows,), (n,)."""
        ...

    def add_gauss_newton_times(self, direction: Tensor, out: Tensor) -> None:
        """out += JᵀJ v: (n,), (n,)."""
        self.add_transpose_times(self.times(direction), out)

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        """Jᵀ of these parameters, one after the other: (Σ sizes, rows), contiguous."""
        ...

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        """Matrices F (Σ sizes, q), with Σ F Fᵀ = JᵀJ of these parameters: Jᵀ itself, or fewer columns.

        ``seen_by``: only the rows of samples that depend on these; of most networks all do.
        """
        ...

    def touched(self) -> Sequence[Entry]:
        """The parameters that some sample may depend on."""
        return self.entries

    def add_gauss_newton_products(self, directions: Tensor, out: Tensor) -> None:
        """out += JᵀJ V: (n, k), (n, k)."""
        for factor in self.gram_factors(self.entries):
            out.addmm_(factor, factor.t() @ directions)

    def gram_blocks(self) -> Iterator[GramBlock]:
        """The blocks of JᵀJ that are not zero, each pair of parameter tensors once: those that share a sample."""
        entries = list(self.entries)
        sizes = [entry.stop - entry.start for entry in entries]
        transposed = self.transposed(entries)
        parts = transposed.split(sizes)
        for i, row in enumerate(entries):
            for j in range(i, len(entries)):
                yield GramBlock(row, entries[j], parts[i] @ parts[j].t())

    def gram_diagonal(self) -> Tensor:
        """diag(JᵀJ): (n,)."""
        return self.transposed(self.entries).square().sum(1)

    def subset(self, samples: Tensor, scale: float) -> ChunkJacobian:
        """The rows of some samples (indices in this chunk), times a factor."""
        ...

    def kronecker_factors(self) -> list[KroneckerFactor] | None:
        """Second moments of every affine layer in the sweep; None where they are not known."""
        ...

    def sample_rows(self) -> SampleRows | None:
        """The rows by layers, as they are kept; None where they are not."""
        return None


@dataclass(frozen=True)
class GramBlock:
    """(JᵀJ)[I, J] (|I|, |J|) of two parameter tensors, I the same as J or before it."""

    row: Entry
    column: Entry
    values: Tensor


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
    count: Tensor  # (1,): samples × components, or the weights of the samples × components

    @classmethod
    def zero(cls, weight: Entry, bias: Entry | None) -> KroneckerFactor:
        """Of no samples."""
        rows, columns = weight.parameter.shape
        size = columns + (bias is not None)
        inputs, cotangents, count = (weight.parameter.new_zeros(shape) for shape in ((size, size), (rows, rows), (1,)))
        return cls(weight, bias, inputs, cotangents, count)

    def to(self, device: torch.device) -> KroneckerFactor:
        """The same there."""
        inputs, cotangents, count = (part.to(device) for part in (self.inputs, self.cotangents, self.count))
        return replace(self, inputs=inputs, cotangents=cotangents, count=count)

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
    inputs: Tensor  # A: (C', in, N), C' = components × sides
    cotangents: Tensor  # G: (k, C', out, N)


@dataclass(frozen=True)
class _SmallFactor:
    entry: Entry
    derivative: Tensor  # (k, size, N)


class FactoredJacobian(ChunkJacobian):
    """J from the factors of the affine layers, plus dense columns for the few other parameters.

    Memory: (in + k · out) · C' · N doubles a layer. Cost of J v or Jᵀ w: 2 k C' N · in · out flops a layer.
    """

    def __init__(self, rows: Tensor, recorder: Recorder, sides: int, parameters: Parameters) -> None:
        """``rows`` (N, k): the residual of a sweep that ``recorder`` has recorded; its graph is consumed."""
        samples, count = rows.shape
        self.samples, self.count, self.sides = samples, count, sides
        self.rows, self.entries = samples * count, parameters.entries
        self.device = rows.device
        leaves = recorder.leaves()
        cotangents = []
        for k in range(count):
            keep = k < count - 1
            grads = [None] * len(leaves)
            if rows.requires_grad:  # not so where the rows depend on frozen parameters alone
                grads = torch.autograd.grad(rows[:, k].sum(), leaves, retain_graph=keep, allow_unused=True)
            cotangents.append([torch.zeros_like(z) if g is None else g for g, z in zip(grads, leaves, strict=True)])
        self._affine: list[_AffineFactor] = []
        for position, record in enumerate(recorder.affine_records):
            weight, bias = parameters.find(record.layer.weight), record.layer.bias
            if weight is None:
                continue
            stacked = torch.stack([self._by_side(c[position]) for c in cotangents])
            self._affine.append(
                _AffineFactor(
                    weight, None if bias is None else parameters.find(bias), self._by_side(record.inputs), stacked
                )
            )
        self._small: list[_SmallFactor] = []
        offset = len(recorder.affine_records)
        for position, record in enumerate(recorder.parameter_records):
            entry = parameters.find(record.parameter)
            if entry is None:
                continue
            stacked = torch.stack([c[offset + position] for c in cotangents])  # (k, size, sides · N)
            per_side = stacked.unflatten(2, (-1, samples)).sum(2)
            self._small.append(_SmallFactor(entry, per_side))

    def _by_side(self, jet: Tensor) -> Tensor:
        """(C, width, sides · N) -> (C · sides, width, N)."""
        if self.sides == 1:
            return jet
        return jet.unflatten(2, (self.sides, self.samples)).movedim(2, 1).flatten(0, 1)

    def times(self, direction: Tensor) -> Tensor:
        out = direction.new_zeros(self.count, self.samples)
        for factor in self._affine:
            weight = direction[_span(factor.weight)].view(factor.weight.parameter.shape)
            change = torch.bmm(weight.expand(len(factor.inputs), *weight.shape), factor.inputs)
            if factor.bias is not None:
                change[: self.sides] += direction[_span(factor.bias)].unsqueeze(1)
            for k in range(self.count):
                out[k] += (factor.cotangents[k] * change).sum((0, 1))
        for small in self._small:
            out += torch.matmul(direction[_span(small.entry)], small.derivative)
        return out.t().reshape(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        by_row = cotangent.view(self.samples, self.count).t()
        for factor in self._affine:
            weighted = factor.cotangents[0] * by_row[0]
            for k in range(1, self.count):
                weighted.addcmul_(factor.cotangents[k], by_row[k])
            out[_span(factor.weight)] += torch.bmm(weighted, factor.inputs.mT).sum(0).view(-1)
            if factor.bias is not None:
                out[_span(factor.bias)] += weighted[: self.sides].sum((0, 2))
        for small in self._small:
            out[_span(small.entry)] += (small.derivative * by_row.unsqueeze(1)).sum((0, 2))

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        sizes = [entry.stop - entry.start for entry in entries]
        result = torch.empty(sum(sizes), self.samples, self.count, dtype=torch.float64, device=self.device)
        for entry, part in zip(entries, result.split(sizes), strict=True):
            rows = part.view(*entry.parameter.shape, self.samples, self.count)
            for k in range(self.count):
                self._write(self._products(entry, k), rows[..., k])
        return result.view(-1, self.rows)

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        yield self.transposed(entries)

    def add_gauss_newton_products(self, directions: Tensor, out: Tensor) -> None:
        """By pieces of Jᵀ, each made twice, where all of it would be large."""
        if directions.shape[0] * self.rows <= 16 * PIECE:
            super().add_gauss_newton_products(directions, out)
            return
        changes = directions.new_zeros(self.rows, directions.shape[1])
        for place, piece in self._pieces():
            changes.addmm_(piece.t(), directions[place])
        for place, piece in self._pieces():
            out[place].addmm_(piece, changes)

    def _pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows of Jᵀ, about :data:`PIECE` numbers at a time, and which ones they are."""
        for entry in self.entries:
            length, *others = entry.parameter.shape
            size = math.prod(others)
            step = max(1, PIECE // (size * self.rows))
            products = [self._products(entry, k) for k in range(self.count)]
            for first in range(0, length, step):
                last = min(first + step, length)
                shape = (last - first, *others, self.samples, self.count)
                piece = torch.empty(shape, dtype=torch.float64, device=self.device)
                for k, pairs in enumerate(products):
                    self._write([(one[first:last], other) for one, other in pairs], piece[..., k])
                yield slice(entry.start + first * size, entry.start + last * size), piece.view(-1, self.rows)

    def gram_diagonal(self) -> Tensor:
        return torch.cat([self._squares(entry) for entry in self.entries])

    def _squares(self, entry: Entry) -> Tensor:
        """The diagonal for one parameter tensor; of the weights of a wide layer without J.

        (Σ_c G_c ⊗ A_c)² is Σ_{c, d} (G_c G_d) ⊗ (A_c A_d), entry by entry.
        """
        factors = [factor for factor in self._affine if factor.weight is entry or factor.bias is entry]
        if not self._products(entry, 0):
            return torch.zeros(entry.stop - entry.start, dtype=torch.float64, device=self.device)
        if len(factors) != 1 or entry is factors[0].bias:
            return self.transposed([entry]).square().sum(1)
        inputs, cotangents = factors[0].inputs, factors[0].cotangents
        components, width, _ = inputs.shape
        out = cotangents.shape[2]
        if (components + 1) * (width + self.count * out) > 2 * self.count * width * out:
            return self.transposed([entry]).square().sum(1)
        squares = inputs.new_zeros(out, width)
        for c in range(components):
            for d in range(c, components):
                both = (cotangents[:, c] * cotangents[:, d]).sum(0)
                squares.addmm_(both, (inputs[c] * inputs[d]).t(), alpha=1.0 if c == d else 2.0)
        return squares.clamp_(min=0.0).view(-1)

    def _products(self, entry: Entry, k: int) -> list[tuple[Tensor, Tensor]]:
        """Pairs of tensors whose products, broadcast to (*shape, N), sum up to ∂(row k of each sample)/∂entry."""
        one = torch.ones((), dtype=torch.float64, device=self.device)
        products = [(small.derivative[k], one) for small in self._small if small.entry is entry]
        for factor in self._affine:
            if factor.weight is entry:
                products += [(g.unsqueeze(1), a) for g, a in zip(factor.cotangents[k], factor.inputs, strict=True)]
            elif factor.bias is entry:
                products.append((factor.cotangents[k, : self.sides].sum(0), one))
        return products

    @staticmethod
    def _write(products: list[tuple[Tensor, Tensor]], out: Tensor) -> None:
        """Overwrite ``out`` with the sum of products."""
        if not products:
            out.zero_()
            return
        torch.mul(*products[0], out=out)
        for one, other in products[1:]:
            out.addcmul_(one, other)

    def subset(self, samples: Tensor, scale: float) -> FactoredJacobian:
        part = copy(self)
        part.samples, part.rows = len(samples), len(samples) * self.count
        part._affine = [
            replace(f, inputs=f.inputs[..., samples], cotangents=scale * f.cotangents[..., samples])
            for f in self._affine
        ]
        part._small = [replace(f, derivative=scale * f.derivative[..., samples]) for f in self._small]
        return part

    def kronecker_factors(self, weights: Tensor | None = None) -> list[KroneckerFactor]:
        """``weights`` (N,) of the samples in the moments of the inputs; the cotangents have theirs."""
        result = []
        for factor in self._affine:
            inputs = factor.inputs
            if factor.bias is not None:
                ones = inputs.new_zeros(len(inputs), 1, self.samples)
                ones[: self.sides] = 1.0
                inputs = torch.cat((inputs, ones), dim=1)
            weighted = inputs if weights is None else weights * inputs
            total = self.samples if weights is None else weights.sum()
            count = inputs.new_full((1,), float(len(inputs) * total))
            cotangents = factor.cotangents.flatten(0, 1)
            a, g = (torch.bmm(one, other.mT).sum(0) for one, other in ((weighted, inputs), (cotangents, cotangents)))
            result.append(KroneckerFactor(factor.weight, factor.bias, a, g, count))
        return result

    def sample_rows(self) -> SampleRows | None:
        layers = {small.entry.name: LayerRows(small.derivative.unsqueeze(1), None) for small in self._small}
        for factor in self._affine:
            ones = 0 if factor.bias is None else self.sides
            layers[factor.weight.name] = LayerRows(factor.cotangents, factor.inputs, ones)
        if len(layers) < len(self._small) + len(self._affine):
            return None  # a tensor that enters more than once
        return SampleRows(self.samples, self.count, layers)


class FunctionalJacobian(ChunkJacobian):
    """J of any residual by forward and reverse mode of `torch.func`; nothing but θ is stored."""

    def __init__(self, residuals: Residuals, samples: TermSamples, chunk: Chunk, parameters: Parameters) -> None:
        self._residuals, self._samples, self._chunk, self._parameters = residuals, samples, chunk, parameters
        self.rows, self.entries = chunk.samples * samples.rows, parameters.entries
        self._values = {entry.name: entry.parameter.detach().clone() for entry in parameters.entries}
        self._frozen = parameters.frozen()

    def _rows(self, values: dict[str, Tensor]) -> Tensor:
        return self._residuals.rows_of(self._samples, self._chunk, {**self._frozen, **values})

    def times(self, direction: Tensor) -> Tensor:
        change = {e.name: direction[_span(e)].view(e.parameter.shape) for e in self._parameters.entries}
        return torch.func.jvp(self._rows, (self._values,), (change,))[1].reshape(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        rows, pull_back, *_ = torch.func.vjp(self._rows, self._values)
        (grads,) = pull_back(cotangent.view_as(rows))
        for entry in self._parameters.entries:
            out[_span(entry)] += grads[entry.name].reshape(-1)

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        chunk, sides = self._chunk, self._samples.sides
        chosen = {entry.name: self._values[entry.name] for entry in entries}

        def rows_of_sample(values: dict[str, Tensor], x: Tensor, scale: Tensor, constants: dict[str, Tensor]) -> Tensor:
            normal, data = constants.get("normal"), constants.get("data")
            single = Chunk(
                x,
                scale.view(1),
                normal,
                None if data is None else data.unsqueeze(0),
                {},
                constants.get("base"),
                constants.get("factor"),
            )
            return self._residuals.rows_of(self._samples, single, {**self._frozen, **self._values, **values})[0]

        def by_sample(points: Tensor | None, dim: int) -> Tensor | None:
            """(…, sides · N, …) -> (N, …, sides, …)."""
            if points is None:
                return None
            return points.unflatten(dim, (sides, chunk.samples)).movedim(dim + 1, 0)

        constants = {
            "normal": by_sample(chunk.normal, 0),
            "data": chunk.data,
            "base": by_sample(chunk.base, 2),
            "factor": by_sample(chunk.factor, 2),
        }
        present = {name: value for name, value in constants.items() if value is not None}
        jacobian = torch.func.vmap(torch.func.jacrev(rows_of_sample), in_dims=(None, 0, 0, 0))
        blocks = jacobian(chosen, by_sample(chunk.x, 0), chunk.scale, present)
        return torch.cat([blocks[e.name].reshape(self.rows, -1).t() for e in entries])

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        yield self.transposed(entries)

    def subset(self, samples: Tensor, scale: float) -> FunctionalJacobian:
        part = copy(self)
        part._chunk = self._chunk.subset(samples, scale, self._samples.sides)
        part.rows = len(samples) * self._samples.rows
        return part

    def kronecker_factors(self) -> None:
        return None


def _span(entry: Entry) -> slice:
    return slice(entry.start, entry.stop)
