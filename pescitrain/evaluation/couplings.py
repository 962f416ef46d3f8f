"""Which layers of θ meet at a sample: the sparsity of the Gauss–Newton matrix, and the neighbours of a subdomain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from pescitrain.evaluation.chunks import TermSamples
from pescitrain.networks.device import on_host
from pescitrain.networks.parameters import Layer
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.problem.discrete import Discrete
from pescitrain.problem.surrogate import Surrogate


@dataclass(frozen=True)
class Couplings:
    """Of L layers, of which some are the networks of subdomains.

    ``coupled``: for each layer the sorted numbers of those that its rows of JᵀJ reach, its own among them;
    ``neighbours``: those of them on the same level of subdomains.
    """

    coupled: list[NDArray[np.intp]]
    neighbours: list[NDArray[np.intp]]


def find_couplings(
    surrogate: Surrogate, layers: Sequence[Layer], samples: Sequence[TermSamples], comm: MPI.Intracomm
) -> Couplings | None:
    """Of a surrogate with subdomain networks; None where there are none. Collective.

    Two subdomains are coupled where their supports overlap, or where a periodic pair of samples joins them or ones that
    overlap them, as pairs may move; anything else is coupled with everything. The equations of a simulation couple all.
    """
    networks = {name: n for name, n in surrogate.networks.items() if isinstance(n, SubdomainNetwork)}
    if not networks:
        return None
    level, shape = np.full(len(layers), -1), (len(layers), len(layers))
    places = {name: np.array([i for i, layer in enumerate(layers) if layer.network == name]) for name in networks}
    last, rows, columns = 0, [], []
    for name, network in networks.items():
        sizes = network.level_sizes()
        level[places[name]] = last + np.repeat(np.arange(len(sizes)), sizes)
        last += len(sizes)
        for other, partner in networks.items():
            row, column = network.windows.overlapping(partner.windows)
            rows.append(places[name][row])
            columns.append(places[other][column])
    row, column = np.concatenate(rows), np.concatenate(columns)
    overlap = _pattern(row, column, shape)
    same = level[row] == level[column]
    matrix = overlap
    for term in samples:
        if term.sides == 2:
            for first in term.networks:
                for second in term.networks:
                    if first in networks and second in networks:
                        one, other = _met_at_samples(term, first, second, len(places[first]), len(places[second]), comm)
                        joined = _pattern(places[first][one], places[second][other], shape)
                        matrix = matrix + overlap @ joined @ overlap
    everything = np.arange(len(layers))
    whole = level < 0 if not any(isinstance(term.term, Discrete) for term in samples) else np.ones(len(layers), bool)
    others = np.flatnonzero(whole)
    coupled = [everything if whole[i] else np.union1d(near, others) for i, near in enumerate(_rows(matrix))]
    return Couplings(coupled, list(_rows(_pattern(row[same], column[same], shape))))


def _pattern(row: NDArray[np.intp], column: NDArray[np.intp], shape: tuple[int, int]) -> csr_array:
    """A sparse matrix that is positive at these entries."""
    return csr_array(coo_array((np.ones(len(row)), (row, column)), shape=shape))


def _rows(pattern: csr_array) -> Iterator[NDArray[np.intp]]:
    """The sorted columns of the entries of each row."""
    for first, last in pairwise(pattern.indptr):
        yield np.sort(pattern.indices[first:last]).astype(np.intp)


def _met_at_samples(
    term: TermSamples, first: str, second: str, rows: int, columns: int, comm: MPI.Intracomm
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which subdomains of two networks see a sample together, from either side of a pair. Collective."""
    met = [np.zeros(0, np.int64)]
    for chunk in term.chunks:
        seen = []
        for name, count in ((first, rows), (second, columns)):
            jets = chunk.embedded[name]
            assert isinstance(jets, SubdomainJets)
            here = on_host(jets.here)
            numbers = np.broadcast_to(on_host(jets.subdomains)[:, None], here.shape)[here]
            seen.append(_pattern(numbers, on_host(jets.points)[here] % chunk.samples, (count, chunk.samples)))
        row, column = (seen[0] @ seen[1].T).nonzero()
        met.append(np.unique(row.astype(np.int64) * columns + column))
    one, other = np.divmod(np.unique(np.concatenate(comm.allgather(np.concatenate(met)))), columns)
    return one, other
