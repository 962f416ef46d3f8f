"""The samples of local problems, on the ranks that solve them: those that their blocks see, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import OptionError
from pescitrain.evaluation.chunks import TermSamples
from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.samples import fill_chunks
from pescitrain.evaluation.shares import share_among
from pescitrain.evaluation.window_restriction import Sight, evaluations
from pescitrain.networks.parameters import FlatParameters

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LocalSamples:
    """Samples that some blocks of θ see, among a group of ranks.

    Attributes
    ----------
    terms : list of TermSamples     with the chunks that this rank evaluates
    comm : MPI.Intracomm            the group
    work : float                    of a closure over all of θ at all samples, in points times parameters
    """

    terms: list[TermSamples]
    comm: MPI.Intracomm
    work: float

    @classmethod
    def of(cls, whole: Evaluator) -> LocalSamples:
        """All samples, on all ranks of an evaluator. Collective."""
        return cls(whole.samples, whole.comm, float(layer_work(whole, whole.samples, whole.comm).sum()))

    @classmethod
    def seen(cls, whole: Evaluator, actives: Sequence[NDArray[np.integer]], group: MPI.Intracomm) -> LocalSamples:
        """What blocks with indices ``actives``, each (k,) in θ, see among a group of the ranks. Collective.

        A block of subdomains sees the points under their windows, another one all. Points go to the groups that see
        them; what is constant on them is computed anew, not sent.

        Raises
        ------
        OptionError     a term whose rows other ranks have
        """
        apart = [samples.term.label for samples in whole.samples if samples.resident]
        if apart and group.size < whole.comm.size:
            raise OptionError(
                f"term {apart[0]!r} is spread over the ranks, and blocks that are trained side by side need all of it: "
                "use one rank, or a method of no local solves"
            )
        work = cls.of(whole).work
        if group.size == whole.comm.size:
            return cls([replace(samples, chunks=list(samples.chunks)) for samples in whole.samples], group, work)
        sights, groups = _sights(whole, actives, group)
        terms = []
        for samples in whole.samples:
            terms.append(share_among(samples, [sight.numbers(samples) for sight in sights], groups, whole.comm))
            fill_chunks(terms[-1], whole.surrogate, group.rank, group.size, samples.chunk_size)
        return cls(terms, group, work)


def _sights(
    whole: Evaluator, actives: Sequence[NDArray[np.integer]], group: MPI.Intracomm
) -> tuple[list[Sight], list[int]]:
    """What each group of ranks sees, and the number of the group of each rank. Collective."""
    assert isinstance(whole.parameters, FlatParameters)
    layers = np.array(whole.parameters.layers, dtype=object)
    starts = [layer.start for layer in layers]
    own = Sight(whole.surrogate, [])  # of nothing
    for active in actives:
        own.join(Sight(whole.surrogate, layers[np.isin(starts, active)].tolist()))
    known: list[tuple[int, Sight]] = whole.comm.allgather((group.bcast(whole.comm.rank), own))
    roots = sorted({root for root, _ in known})
    return [known[root][1] for root in roots], [roots.index(root) for root, _ in known]


def layer_work(whole: Evaluator, samples: Sequence[TermSamples], comm: MPI.Intracomm) -> Array:
    """(L,): the points of samples times the parameters of each layer of θ. Collective."""
    assert isinstance(whole.parameters, FlatParameters)
    sizes = np.array([layer.size for layer in whole.parameters.layers])
    return sizes * evaluations(whole.parameters, whole.surrogate, samples, comm)
