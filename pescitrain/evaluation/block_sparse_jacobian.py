"""The Jacobian of a chunk for networks that live in subdomains: dense where a sample is seen, absent elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from pescitrain.evaluation.jacobian import ChunkJacobian, GramBlock
from pescitrain.networks.meetings import Meeting, meetings
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.networks.tape import Recorder


@dataclass(frozen=True)
class _Group:
    """∂(rows)/∂(parameter tensors of one size q), in A rows of P samples: of a tensor one row, or several in turn."""

    entries: list[Entry]  # A
    samples: Tensor  # (A, P) int64; no two present ones of a tensor alike
    present: Tensor  # (A, P) bool
    values: Tensor  # (A, q, P, k), in memory (q, A, P, k); zero where there is no sample

    @cached_property
    def columns(self) -> Tensor:
        """(A, q): where the parameters are in the vector."""
        starts = torch.tensor([entry.start for entry in self.entries], device=self.samples.device)
        return starts.unsqueeze(1) + torch.arange(self.values.shape[1], device=self.samples.device)

    @cached_property
    def tensors(self) -> list[tuple[Entry, slice]]:
        """The parameter tensors, and the rows of each."""
        found, first = [], 0
        for _, same in groupby(self.entries, key=lambda entry: entry.start):
            entries = list(same)
            found.append((entries[0], slice(first, first + len(entries))))
            first += len(entries)
        return found

    @property
    def by_parameter(self) -> Tensor:
        """(q, A · P, k): the values as columns of one matrix for each residual."""
        return self.values.movedim(1, 0).flatten(1, 2)

    def by_sample(self) -> Tensor:
        """A copy (A · P, k, q)."""
        rows = self.values.movedim(1, 0).flatten(1).t().contiguous()
        return rows.view(-1, self.values.shape[3], self.values.shape[1])

    def columns_of(self, rows: slice) -> slice:
        """The places, of A · P, that some rows have."""
        width = self.samples.shape[1]
        return slice(rows.start * width, rows.stop * width)


class BlockSparseJacobian(ChunkJacobian):
    """J by blocks: of each subdomain network at its own samples, and of the few other parameters at all.

    Memory: q doubles for each row and subdomain network that sees it; a product costs twice as many flops.
    """

    def __init__(
        self,
        groups: list[_Group],
        samples: int,
        count: int,
        parameters: Parameters,
        known: list[Meeting] | None = None,
    ) -> None:
        """``known``: where the tensors of the groups see samples together, if that has been found before."""
        self._groups, self._parameters, self._meetings = groups, parameters, known
        self._places: dict[str, list[tuple[_Group, slice]]] = {}
        for group in groups:
            for entry, rows in group.tensors:
                self._places.setdefault(entry.name, []).append((group, rows))
        self.samples, self.count = samples, count
        self.rows, self.entries = samples * count, parameters.entries
        self.device = parameters.device

    def touched(self) -> list[Entry]:
        return [entry for group in self._groups for entry, _ in group.tensors]

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
        groups, known = [], None
        for network, jet in jets.items():
            places = [i for i, record in enumerate(recorder.batched_records) if record.owner is network]
            if network.trains_output_only:
                places = places[-1:]
            entries = [parameters.find(network.subdomains[s]) for s in jet.subdomains.tolist()]
            kept = [i for i, entry in enumerate(entries) if entry is not None]
            if not places or not kept:
                continue
            every = len(kept) == len(entries)
            chosen = slice(None) if every else torch.tensor(kept, device=rows.device)
            group = _Group(
                [entry for entry in entries if entry is not None],
                jet.points[chosen],
                jet.here[chosen],
                _of_layers(
                    [recorder.batched_records[i].inputs[:, chosen] for i in places],
                    [[gradient[i][:, chosen] for gradient in gradients] for i in places],
                ),
            )
            groups.append(group if sides == 1 else _both_sides(group, samples))
            known = jet.meetings if every and sides == 1 else None
        offset = len(leaves) - len(recorder.parameter_records)
        everywhere = torch.arange(samples, device=rows.device).unsqueeze(0)
        for i, record in enumerate(recorder.parameter_records):
            entry = parameters.find(record.parameter)
            if entry is not None:
                values = torch.stack([gradient[offset + i] for gradient in gradients], dim=-1)
                groups.append(_Group([entry], everywhere, everywhere >= 0, values.unsqueeze(0)))
        return cls(groups, samples, count, parameters, known if len(groups) == 1 else None)

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
            for group, rows in self._places.get(entry.name, ()):
                samples = group.samples[rows].flatten()
                here = (group.present[rows].flatten() & chosen[samples]).nonzero()[:, 0]
                values = group.by_parameter[:, group.columns_of(rows)].index_select(1, here)
                result[first:last].index_add_(1, place[samples[here]], values)
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
            for group, rows in self._places.get(entry.name, ()):
                seen[group.samples[rows][group.present[rows]]] = True
        return seen

    def gram_diagonal(self) -> Tensor:
        out = torch.zeros(self._parameters.size, dtype=torch.float64, device=self.device)
        for group in self._groups:
            out.index_add_(0, group.columns.flatten(), group.values.square().sum((2, 3)).flatten())
        return out

    def gram_blocks(self) -> Iterator[GramBlock]:
        tensors = [(i, entry, rows) for i, group in enumerate(self._groups) for entry, rows in group.tensors]
        values = [group.by_sample() for group in self._groups]  # whole rows are taken from these
        for i, entry, rows in tensors:
            own = values[i][self._groups[i].columns_of(rows)].flatten(0, 1)
            yield GramBlock(entry, entry, own.t() @ own)
        if self._meetings is None:
            self._meetings = self._met()
        for meeting in self._meetings:
            (i, row, _), (j, column, _) = tensors[meeting.first], tensors[meeting.second]
            left = values[i].index_select(0, meeting.at_first).flatten(0, 1)
            right = values[j].index_select(0, meeting.at_second).flatten(0, 1)
            if column.start < row.start:
                row, column, left, right = column, row, right, left
            yield GramBlock(row, column, left.t() @ right)

    def _met(self) -> list[Meeting]:
        """Where two of the tensors, one group's after the other's, see samples together, as columns of their groups."""
        owners, samples, places, first = [], [], [], 0
        for group in self._groups:
            numbers = torch.arange(first, first + len(group.tensors), device=self.device)
            sizes = torch.tensor([rows.stop - rows.start for _, rows in group.tensors], device=self.device)
            present = group.present
            owners.append(numbers.repeat_interleave(sizes).unsqueeze(1).expand_as(present)[present])
            samples.append(group.samples[present])
            places.append(present.flatten().nonzero()[:, 0])
            first += len(group.tensors)
        return meetings(torch.cat(owners), torch.cat(samples), torch.cat(places)) if owners else []

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


def _of_layers(inputs: list[Tensor], cotangents: list[list[Tensor]]) -> Tensor:
    """∂(rows)/∂(weights and biases, layer after layer) (A, q, P, k), from the jets (C, A, in, P) that enter the layers
    and for each layer those (C, A, out, P) of ∂(row k)/∂(what leaves it).
    """
    _, networks, _, points = inputs[0].shape
    widths = [(jet.shape[2], ks[0].shape[2]) for jet, ks in zip(inputs, cotangents, strict=True)]
    size, count = sum((i + 1) * o for i, o in widths), len(cotangents[0])
    values = inputs[0].new_empty(size, networks, points, count)
    first = 0
    for jet, ks, (i, o) in zip(inputs, cotangents, widths, strict=True):
        weights = values[first : first + o * i].unflatten(0, (o, i))
        for k, cotangent in enumerate(ks):
            left, right = cotangent.movedim(2, 1).unsqueeze(2), jet.movedim(2, 1).unsqueeze(1)
            torch.mul(left[0], right[0], out=weights[..., k])
            for c in range(1, len(jet)):
                weights[..., k].addcmul_(left[c], right[c])
            values[first + o * i : first + o * (i + 1), :, :, k] = cotangent[0].movedim(1, 0)
        first += o * (i + 1)
    return values.movedim(0, 1)


def _both_sides(group: _Group, samples: int) -> _Group:
    """Of periodic pairs, where the points of both sides are samples of the same number: their sum, at all samples."""
    _, size, _, count = group.values.shape
    values = group.values.new_zeros(size, len(group.tensors), samples, count)
    present = torch.zeros_like(group.present[:1, :1]).repeat(len(group.tensors), samples)
    for a, (_, rows) in enumerate(group.tensors):
        points = group.samples[rows].flatten() % samples
        values[:, a].index_add_(1, points, group.by_parameter[:, group.columns_of(rows)])
        present[a, points[group.present[rows].flatten()]] = True
    return replace(
        group,
        entries=[entry for entry, _ in group.tensors],
        samples=torch.arange(samples, device=values.device).expand(len(group.tensors), -1),
        present=present,
        values=values.movedim(0, 1),
    )
