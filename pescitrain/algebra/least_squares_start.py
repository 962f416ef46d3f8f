"""Where training begins: output layers that solve the linearized least-squares problem, hidden layers as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from torch import nn

from pescitrain.algebra.multifrontal import EliminationOrder, MultifrontalCholesky
from pescitrain.algebra.system import System
from pescitrain.evaluation.jacobian import GramBlock
from pescitrain.networks.network import Network
from pescitrain.networks.parameters import Entry, FlatParameters, Layer

Array = NDArray[np.float64]

RIDGE = 1e-6
"""Of the least squares, relative to the mean of the diagonal: large weights that cancel one another are a bad start."""

RIDGES = 6
"""Each a hundred times the one before, where a factorisation breaks down."""


def least_squares_start(system: System) -> Array:
    """θ (n,) of the modules with other output layers, or as it is where those would not lower φ. Collective.

    One :func:`output_layer_step`, which solves for them where the equations are linear: the features of the hidden
    layers are random ones (extreme learning machines: Dwivedi & Srinivasan, Neurocomputing 391 (2020) 96; in
    subdomains: Dong & Li, Comput. Methods Appl. Mech. Engrg. 387 (2021) 114129).
    """
    evaluator, theta = system.evaluator, system.evaluator.parameters.current()
    change = output_layer_step(system, theta)
    if not change.any():
        return theta
    better = evaluator.objective(theta + change).objective < evaluator.objective(theta).objective
    return theta + change if better else theta


def output_layer_step(system: System, theta: Array) -> Array:
    """A Gauss–Newton step (n,) from θ in the output layers alone; zero where there are none. Collective.

    It costs a linearization and a factorisation, and φ at θ is known afterwards.
    """
    evaluator = system.evaluator
    parameters, change = evaluator.parameters, np.zeros_like(theta)
    assert isinstance(parameters, FlatParameters)
    parts = _output_parts(parameters, evaluator.surrogate.networks)
    if not parts:
        return change
    linearization = evaluator.linearize(theta)
    numbers = {name: i for i, name in enumerate(parts)}
    layers, position = [], 0
    for name, (entry, part) in parts.items():
        size = len(range(*part.indices(entry.stop - entry.start)))
        layers.append(Layer(name, "", position, position + size))
        position += size
    blocks = [
        _restricted(block, parts, layers, numbers)
        for block in linearization.gauss_newton_sparse()
        if block.row.name in parts and block.column.name in parts
    ]
    cholesky = MultifrontalCholesky(blocks, EliminationOrder(layers, _coupled(system, parts)), evaluator.comm)
    where = np.concatenate([np.arange(entry.start, entry.stop)[part] for entry, part in parts.values()])
    gradient = linearization.transpose_times(linearization.residual)[where]
    ridge = RIDGE * float(cholesky.diagonal.mean())
    for _attempt in range(RIDGES):
        try:
            change[where] = -cholesky.factor(ridge)(gradient)
            break
        except LinAlgError:  # the same on all ranks
            ridge *= 100.0
    return change


def _output_parts(parameters: FlatParameters, networks: nn.ModuleDict) -> dict[str, tuple[Entry, slice]]:
    """Name in θ of what the outputs are linear in -> the entry, and which of its numbers."""
    wanted = {
        f"{name}.{own}": part
        for name, network in networks.items()
        if isinstance(network, Network)
        for own, part in network.output_parts().items()
    }
    return {entry.name: (entry, wanted[entry.name]) for entry in parameters.entries if entry.name in wanted}


def _restricted(
    block: GramBlock, parts: dict[str, tuple[Entry, slice]], layers: list[Layer], numbers: dict[str, int]
) -> GramBlock:
    """Of the output parts alone, where they are among themselves."""
    rows, columns = parts[block.row.name][1], parts[block.column.name][1]
    moved = []
    for entry in (block.row, block.column):
        layer = layers[numbers[entry.name]]
        moved.append(replace(entry, start=layer.start, stop=layer.stop))
    return GramBlock(moved[0], moved[1], block.values[rows, columns])


def _coupled(system: System, parts: dict[str, tuple[Entry, slice]]) -> list[NDArray[np.intp]]:
    """For each part the numbers of those that it meets."""
    if system.couplings is None:
        return [np.arange(len(parts)) for _ in parts]
    layers = system.layout.layers
    starts = np.array([layer.start for layer in layers])
    layer_of = np.array([np.searchsorted(starts, entry.start, side="right") - 1 for entry, _ in parts.values()])
    return [np.flatnonzero(np.isin(layer_of, system.couplings.coupled[number])) for number in layer_of]
