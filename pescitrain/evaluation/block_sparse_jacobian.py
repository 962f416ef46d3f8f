"""The Jacobian of a chunk for networks that live in subdomains: dense where a sample is seen, absent elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pescitrain.evaluation.jacobian import ChunkJacobian, GramBlock
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.networks.tape import Recorder


@dataclass(frozen=True)
class _Group:
    """∂(rows)/∂(the parameters of A tensors of one size q), at up to P samples each."""

    entries: list[Entry]  # A
    samples: Tensor  # (A, P) int64; no two present ones of a tensor alike
    present: Tensor  # (A, P) bool
    values: Tensor  # (A, q, P, k); zero where there is no sample

    @property
    def columns(self) -> Tensor:
        """(A, q): where the parameters are in the vector."""
        starts = torch.tensor([entry.start for entry in self.entries], device=self.samples.device)
        return starts.unsqueeze(1) + torch.arange(self.values.shape[1], device=self.samples.device)


class BlockSparseJacobian(ChunkJacobian):
    """J by blocks: of each subdomain network at its own samples, and of the few other parameters at all.

    Memory: q doubles for each row and subdomain network that sees it; a product costs twice as many flops.
    """

    def __init__(self, groups: list[_Group], samples: int, count: int, parameters: Parameters) -> None:
        self._groups, self._parameters = groups, parameters
        self._places: dict[str, list[tuple[_Group, int]]] = {}
        for group in groups:
            for a, entry in enumerate(group.entries):
                self._places.setdefault(entry.name, []).append((group, a))
        self.samples, self.count = samples, count
        self.rows, self.entries = samples * count, parameters.entries
        self.device = parameters.device

    def touched(self) -> list[Entry]:
        return [entry for group in self._groups for entry in group.entries]

    @classmethod
    def from_sweep(
        cls,
        rows: Tensor,
        recorder: Recorder,
        jets: dict[SubdomainNetwork, SubdomainJets],
        sides: int,
        parameters: Parameters,
    ) -> BlockSparseJacobian:
        """From the residual rows (N, k) of a sweep that ``recorder`` has recorded; its graph is consumed."""
        samples, count = rows.shape
        leaves = recorder.leaves()
        gradients: list[list[Tensor]] = []
        for k in range(count):
            if rows.requires_grad:  # not so where the rows depend on frozen parameters alone
                found = torch.autograd.grad(
                    rows[:, k].sum(), leaves, retain_graph=k < count - 1, allow_unused=True, materialize_grads=True
                )
                gradients.append(list(found))
            else:
                gradients.append([torch.zeros_like(leaf) for leaf in leaves])
        stacked = [torch.stack([g[i] for g in gradients], dim=-1) for i in range(len(leaves))]
        groups = []
        for network, jet in jets.items():
            places = [i for i, record in enumerate(recorder.batched_records) if record.owner is network]
            if not places:
                continue
            if network.trains_output_only:
                places = places[-1:]
            kept = [i for i, s in enumerate(jet.subdomains.tolist()) if parameters.find(network.subdomains[s])]
            entries = [parameters.find(network.subdomains[s]) for s in jet.subdomains[kept].tolist()]
            parts = []
            for i in places:
                inputs, cotangents = recorder.batched_records[i].inputs[:, kept], stacked[i][:, kept]
                parts.append(torch.einsum("caopk,caip->aoipk", cotangents, inputs).flatten(1, 2))
                parts.append(cotangents[0])
            found = [entry for entry in entries if entry is not None]
            if found:
                group = _Group(found, jet.points[kept], jet.windows[0, kept, 0] > 0.0, torch.cat(parts, dim=1))
                groups.append(group if sides == 1 else _both_sides(group, samples))
        offset = len(leaves) - len(recorder.parameter_records)
        everywhere = torch.arange(samples, device=rows.device).unsqueeze(0)
        for i, record in enumerate(recorder.parameter_records):
            entry = parameters.find(record.parameter)
            if entry is not None:
                groups.append(_Group([entry], everywhere, everywhere >= 0, stacked[offset + i].unsqueeze(0)))
        return cls(groups, samples, count, parameters)

    def times(self, direction: Tensor) -> Tensor:
        out = direction.new_zeros(self.samples, self.count)
        for group in self._groups:
            products = torch.bmm(direction[group.columns].unsqueeze(1), group.values.flatten(2))
            out.index_add_(0, group.samples.flatten(), products.view(-1, self.count))
        return out.view(-1)

    def add_transpose_times(self, cotangent: Tensor, out: Tensor) -> None:
        by_sample = cotangent.view(self.samples, self.count)
        for group in self._groups:
            weights = by_sample[group.samples].flatten(1).unsqueeze(2)
            products = torch.bmm(group.values.flatten(2), weights)
            out.index_add_(0, group.columns.flatten(), products.flatten())

    def transposed(self, entries: Sequence[Entry]) -> Tensor:
        everywhere = torch.ones(self.samples, dtype=torch.bool, device=self.device)
        return self._transposed_at(everywhere, entries)

    def _transposed_at(self, chosen: Tensor, entries: Sequence[Entry]) -> Tensor:
        """Columns of J, transposed, with the rows of the chosen samples (bool (N,)) alone."""
        place = chosen.cumsum(0) - 1
        total = sum(entry.stop - entry.start for entry in entries)
        result = torch.zeros(total, int(chosen.sum()), self.count, dtype=torch.float64, device=self.device)
        first = 0
        for entry in entries:
            last = first + entry.stop - entry.start
            for group, a in self._places.get(entry.name, ()):
                here = (group.present[a] & chosen[group.samples[a]]).nonzero()[:, 0]
                result[first:last].index_add_(1, place[group.samples[a, here]], group.values[a][:, here])
            first = last
        return result.flatten(1)

    def gram_factors(self, entries: Sequence[Entry], seen_by: Sequence[Entry] | None = None) -> Iterator[Tensor]:
        seen = self._seen_by(entries if seen_by is None else seen_by)
        if seen.any():
            yield self._transposed_at(seen, entries)

    def _seen_by(self, entries: Sequence[Entry]) -> Tensor:
        """Which samples (N,) depend on some of these parameters."""
        seen = torch.zeros(self.samples, dtype=torch.bool, device=self.device)
        for entry in entries:
            for group, a in self._places.get(entry.name, ()):
                seen[group.samples[a][group.present[a]]] = True
        return seen

    def gram_diagonal(self) -> Tensor:
        out = torch.zeros(self._parameters.size, dtype=torch.float64, device=self.device)
        for group in self._groups:
            out.index_add_(0, group.columns.flatten(), group.values.square().sum((2, 3)).flatten())
        return out

    def gram_blocks(self) -> Iterator[GramBlock]:
        places = [(group, a) for group in self._groups for a in range(len(group.entries))]
        places.sort(key=lambda place: place[0].entries[place[1]].start)
        position = torch.full((len(places), self.samples), -1, dtype=torch.int64, device=self.device)
        for i, (group, a) in enumerate(places):
            present = group.present[a].nonzero()[:, 0]
            position[i, group.samples[a, present]] = present
        seen = (position >= 0).double()
        for i, j in torch.triu(seen @ seen.t() > 0.0).nonzero().tolist():
            (one, a), (other, b) = places[i], places[j]
            if i == j:
                left = right = one.values[a].flatten(1)
            else:
                common = ((position[i] >= 0) & (position[j] >= 0)).nonzero()[:, 0]
                left = one.values[a][:, position[i, common]].flatten(1)
                right = other.values[b][:, position[j, common]].flatten(1)
            yield GramBlock(one.entries[a], other.entries[b], left @ right.t())

    def subset(self, samples: Tensor, scale: float) -> BlockSparseJacobian:
        place = torch.full((self.samples,), -1, dtype=torch.int64, device=self.device)
        place[samples] = torch.arange(len(samples), device=self.device)
        groups = []
        for group in self._groups:
            moved = place[group.samples]
            present = group.present & (moved >= 0)
            values = scale * group.values * present[:, None, :, None]
            groups.append(replace(group, samples=moved.clamp(min=0), present=present, values=values))
        return BlockSparseJacobian(groups, len(samples), self.count, self._parameters)

    def kronecker_factors(self) -> None:
        """There are none."""


def _both_sides(group: _Group, samples: int) -> _Group:
    """Of periodic pairs, where the points of both sides are samples of the same number: their sum, at all samples."""
    shape = (len(group.entries), group.values.shape[1], samples, group.values.shape[3])
    values, present = group.values.new_zeros(shape), torch.zeros_like(group.present[:, :1]).repeat(1, samples)
    for a, points in enumerate(group.samples):
        values[a].index_add_(1, points % samples, group.values[a])
        present[a, points[group.present[a]] % samples] = True
    everywhere = torch.arange(samples, device=values.device).expand(len(group.entries), -1)
    return replace(group, samples=everywhere, present=present, values=values)
