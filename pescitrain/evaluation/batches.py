"""Batches of samples in place of all of them: stochastic objectives, the same for any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.evaluation.chunks import Chunk, TermSamples
from pescitrain.geometry.permutation import permuted
from pescitrain.networks.device import on_device

Indices = NDArray[np.intp]
Batch = tuple[int, int, float]
"""The number of a batch, the size of batches and their overlap, which say what it holds."""


class Batches:
    """The samples of all terms in a random order, cut into the batches of an epoch; another order in each epoch.

    Every term gives its share to each batch, scaled so that φ of a batch is that of all samples on average. What a
    batch holds follows from the seed, its number and the global numbers of the samples.

    Parameters
    ----------
    samples : list      the terms, with this rank's chunks
    size : int          samples in a batch, of all terms together
    seed : int
    overlap : float     a batch has this part of the next one, too

    ``number``: the present batch; None: all samples.
    """

    def __init__(
        self, samples: Sequence[TermSamples], comm: MPI.Intracomm, size: int, seed: int, overlap: float = 0.0
    ) -> None:
        self._samples, self._comm, self.size, self.seed, self.overlap = samples, comm, size, seed, overlap
        self.number: int | None = 0
        self._chunks: list[tuple[int, TermSamples, Chunk]] | None = None

    @property
    def total(self) -> int:
        """Samples of all terms over all ranks."""
        return sum(samples.count for samples in self._samples)

    @property
    def count(self) -> int:
        """Batches of an epoch."""
        return max(1, self.total // self.size)

    @property
    def share(self) -> float:
        """What part of all samples the present batch is."""
        if self.number is None or self.count == 1:
            return 1.0
        return (1.0 + self.overlap) / self.count

    @property
    def shown(self) -> Batch | None:
        """The present batch; None: all samples."""
        return None if self.number is None else (self.number, self.size, self.overlap)

    def show(self, number: int | None) -> None:
        """Evaluate batch ``number`` from now on: 0, 1, … over all epochs; None: all samples. Not collective."""
        if number != self.number:
            self.number, self._chunks = number, None

    def resize(self, size: int) -> None:
        """Batches of another size from now on. Not collective."""
        self.size, self._chunks = size, None

    def forget(self) -> None:
        """The samples have changed. Not collective."""
        self._chunks = None

    def chunks(self) -> list[tuple[int, TermSamples, Chunk]]:
        """What this rank has of the present batch. Not collective."""
        if self._chunks is None:
            self._chunks = [
                (term, samples, chunk)
                for term, samples in enumerate(self._samples)
                for chunk in (samples.chunks if self.number is None else self._of_term(samples, self.members(term)))
            ]
        return self._chunks

    def members(self, term: int) -> Indices:
        """Sorted numbers of the samples of a term in the present batch, which is one: at least one."""
        assert self.number is not None
        epoch, place = divmod(self.number, self.count)
        total = self._samples[term].count
        first, last = (total * k // self.count for k in (place, place + 1))
        # A term of fewer samples than there are batches gives one to each, some twice in an epoch.
        more = 0 if self.count == 1 else round(self.overlap * (last - first))
        places = np.arange(first, max(last + more, first + 1)) % total
        return np.sort(permuted(places, total, np.random.default_rng((self.seed, epoch, term))))

    def _of_term(self, samples: TermSamples, members: Indices) -> list[Chunk]:
        total = samples.count
        scale = float(np.sqrt(total / len(members)))
        begin, result = samples.begin(self._comm.rank, self._comm.size), []
        for chunk in samples.chunks:
            first, last = np.searchsorted(members, (begin, begin + chunk.samples))
            if last > first:
                local = on_device(members[first:last] - begin, chunk.scale.device)
                result.append(chunk.subset(local, scale, samples.sides))
            begin += chunk.samples
        return result
