"""φ as a function of some layers, with all others frozen: the local problems of nonlinear Schwarz methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pescitrain.evaluation.chunks import Chunk, TermSamples
from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.local_samples import LocalSamples, layer_work
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.window_restriction import Sight
from pescitrain.networks.network import Network
from pescitrain.networks.parameters import FlatParameters, RestrictedParameters
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.networks.tape import Tape

Array = NDArray[np.float64]


class RestrictedEvaluator(Evaluator):
    """An :class:`Evaluator` whose vector is a block of θ. Construction is collective on the ranks of its samples.

    What lies before the block in a network does not change while the block is trained: its jets are computed once, in
    :meth:`frozen`, and every evaluation begins at the block.

    A block with networks of subdomains has only the samples that depend on it, so that its φ is less than that of all
    of θ by a constant; what the frozen networks of other subdomains add there is computed once as well. Its evaluations
    count by their part of the work: points times parameters.

    Parameters
    ----------
    whole : Evaluator           of all of θ
    active : (k,) int           sorted indices in θ of whole layers
    local : LocalSamples        the samples that the block sees, and maybe more, and the ranks that have them; None: all
                                samples, on the ranks of ``whole``
    """

    def __init__(self, whole: Evaluator, active: NDArray[np.integer], local: LocalSamples | None = None) -> None:
        assert isinstance(whole.parameters, FlatParameters)
        self.restricted = RestrictedParameters(whole.parameters, active)
        self.sight = Sight(whole.surrogate, self.restricted.layers)
        local = LocalSamples.of(whole) if local is None else local
        samples, comm, part, part_of_frozen = local.terms, local.comm, 1.0, 0.0
        if self.sight.own:
            samples = [self.sight.seen_samples(term, comm) for term in samples]
            own, work = _numbers(whole, self.restricted), layer_work(whole, samples, comm)
            part, part_of_frozen = work[own].sum() / local.work, np.delete(work, own).sum() / local.work
        super().__init__(whole.problem, whole.surrogate, self.restricted, samples, comm)
        self.cost, self.cost_of_frozen = whole.cost * float(part), whole.cost * float(part_of_frozen)
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
            self.counters.objective += self.cost_of_frozen
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
        """A chunk with the jets before the block in place of those of the embedding, or beside those of the block."""
        jets = dict(chunk.embedded)
        for name, jet in chunk.embedded.items():
            network = self.surrogate.networks[name]
            if isinstance(network, SubdomainNetwork) and isinstance(jet, SubdomainJets):
                jets[name] = self.sight.with_rest(name, network, jet, samples.components)
        with torch.no_grad():
            for name, last in self.first_layers.items():
                network = self.surrogate.networks[name]
                if name in jets and isinstance(network, Network):
                    jets[name] = network.forward_jet(jets[name], samples.components, Tape(), 0, last)
        return replace(chunk, embedded=jets)


def closure_work(whole: Evaluator, actives: Sequence[NDArray[np.integer]]) -> list[float]:
    """What a closure over each block costs, in points times parameters: of the subdomains in it, and of the layers of
    other networks from the first active one on. Collective."""
    assert isinstance(whole.parameters, FlatParameters)
    layers, work, result = whole.parameters.layers, layer_work(whole, whole.samples, whole.comm), []
    for active in actives:
        restricted = RestrictedParameters(whole.parameters, active)
        first, evaluated = _first_layers(whole, restricted), set(_numbers(whole, restricted).tolist())
        for name in {layer.network for layer in restricted.layers} & set(first):
            evaluated |= set([k for k, layer in enumerate(layers) if layer.network == name][first[name] :])
        result.append(float(work[sorted(evaluated)].sum()))
    return result


def _numbers(whole: Evaluator, restricted: RestrictedParameters) -> NDArray[np.intp]:
    """Those of the layers of a block in θ."""
    assert isinstance(whole.parameters, FlatParameters)
    own = {(layer.network, layer.name) for layer in restricted.layers}
    return np.array([k for k, layer in enumerate(whole.parameters.layers) if (layer.network, layer.name) in own])


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
