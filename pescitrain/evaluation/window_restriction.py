"""What a block of subdomain networks sees: the samples under its windows, where all other networks are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.evaluation.chunks import Chunk, DiscreteChunk, OperatorChunk, TermSamples
from pescitrain.geometry import PointSet
from pescitrain.networks.components import Components
from pescitrain.networks.device import on_device, on_host
from pescitrain.networks.parameters import FlatParameters, Layer
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.networks.tape import Tape
from pescitrain.problem.surrogate import Surrogate

Array = NDArray[np.float64]


@dataclass
class SeenSamples(TermSamples):
    """The samples of a term that a block sees, ``count`` over all ranks; this rank begins with the ``first``."""

    first: int = 0

    def begin(self, rank: int, size: int) -> int:
        return self.first


class Sight:
    """The subdomains of a block, and what else of it there is.

    ``own``: network -> the numbers of its subdomains in the block; ``everything``: whether it sees all samples of all
    terms, as a block without subdomains does.
    """

    def __init__(self, surrogate: Surrogate, layers: Sequence[Layer]) -> None:
        self.own: dict[str, list[int]] = {}
        self._others: set[str] = set()
        for layer in layers:
            if layer.network in surrogate.networks and isinstance(surrogate.networks[layer.network], SubdomainNetwork):
                self.own.setdefault(layer.network, []).append(int(layer.name.rpartition("_")[2]))
            else:
                self._others.add(layer.network)  # "" of the unknowns
        self.everything = bool(self._others) and not self.own

    def join(self, other: Sight) -> None:
        """See what another block sees, too."""
        for name, numbers in other.own.items():
            self.own[name] = sorted({*self.own.get(name, []), *numbers})
        self._others |= other._others
        self.everything |= other.everything

    def seen_samples(self, samples: TermSamples, comm: MPI.Intracomm) -> TermSamples:
        """Those of a term on this rank that depend on the block, in chunks as large as those of the term.

        A sample does where a window of the block is not zero at one of its points, or where it depends on anything but
        subdomains that the block has. Collective on ``comm``, whose ranks have all samples among them.
        """
        if samples.resident:
            return samples
        parts = []
        for chunk in samples.chunks:
            seen = self._seen(samples, chunk)
            if seen.all():
                parts.append(chunk)
            elif seen.any():
                parts.append(chunk.subset(seen.nonzero()[:, 0], 1.0, samples.sides))
        chunks = _in_pieces(_joined(parts, samples.sides), samples.chunk_size, samples.sides) if parts else []
        here = sum(chunk.samples for chunk in chunks)
        nowhere = np.zeros((0, samples.points.x.shape[1]))
        known = vars(samples) | {
            "points": PointSet(nowhere, np.zeros(0)),
            "count": comm.allreduce(here),
            "numbers": None,
            "chunks": chunks,
        }
        return SeenSamples(**known, first=comm.exscan(here) or 0)

    def rows(self, name: str, jets: SubdomainJets) -> Tensor:
        """(A,): which rows of jets of a network are of subdomains in the block."""
        return torch.isin(jets.subdomains, on_device(np.array(self.own.get(name, []), int), jets.subdomains.device))

    def numbers(self, samples: TermSamples) -> NDArray[np.int64]:
        """Of the samples of a term on this rank, those that depend on the block, ascending. Not collective."""
        numbers, first = [], 0
        for chunk in samples.chunks:
            numbers.append(first + np.flatnonzero(on_host(self._seen(samples, chunk))))
            first += chunk.samples
        return np.concatenate(numbers) if numbers else np.zeros(0, np.int64)

    def _seen(self, samples: TermSamples, chunk: Chunk) -> Tensor:
        """(N,): which samples of a chunk depend on the block."""
        everything = self.everything or "" in self._others or bool(self._others & set(samples.networks))
        seen = torch.full((chunk.samples,), everything, dtype=torch.bool, device=chunk.x.device)
        for name in samples.networks:
            jets = chunk.embedded.get(name)
            if not everything and isinstance(jets, SubdomainJets):
                jets = jets.of(self.rows(name, jets))
                seen[jets.points[jets.here] % chunk.samples] = True
        return seen

    def with_rest(
        self, name: str, network: SubdomainNetwork, jets: SubdomainJets, components: Components
    ) -> SubdomainJets:
        """The jets of a network where only the block is evaluated, and what its other subdomains add."""
        own = self.rows(name, jets)
        with torch.no_grad():
            rest = network.forward_jet(jets.of(~own), components, Tape())
        return replace(jets.of(own), rest=rest)


def evaluations(
    whole: FlatParameters, surrogate: Surrogate, samples: Sequence[TermSamples], comm: MPI.Intracomm
) -> Array:
    """At how many points each layer (L,) of θ is evaluated in a closure over the samples. Collective."""
    places: dict[str, list[int]] = {}
    for number, layer in enumerate(whole.layers):
        places.setdefault(layer.network, []).append(number)
    counts = np.zeros(len(whole.layers))
    for term in samples:
        for chunk in term.chunks:
            for name in set(term.networks) & set(places):
                own, jets = np.array(places[name]), chunk.embedded.get(name)
                if isinstance(jets, SubdomainJets):
                    np.add.at(counts, own[on_host(jets.subdomains)], on_host(jets.here.sum(1)))
                else:
                    counts[own] += len(chunk.x)
    comm.Allreduce(MPI.IN_PLACE, counts)
    return counts


def _joined(chunks: Sequence[Chunk], sides: int) -> Chunk:
    """The samples of several chunks in one."""
    if len(chunks) == 1 or isinstance(chunks[0], DiscreteChunk | OperatorChunk):
        return chunks[0]
    counts = [chunk.samples for chunk in chunks]
    total, first, numbers = sum(counts), 0, []
    for chunk in chunks:
        own = torch.arange(first, first + chunk.samples, device=chunk.x.device)
        numbers.append(torch.cat([own + side * total for side in range(sides)]))
        first += chunk.samples

    def of_points(parts: Sequence[Tensor | None], dim: int) -> Tensor | None:
        known = [p.unflatten(dim, (sides, n)) for p, n in zip(parts, counts, strict=True) if p is not None]
        return torch.cat(known, dim=dim + 1).flatten(dim, dim + 1) if known else None

    def of_network(name: str) -> Tensor | SubdomainJets:
        parts = [chunk.embedded[name] for chunk in chunks]
        jets = [part for part in parts if isinstance(part, SubdomainJets)]
        if jets:
            return SubdomainJets.joined(jets, numbers, sides * total)
        joined = of_points([part for part in parts if isinstance(part, Tensor)], 2)
        assert joined is not None
        return joined

    x = of_points([chunk.x for chunk in chunks], 0)
    assert x is not None
    data = [chunk.data for chunk in chunks if chunk.data is not None]
    return Chunk(
        x,
        torch.cat([chunk.scale for chunk in chunks]),
        of_points([chunk.normal for chunk in chunks], 0),
        torch.cat(data) if data else None,
        {name: of_network(name) for name in chunks[0].embedded},
        of_points([chunk.base for chunk in chunks], 2),
        of_points([chunk.factor for chunk in chunks], 2),
    )


def _in_pieces(chunk: Chunk, size: int, sides: int) -> list[Chunk]:
    """As few chunks of equal size as have at most ``size`` samples."""
    count = -(-chunk.samples // size)
    if count < 2:
        return [chunk]
    whole = torch.arange(chunk.samples, device=chunk.x.device)
    return [chunk.subset(part, 1.0, sides) for part in torch.tensor_split(whole, count)]
