"""J Jᵀ of affine layers from their inputs and cotangents, without the columns of J.

The row of sample i and output k in a layer is Σ_c G[k, c, :, i] ⊗ A[c, :, i], and the product of two rows

    Σ_{c, c'} (G[k, c, :, i] · G'[k', c', :, j]) (A[c, :, i] · A'[c', :, j]),

so that a layer costs C² m² (in + out) multiply-adds in the place of m² in · out. For one component it is the neural
tangent kernel by layers (Novak, Sohl-Dickstein & Schoenholz, ICML 2022, arXiv:2206.08720, section 3); here the
components of a jet are summed over, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from mpi4py import MPI
from torch import Tensor

from pescitrain.networks.device import HOST

PASSES = 16
"""What adding a product of two Gram matrices costs for each entry, in multiply-adds of a matrix product."""


@dataclass(frozen=True)
class LayerRows:
    """The rows of N samples in one affine layer; or in any other tensor of parameters, for which A is 1."""

    cotangents: Tensor  # G: (k, C, out, N)
    inputs: Tensor | None  # A: (C, in, N); None: C = 1 and A = 1
    ones: int = 0  # the leading components that a bias enters

    @property
    def width(self) -> int:
        """Of A, with the bias."""
        return 1 if self.inputs is None else self.inputs.shape[1] + bool(self.ones)

    @cached_property
    def columns(self) -> LayerRows:
        """The same as columns of J, with A = 1."""
        if self.inputs is None:
            return self
        parts = sum(self.cotangents[:, c].unsqueeze(2) * inputs for c, inputs in enumerate(self.inputs))
        assert isinstance(parts, Tensor)
        parts = parts.flatten(1, 2)
        if self.ones:
            parts = torch.cat((parts, self.cotangents[:, : self.ones].sum(1)), dim=1)
        return LayerRows(parts.unsqueeze(1), None)

    def inputs_gram(self, c: int, other: LayerRows, d: int) -> Tensor | None:
        """A[c] · A'[d] of all pairs of samples (N, N'); None: 1."""
        if self.inputs is None or other.inputs is None:
            return None
        gram = self.inputs[c].t() @ other.inputs[d]
        return gram.add_(1.0) if c < self.ones and d < other.ones else gram

    def shorter_with(self, other: LayerRows) -> tuple[LayerRows, LayerRows]:
        """Both as they are, or both as columns: what costs less."""
        k, components, out, _ = self.cotangents.shape
        m, more, *_ = other.cotangents.shape
        factored = components * more * (out + PASSES + self.width / (k * m))
        return (self.columns, other.columns) if self.width * out <= factored else (self, other)

    def at(self, samples: slice) -> LayerRows:
        """Some of the samples."""
        inputs = None if self.inputs is None else self.inputs[..., samples]
        return LayerRows(self.cotangents[..., samples], inputs, self.ones)

    def to(self, device: torch.device) -> LayerRows:
        """The same there, without what has been derived from it."""
        inputs = None if self.inputs is None else self.inputs.to(device)
        return LayerRows(self.cotangents.to(device), inputs, self.ones)


@dataclass(frozen=True)
class SampleRows:
    """The rows of N samples, k of each, by layers."""

    samples: int
    count: int
    layers: Mapping[str, LayerRows]

    @property
    def rows(self) -> int:
        """N k."""
        return self.samples * self.count

    def at(self, samples: slice) -> SampleRows:
        """Some of the samples."""
        number = len(range(*samples.indices(self.samples)))
        return replace(self, samples=number, layers={name: layer.at(samples) for name, layer in self.layers.items()})

    def to(self, device: torch.device) -> SampleRows:
        """The same there."""
        return replace(self, layers={name: layer.to(device) for name, layer in self.layers.items()})

    def times_transposed(self, other: SampleRows, device: torch.device) -> Tensor:
        """J J'ᵀ (N k, N' k'), sample-major."""
        out = torch.zeros(self.count, other.count, self.samples, other.samples, dtype=torch.float64, device=device)
        for name in self.layers.keys() & other.layers.keys():
            one, two = self.layers[name].shorter_with(other.layers[name])
            for c in range(one.cotangents.shape[1]):
                for d in range(two.cotangents.shape[1]):
                    inputs = one.inputs_gram(c, two, d)
                    for k in range(self.count):
                        for m in range(other.count):
                            _add(out[k, m], one.cotangents[k, c], two.cotangents[m, d], inputs, 1.0)
        return out.permute(2, 0, 3, 1).reshape(self.rows, other.rows)

    def gram(self, device: torch.device) -> Tensor:
        """J Jᵀ (N k, N k), by the pairs of components and outputs that are not each other's transposes."""
        half = torch.zeros(self.count, self.count, self.samples, self.samples, dtype=torch.float64, device=device)
        for layer in self.layers.values():
            rows, _ = layer.shorter_with(layer)
            components = rows.cotangents.shape[1]
            for c in range(components):
                for d in range(c, components):
                    inputs = rows.inputs_gram(c, rows, d)
                    for k in range(self.count):
                        for m in range(k if c == d else 0, self.count):
                            part = 0.5 if (c, k) == (d, m) else 1.0
                            _add(half[k, m], rows.cotangents[k, c], rows.cotangents[m, d], inputs, part)
        by_sample = half.permute(2, 0, 3, 1).reshape(self.rows, self.rows)
        return by_sample + by_sample.t()


