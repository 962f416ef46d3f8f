"""Which samples a rank has: an equal share of them, in the order of the subdomains where there are any."""

from __future__ import annotations

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
    before = np.zeros_like(counts)
    comm.Exscan(counts, before)
    if comm.rank == 0:
        before[:] = 0  # MPI leaves it undefined
    total = np.empty_like(counts)
    comm.Allreduce(counts, total)
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


def _share_rows(samples: TermSamples, order: Integers | slice, position: Integers, comm: MPI.Intracomm) -> None:
    """Points to the ranks whose shares their positions, ascending in this order, are in. Collective."""
    ends = [0, *(share(samples.count, rank, comm.size)[1] for rank in range(comm.size))]
    outgoing = np.diff(np.searchsorted(position, ends))
    incoming = np.empty_like(outgoing)
    comm.Alltoall(outgoing, incoming)

    def moved(rows: NDArray[Rows]) -> NDArray[Rows]:
        width = int(np.prod(rows.shape[1:]))
        received = np.empty((incoming.sum(), *rows.shape[1:]), rows.dtype)
        comm.Alltoallv(
            [np.ascontiguousarray(rows), (outgoing * width).tolist()], [received, (incoming * width).tolist()]
        )
        return received

    place = np.argsort(moved(position), kind="stable")  # runs of ascending positions, one from each rank

    def sorted_rows(rows: NDArray[Rows] | None) -> NDArray[Rows] | None:
        return None if rows is None else moved(rows[order])[place]

    points = samples.points
    x, weights = moved(points.x[order])[place], moved(points.weights[order])[place]
    samples.points = PointSet(x, weights, sorted_rows(points.normals), sorted_rows(points.cells))
    samples.multipliers = sorted_rows(samples.multipliers)


def gather_points(samples: TermSamples, comm: MPI.Intracomm) -> tuple[PointSet, Array | None]:
    """All points of a term and the multipliers of all, on every rank: for who cannot do with a share. Collective."""
    if samples.resident:
        return samples.points, samples.multipliers
    counts = np.diff([0, *(share(samples.count, rank, comm.size)[1] for rank in range(comm.size))])

    def gathered(rows: NDArray[Rows] | None) -> NDArray[Rows] | None:
        if rows is None:
            return None
        whole = np.empty((samples.count, *rows.shape[1:]), rows.dtype)
        comm.Allgatherv(np.ascontiguousarray(rows), [whole, (counts * int(np.prod(rows.shape[1:]))).tolist()])
        return whole

    points = samples.points
    x, weights = gathered(points.x), gathered(points.weights)
    assert x is not None
    assert weights is not None
    return PointSet(x, weights, gathered(points.normals), gathered(points.cells)), gathered(samples.multipliers)


def share_among(samples: TermSamples, comm: MPI.Intracomm, group: MPI.Intracomm) -> TermSamples:
    """The same term without chunks, its points shared among a group of the ranks of ``comm``. Collective over both.

    A group of one rank has all points.
    """
    if samples.resident or group.size == comm.size:
        return replace(samples, chunks=[])
    points, multipliers = gather_points(samples, comm)
    own = slice(*share(samples.count, group.rank, group.size))
    multipliers = None if multipliers is None else multipliers[own]
    return replace(samples, chunks=[], points=points.slice(group.rank, group.size), multipliers=multipliers)
