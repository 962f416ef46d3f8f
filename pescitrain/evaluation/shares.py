"""Which samples a rank has: an equal share of them, in the order of the subdomains where there are any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.evaluation.chunks import TermSamples
from pescitrain.geometry import PointSequence, PointSet
from pescitrain.geometry.points import Integers, share
from pescitrain.networks.device import device_of, on_device, on_host
from pescitrain.networks.subdomain import SubdomainNetwork
from pescitrain.problem.surrogate import Surrogate

Array = NDArray[np.float64]
Rows = TypeVar("Rows", bound=np.generic)

OWNERS_AT_A_TIME = 4096
"""Points, as windows in parts of a mesh are found for all subdomains."""


def draw_share(
    samples: TermSamples, points: PointSequence, comm: MPI.Intracomm, multipliers: Array | None = None
) -> None:
    """Give a term points, of which this rank draws its share: nobody ever has all. Not collective.

    ``multipliers`` (N,): of all points, where they are at hand.
    """
    samples.count, samples.measure = len(points), points.measure
    own = (0, len(points)) if samples.resident else share(len(points), comm.rank, comm.size)
    samples.points = points.draw(*own)
    samples.multipliers = None if multipliers is None else multipliers[slice(*own)]


def order_by_subdomain(samples: TermSamples, surrogate: Surrogate, comm: MPI.Intracomm) -> None:
    """Share the points out anew, so that those of a rank, and of a chunk, are seen by few networks. Collective.

    They are sorted by subdomain, those of one in the order in which they were; data keep their order. A counting sort:
    a rank learns how many points each subdomain has in all and on the ranks before it, and sends each of its own once.
    """
    networks = [n for name in samples.networks if isinstance(n := surrogate.networks[name], SubdomainNetwork)]
    if not networks or samples.term.place == "points":
        return
    windows = networks[0].windows
    x = on_device(samples.points.x, device_of(surrogate))
    owners = on_host(torch.cat([windows.owners(part) for part in x.split(OWNERS_AT_A_TIME)]))
    counts = np.bincount(owners, minlength=len(windows))
    before, total = _before_and_total(counts, comm)
    # Short integers are sorted by their digits.
    order = np.argsort(owners.astype(np.min_scalar_type(len(windows))), kind="stable")
    first = np.cumsum(total) - total + before - (np.cumsum(counts) - counts)
    _share_rows(samples, order, first[owners[order]] + np.arange(len(order)), comm)


def share_union(
    samples: TermSamples, parts: Sequence[PointSet], multipliers: Array | None, comm: MPI.Intracomm
) -> None:
    """Give a term the union of sets of points, set after set. Collective.

    ``parts``: what this rank has of each set, after what the ranks before it have of that; ``multipliers`` (N,): of all
    that it has. Weights are taken as they are.
    """
    lengths = np.array([len(part) for part in parts])
    everyone = np.array(comm.allgather(lengths))
    starts = np.cumsum(everyone.sum(0)) - everyone.sum(0) + everyone[: comm.rank].sum(0)
    positions = [start + np.arange(length) for start, length in zip(starts, lengths, strict=True)]
    samples.points, samples.multipliers, samples.count = PointSet.concatenate(parts), multipliers, int(everyone.sum())
    _share_rows(samples, slice(None), np.concatenate(positions), comm)


def share_among(
    samples: TermSamples, seen: Sequence[Integers], groups: Sequence[int], comm: MPI.Intracomm
) -> TermSamples:
    """The same term without chunks; the points that a group of ranks sees are shared among them. Collective.

    ``groups`` (P,): the number of the group of each rank; ``seen``: for each group, which of this rank's points it
    sees, ascending. A point goes to every group that sees it, and to no other rank.
    """
    counts = np.array([len(numbers) for numbers in seen])
    before, total = _before_and_total(counts, comm)
    order, outgoing, sizes, met = [], [], Counter(groups), Counter[int]()
    for group in groups:
        begin, end = (at - int(before[group]) for at in share(int(total[group]), met[group], sizes[group]))
        met[group] += 1
        order.append(seen[group][max(begin, 0) : max(end, 0)])
        outgoing.append(len(order[-1]))
    sent = np.concatenate(order)
    exchange = _RowExchange(np.array(outgoing), comm)

    def received(rows: NDArray[Rows] | None) -> NDArray[Rows] | None:
        return None if rows is None else exchange.moved(rows[sent])

    points, count = samples.points, int(total[groups[comm.rank]])
    x, weights = exchange.moved(points.x[sent]), exchange.moved(points.weights[sent])
    numbers = exchange.moved(samples.begin(comm.rank, comm.size) + sent)
    return replace(
        samples,
        points=PointSet(x, weights, received(points.normals), received(points.cells)),
        multipliers=received(samples.multipliers),
        numbers=None if count == samples.count else numbers,
        count=count,
        chunks=[],
    )


def _before_and_total(counts: Integers, comm: MPI.Intracomm) -> tuple[Integers, Integers]:
    """The sums of counts over the ranks before this one, and over all. Collective."""
    before, total = np.zeros_like(counts), np.empty_like(counts)
    comm.Exscan(counts, before)
    if comm.rank == 0:
        before[:] = 0  # MPI leaves it undefined
    comm.Allreduce(counts, total)
    return before, total


class _RowExchange:
    """Sends rows of arrays, the first ``outgoing[0]`` to rank 0, and so on. Construction is collective."""

    def __init__(self, outgoing: Integers, comm: MPI.Intracomm) -> None:
        self.comm, self.outgoing, self.incoming = comm, outgoing, np.empty_like(outgoing)
        comm.Alltoall(outgoing, self.incoming)

    def moved(self, rows: NDArray[Rows]) -> NDArray[Rows]:
        """What this rank is sent of an array (N, …): rows of rank 0 first. Collective."""
        width = int(np.prod(rows.shape[1:]))
        received = np.empty((self.incoming.sum(), *rows.shape[1:]), rows.dtype)
        parts = ((self.outgoing * width).tolist(), (self.incoming * width).tolist())
        self.comm.Alltoallv([np.ascontiguousarray(rows), parts[0]], [received, parts[1]])
        return received


def _share_rows(samples: TermSamples, order: Integers | slice, position: Integers, comm: MPI.Intracomm) -> None:
    """Points to the ranks whose shares their positions, ascending in this order, are in. Collective."""
    ends = [0, *(share(samples.count, rank, comm.size)[1] for rank in range(comm.size))]
    exchange = _RowExchange(np.diff(np.searchsorted(position, ends)), comm)
    place = np.argsort(exchange.moved(position), kind="stable")  # runs of ascending positions, one from each rank

    def sorted_rows(rows: NDArray[Rows] | None) -> NDArray[Rows] | None:
        return None if rows is None else exchange.moved(rows[order])[place]

    points = samples.points
    x, weights = exchange.moved(points.x[order])[place], exchange.moved(points.weights[order])[place]
    samples.points = PointSet(x, weights, sorted_rows(points.normals), sorted_rows(points.cells))
    samples.multipliers = sorted_rows(samples.multipliers)