def _add(out: Tensor, one: Tensor, other: Tensor, inputs: Tensor | None, part: float) -> None:
    """out (N, N') += part · (Gᵀ G') ∘ inputs."""
    if inputs is None:
        out.addmm_(one.t(), other, alpha=part)
    else:
        out.addcmul_(one.t() @ other, inputs, value=part)


def is_shorter(chunks: Sequence[SampleRows | None], size: int, comm: MPI.Intracomm) -> bool:
    """Whether all chunks are known by layers, and that costs less than the columns of J. Collective.

    ``size``: n.
    """
    costs: dict[str, np.ndarray] = {}
    for chunk in chunks:
        for name, layer in (chunk.layers if chunk is not None else {}).items():
            count, components, out, samples = layer.cotangents.shape
            numbers = samples * np.array([count, components * count, components])
            known = costs.get(name, np.zeros(5))
            costs[name] = np.concatenate((known[:3] + numbers, (layer.width, out)))
    parts = comm.allgather((costs, all(chunk is not None for chunk in chunks)))
    if not all(known for _, known in parts):
        return False
    total = 0.0
    for name in {name for cost, _ in parts for name in cost}:
        found = [cost[name] for cost, _ in parts if name in cost]
        rows, of_cotangents, of_inputs = np.sum(found, axis=0)[:3]
        width, out = found[0][3:]
        total += min(rows**2 * width * out, of_cotangents**2 * (out + PASSES) + of_inputs**2 * width)
    rows = comm.allreduce(sum(chunk.rows for chunk in chunks if chunk is not None))
    return total < 0.5 * rows**2 * size


def blocks_of_gram(
    chunks: Sequence[SampleRows], device: torch.device, comm: MPI.Intracomm
) -> Iterator[tuple[slice, slice, Tensor]]:
    """This rank's share of the blocks of J Jᵀ over the rows of all ranks in their order, each pair of chunks once.

    In round s a rank sees the chunks of the s-th rank after it, one at a time, so that rank pairs meet once; where
    they would meet twice, halfway around, each takes half of the samples. Collective; memory: one chunk of another
    rank and one block.
    """
    counts = comm.allgather([chunk.rows for chunk in chunks])
    cuts = np.concatenate(([0], np.cumsum([number for own in counts for number in own]))).astype(int)
    before = np.concatenate(([0], np.cumsum([len(own) for own in counts]))).astype(int)

    def place(rank: int, number: int) -> int:
        return int(cuts[before[rank] + number])

    for shift in range(comm.size // 2 + 1):
        after, ahead = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        twice = shift > 0 and 2 * shift == comm.size
        for number in range(max(len(own) for own in counts)):
            known = chunks[number] if number < len(chunks) else None
            if shift:
                known = comm.sendrecv(known.to(HOST) if known else None, dest=ahead, source=after)
            if known is None:
                continue
            other, column = known.to(device), place(after, number)
            if twice and after < comm.rank:
                half = other.samples // 2
                other, column = other.at(slice(half, None)), column + half * other.count
            for mine, chunk in enumerate(chunks):
                if shift == 0 and mine > number:
                    continue
                one = chunk.at(slice(None, chunk.samples // 2)) if twice and after > comm.rank else chunk
                itself = shift == 0 and mine == number
                row, block = (
                    place(comm.rank, mine),
                    chunk.gram(device) if itself else one.times_transposed(other, device),
                )
                yield slice(row, row + one.rows), slice(column, column + other.rows), block
