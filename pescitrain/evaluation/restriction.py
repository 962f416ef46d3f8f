"""φ as a function of some layers, with all others frozen: the local problems of nonlinear Schwarz methods."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import OptionError
from pescitrain.evaluation.chunks import Chunk, TermSamples
from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.samples import fill_chunks
from pescitrain.evaluation.shares import share_among
from pescitrain.networks.network import Network
from pescitrain.networks.parameters import FlatParameters, RestrictedParameters
from pescitrain.networks.subdomain import SubdomainNetwork
from pescitrain.networks.tape import Tape

Array = NDArray[np.float64]


class RestrictedEvaluator(Evaluator):
    """An :class:`Evaluator` whose vector is a block of θ.

    What lies before the block in a network does not change while the block is trained: its jets are computed once, in
    :meth:`frozen`, and every evaluation begins at the block.

    Parameters
    ----------
    whole : Evaluator           of all of θ
    active : (k,) int           sorted indices in θ of whole layers
    samples : list              the terms with the chunks that this rank evaluates
    comm : MPI.Intracomm        the ranks among which those chunks are all points
    """

    def __init__(
        self, whole: Evaluator, active: NDArray[np.integer], samples: list[TermSamples], comm: MPI.Intracomm
    ) -> None:
        assert isinstance(whole.parameters, FlatParameters)
        self.restricted = RestrictedParameters(whole.parameters, active)
        super().__init__(whole.problem, whole.surrogate, self.restricted, samples, comm)
        self.cost = whole.cost
        self.all_samples = self._advanced_samples = samples
        self._rest: Array | None = None
        self.first_layers = _first_layers(whole, self.restricted)
        self.residuals = Residuals(whole.problem, whole.surrogate, whole.parameters.unknowns, self.first_layers)

    @contextmanager
    def frozen(self, theta: Array) -> Iterator[None]:
        """Inside, the rest of θ is that of ``theta`` (n,), also in the modules. Not collective."""
        self.restricted.whole.put(theta)
        rest = np.delete(theta, self.restricted.active)
        if self._rest is None or not np.array_equal(rest, self._rest):
            self._rest = rest
            self.forget()
            self._advanced_samples = [
                replace(s, chunks=[self._advanced(s, chunk) for chunk in s.chunks]) for s in self.all_samples
            ]
        self.samples = self._advanced_samples
        try:
            with self.restricted.alone():
                yield
        finally:
            self.samples = self.all_samples

    def _advanced(self, samples: TermSamples, chunk: Chunk) -> Chunk:
        """A chunk with the jets before the block in place of those of the embedding."""
        jets = dict(chunk.embedded)
        with torch.no_grad():
            for name, last in self.first_layers.items():
                network = self.surrogate.networks[name]
                if name in jets and isinstance(network, Network):
                    jets[name] = network.forward_jet(jets[name], samples.components, Tape(), 0, last)
        return replace(chunk, embedded=jets)


def everywhere(whole: Evaluator, comm: MPI.Intracomm) -> list[TermSamples]:
    """The terms of an evaluator with all their points among the ranks of ``comm``. Collective over ``whole``'s ranks.

    The points are gathered where a rank has to have more of them; what is constant on them is computed anew, not sent.

    Raises
    ------
    OptionError     a term whose rows other ranks have
    """
    apart = [samples.term.label for samples in whole.samples if samples.resident]
    if apart and comm.size < whole.comm.size:
        raise OptionError(
            f"term {apart[0]!r} is spread over the ranks, and blocks that are trained side by side need all of it: "
            "use one rank, or a method of no local solves"
        )
    result = [share_among(samples, whole.comm, comm) for samples in whole.samples]
    for samples in result:
        fill_chunks(samples, whole.surrogate, comm.rank, comm.size, samples.chunk_size)
    return result


def closure_work(whole: Evaluator, active: NDArray[np.integer]) -> int:
    """What a closure over a block costs, in parameters: those of the layers from the first active one on."""
    assert isinstance(whole.parameters, FlatParameters)
    restricted = RestrictedParameters(whole.parameters, active)
    first, work = _first_layers(whole, restricted), 0
    for name in {layer.network for layer in restricted.layers}:
        layers = [layer for layer in whole.parameters.layers if layer.network == name]
        work += sum(layer.size for layer in layers[first.get(name, 0) :])
    return work


def _first_layers(whole: Evaluator, restricted: RestrictedParameters) -> dict[str, int]:
    """Network with a Taylor mode -> the number of its layers that come before the first active one."""
    active = {(layer.network, layer.name) for layer in restricted.layers}
    result = {}
    for name, network in whole.surrogate.networks.items():
        if isinstance(network, Network) and not isinstance(network, SubdomainNetwork):
            layers = [layer for layer in whole.parameters.layers if layer.network == name]
            places = [k for k, layer in enumerate(layers) if (layer.network, layer.name) in active]
            result[name] = places[0] if places else len(layers)
    return result
