"""The coarse step: a few parameters of all of the network are trained before the blocks are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from pescitrain.algebra import Block, System
from pescitrain.algebra.hierarchy import coarsen, finest_level, on_every_rank
from pescitrain.algebra.least_squares_start import output_layer_step
from pescitrain.errors import OptionError
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.networks.parameters import Layer
from pescitrain.networks.subdomain import SubdomainNetwork
from pescitrain.solvers.outcome import Array, Memory
from pescitrain.solvers.schwarz.local import LocalProblem
from pescitrain.solvers.schwarz.search import LineSearch, Point, point_at
from pescitrain.solvers.schwarz.subspace import Subspace

COARSE = ("none", "first", "last", "output", "interface", "gains", "network", "level")
"""none; the first or the last layer of each block; the output layer; the layers in two or more blocks; one factor for
each layer's parameters; the coarser network of the hierarchy; the coarsest level of subdomain networks.

The output layers of subdomain networks are trained together by a Gauss–Newton step, which is a sparse linear system."""

Move = Callable[[Point, bool], Point]
"""(start, whether to go on with the memory of the last step) -> where it ends; collective."""


@dataclass(frozen=True)
class CoarseStep:
    """A move, and the local problem behind it where there is one, which may keep a memory."""

    move: Move
    problem: LocalProblem | None = None

    @property
    def memory(self) -> Memory:
        """Of the coarse solve. Not collective."""
        return {} if self.problem is None else self.problem.memory

    def restore(self, memory: Memory) -> None:
        """Continue from :attr:`memory`. Not collective."""
        if self.problem is not None:
            self.problem.memory = memory

    def destroy(self) -> None:
        """Collective."""
        if self.problem is not None:
            self.problem.destroy()


def create_coarse_step(
    kind: str, accept: str, system: System, blocks: Sequence[Block], prefix: str
) -> CoarseStep | None:
    """The coarse step of a kind; its TAO is ``-<prefix>coarse_*``. Collective.

    accept: "search", a line search along the step; "copy", the step as it is.

    Raises
    ------
    OptionError     the coarsest of one level
    """
    if kind == "none":
        return None
    prefix = f"{prefix}coarse_"
    if kind in ("gains", "network"):
        subspace = Subspace(system, prefix, {})
        prolongation = _prolongation(system) if kind == "network" else None

        def in_subspace(start: Point, _: bool) -> Point:
            basis = _gains(system, start.theta) if prolongation is None else prolongation
            return subspace.minimise(start, basis)

        return CoarseStep(in_subspace)
    search = LineSearch(system, prefix)

    def accepted(start: Point, change: Array) -> Point:
        if not float(start.gradient @ change) < 0.0:
            return start
        if accept == "copy":
            return point_at(system, start.theta + change)
        return search.along(start, change)[0]

    if kind == "output" and _subdomain_networks(system):
        return CoarseStep(lambda start, _: accepted(start, output_layer_step(system, start.theta)))
    layers = _layers(kind, system, blocks)
    active = np.concatenate([np.arange(layer.start, layer.stop) for layer in layers]).astype(np.int32)
    problem = LocalProblem(system, Block("coarse", active, active), prefix, LocalSamples.of(system.evaluator))

    def on_layers(start: Point, keep: bool) -> Point:
        correction = problem.solve(start.theta, start, keep)
        system.evaluator.counters.add(correction.cost)
        return start if correction.trouble else accepted(start, correction.change)

    return CoarseStep(on_layers, problem)


def _subdomain_networks(system: System) -> dict[str, SubdomainNetwork]:
    networks = system.evaluator.surrogate.networks
    return {name: network for name, network in networks.items() if isinstance(network, SubdomainNetwork)}


def _layers(kind: str, system: System, blocks: Sequence[Block]) -> list[Layer]:
    layers = system.layout.layers
    if kind == "level":
        return _coarsest_level(system)
    if kind == "output":
        return [layer for layer in layers if layer.name.split(".")[-1] == "output"] or layers[-1:]
    if kind == "interface":
        held = np.zeros(system.layout.size, dtype=int)
        for block in blocks:
            held[block.active] += 1
        return [layer for layer in layers if held[layer.start] > 1]
    ends = [int(block.owned[0 if kind == "first" else -1]) for block in blocks]
    return [layer for layer in layers if any(layer.start <= end < layer.stop for end in ends)]


def _coarsest_level(system: System) -> list[Layer]:
    """The networks of the first level of each subdomain network."""
    networks, result = _subdomain_networks(system), []
    for name, network in networks.items():
        coarsest, *finer = network.level_sizes()
        result += [layer for layer in system.layout.layers if layer.network == name][: coarsest if finer else 0]
    if not result:
        raise OptionError(
            "a coarse step on the coarsest level of subdomains needs more than one: give -net_subdomains 1,8, or take "
            "the output layers, -tao_spqn_coarse output"
        )
    return result


def _gains(system: System, theta: Array) -> Array:
    """(n, layers): a change of the factor of each layer's parameters."""
    layers = system.layout.layers
    basis = np.zeros((len(theta), len(layers)))
    for column, layer in enumerate(layers):
        basis[layer.start : layer.stop, column] = theta[layer.start : layer.stop]
    return basis[:, basis.any(axis=0)]


def _prolongation(system: System) -> csr_array:
    """(n, n of the coarser network): its parameters to those of the trained network, on all ranks. Collective."""
    _, transfer = coarsen(finest_level(system.layout), "both")
    whole = on_every_rank(transfer)
    transfer.destroy()
    return whole
