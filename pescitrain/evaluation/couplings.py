"""Which layers of θ meet at a sample: the sparsity of the Gauss–Newton matrix, and the neighbours of a subdomain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

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
    matrix = np.ones((len(layers), len(layers)), dtype=bool)
    level = np.full(len(layers), -1)
    places = {name: np.array([i for i, layer in enumerate(layers) if layer.network == name]) for name in networks}
    for number, (name, network) in enumerate(networks.items()):
        sizes = network.level_sizes()
        level[places[name]] = 1000 * number + np.repeat(np.arange(len(sizes)), sizes)
        for other, partner in networks.items():
            matrix[np.ix_(places[name], places[other])] = network.overlapping(partner)
    overlap = matrix.copy()
    for term in samples:
        if isinstance(term.term, Discrete):
            matrix[:] = True
        if term.sides == 2:
            for first in term.networks:
                for second in term.networks:
                    if first in networks and second in networks:
                        met = _met_at_samples(term, first, second, len(places[first]), len(places[second]))
                        comm.Allreduce(MPI.IN_PLACE, met, MPI.LOR)
                        own, other = (networks[name].overlapping(networks[name]) for name in (first, second))
                        matrix[np.ix_(places[first], places[second])] |= own @ met @ other
    same = overlap & (level[:, None] == level) & (level >= 0)
    return Couplings([np.flatnonzero(row) for row in matrix], [np.flatnonzero(row) for row in same])


def _met_at_samples(term: TermSamples, first: str, second: str, rows: int, columns: int) -> NDArray[np.bool_]:
    """Which subdomains of two networks see one of this rank's samples together, from either side of a pair."""
    met = np.zeros((rows, columns), dtype=bool)
    for chunk in term.chunks:
        seen = []
        for name, count in ((first, rows), (second, columns)):
            jets = chunk.embedded[name]
            assert isinstance(jets, SubdomainJets)
            here = np.zeros((count, chunk.samples), dtype=np.float32)
            present = on_host(jets.windows[0, :, 0]) > 0.0
            numbers, points = on_host(jets.subdomains), on_host(jets.points)
            here[np.broadcast_to(numbers[:, None], points.shape)[present], points[present] % chunk.samples] = 1.0
            seen.append(here)
        met |= seen[0] @ seen[1].T > 0.0
    return met
