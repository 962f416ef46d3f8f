"""Coarser networks, and the sparse matrices that prolong their parameters: the hierarchy of ``-pc_type mg``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.sparse import csr_array, vstack

from pescitrain.algebra.layout import Layout, ParameterLayout
from pescitrain.errors import OptionError
from pescitrain.networks.parameters import Layer

Coarsening = Literal["depth", "width", "both"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """The parameters of one network of the hierarchy: their distribution, and the shapes of each layer's tensors.

    ``number``: 0 for the network that is trained, 1 for the next coarser one, …
    """

    layout: Layout
    shapes: list[list[Shape]]
    number: int = 0


@dataclass(frozen=True)
class _Transfer:
    """The layers of a coarser network, and P as a list of entries."""

    layers: list[Layer]
    shapes: list[list[Shape]]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: NDArray[np.float64]


def finest_level(layout: ParameterLayout) -> Level:
    """The network that is trained."""
    entries_of = layout.parameters.entries_of
    return Level(layout, [[tuple(e.parameter.shape) for e in entries_of(layer)] for layer in layout.layers])


def coarsen(
    fine: Level, kind: Coarsening, generator: np.random.Generator | None = None, linear: bool = False
) -> tuple[Level, PETSc.Mat]:
    """A network of half the depth or width (or both), and P (n_fine, n_coarse). Collective.

    depth   hidden layers of equal shapes that follow each other become one by twos: both get its parameters, which is
            prolongation constant in time for a residual network (Kopaničáková & Krause, arXiv:2107.07572); where
            ``linear``, the second one gets the mean of its neighbours' parameters, if it has two
    width   neurons 2j and 2j + 1 of every hidden layer become one: both get its incoming weights and bias, and each one
            half of its outgoing weights, so that the prolonged network is the coarse one; with a ``generator`` they are
            shared as β and 1 − β, β ∈ (0.3, 0.7)

    What lives on a rank stays there: a coarse parameter is owned by the rank of the first that it prolongs to.

    Raises
    ------
    OptionError     width in a network that is not a chain of affine layers; nothing is left to coarsen; linear in width
    """
    layers, shapes = fine.layout.layers, fine.shapes
    if any(
        layer.network and len(shape) == 1 and len(shape[0]) == 1 for layer, shape in zip(layers, shapes, strict=True)
    ):
        raise OptionError(
            "networks in subdomains have no coarser ones in a hierarchy: leave out what needs -hier_levels, and give a "
            "coarse level by -net_subdomains 1,4"
        )
    if linear and kind != "depth":
        raise OptionError(f"-hier_prolongation linear is along the depth alone: use -hier_type depth, not {kind}")
    transfer = _by_width(layers, shapes, generator) if kind == "width" else _by_depth(layers, shapes, linear)
    if kind == "both":
        transfer = _product(transfer, _by_width(transfer.layers, transfer.shapes, generator))
    size, old = transfer.layers[-1].stop, fine.layout
    if size == old.size:
        raise OptionError(
            f"-hier_type {kind}: a network of {len(old.layers)} layers cannot be coarsened further; lower -hier_levels "
            f"to {fine.number + 1}"
        )
    first = np.full(size, old.size)
    np.minimum.at(first, transfer.columns, transfer.rows)
    layout = Layout(transfer.layers, np.searchsorted(first, old.starts), old.comm)
    coarse = Level(layout, transfer.shapes, fine.number + 1)
    return coarse, _matrix(transfer, old, coarse.layout)


def on_every_rank(transfer: PETSc.Mat) -> csr_array:
    """A distributed matrix as one on each rank. Collective."""
    starts, columns, values = transfer.getValuesCSR()
    own = csr_array((values, columns, starts), shape=(transfer.getLocalSize()[0], transfer.getSize()[1]))
    return csr_array(vstack(transfer.getComm().tompi4py().allgather(own)))


def _openings(layers: list[Layer]) -> list[bool]:
    """Which layers are the first of their network: they see the inputs, whatever their shape."""
    return [k == 0 or layers[k - 1].network != layer.network for k, layer in enumerate(layers)]


def _by_depth(fine: list[Layer], fine_shapes: list[list[Shape]], linear: bool) -> _Transfer:
    """Pairs of equal neighbours; the last of an odd number stays alone."""
    layers, shapes, rows, columns, values = [], [], [], [], []
    position = 0
    triples = zip(fine, fine_shapes, _openings(fine), strict=True)
    for (network, shape, _), group in groupby(triples, lambda triple: (triple[0].network, *triple[1:])):
        members = [layer for layer, *_ in group]
        for children in (members[i : i + 2] for i in range(0, len(members), 2)):
            size = children[0].size
            layers.append(Layer(children[0].name, network, position, position + size))
            shapes.append(shape)
            between = linear and children[-1] is not members[-1] and len(children) == 2
            for child in children:
                weights = (0.5, 0.5) if between and child is children[1] else (1.0,)
                for neighbour, weight in enumerate(weights):
                    rows.append(np.arange(child.start, child.stop))
                    columns.append(np.arange(position, position + size) + neighbour * size)
                    values.append(np.full(size, weight))
            position += size
    return _Transfer(layers, shapes, np.concatenate(rows), np.concatenate(columns), np.concatenate(values))


def _by_width(fine: list[Layer], fine_shapes: list[list[Shape]], generator: np.random.Generator | None) -> _Transfer:
    """Pairs of neighbouring neurons in every hidden layer."""
    layers, shapes, rows, columns, values = [], [], [], [], []
    coarse_position = 0
    for index, (layer, shape, first) in enumerate(zip(fine, fine_shapes, _openings(fine), strict=True)):
        last = index == len(fine) - 1 or fine[index + 1].network != layer.network
        start, position, coarse_shape = coarse_position, layer.start, []
        for tensor in shape:
            if layer.network and (len(shape[0]) != 2 or len(tensor) > 2):
                raise OptionError(
                    "-hier_type width needs a chain of affine layers: use -net_type mlp or resnet, or depth"
                )
            opens = first or not layer.network
            row, column, value, halved = _pairs_of_tensor(tensor, shape[0], opens, last, generator)
            rows.append(position + row)
            columns.append(coarse_position + column)
            values.append(value)
            position += int(np.prod(tensor))
            coarse_position += int(np.prod(halved))
            coarse_shape.append(halved)
        layers.append(Layer(layer.name, layer.network, start, coarse_position))
        shapes.append(coarse_shape)
    return _Transfer(layers, shapes, np.concatenate(rows), np.concatenate(columns), np.concatenate(values))


def _pairs_of_tensor(tensor: Shape, weight: Shape, first: bool, last: bool, generator: np.random.Generator | None):
    """Row, column and value of P for one tensor of a layer, and the shape of its coarse one."""
    outputs = np.arange(tensor[0])
    if not last and tensor[0] == weight[0]:
        outputs = outputs // 2
    if len(tensor) == 1:
        return np.arange(tensor[0]), outputs, np.ones(tensor[0]), (int(outputs[-1]) + 1,)
    inputs = np.arange(tensor[1]) if first else np.arange(tensor[1]) // 2
    share = 1.0 / np.bincount(inputs)[inputs]
    if generator is not None and not first:
        pairs = tensor[1] // 2
        part = generator.uniform(0.3, 0.7, pairs)
        share[0 : 2 * pairs : 2], share[1 : 2 * pairs : 2] = part, 1.0 - part
    halved = int(outputs[-1]) + 1, int(inputs[-1]) + 1
    column = (outputs[:, None] * halved[1] + inputs[None, :]).ravel()
    return np.arange(len(column)), column, np.tile(share, tensor[0]), halved


def _product(outer: _Transfer, inner: _Transfer) -> _Transfer:
    """P_outer P_inner, where both have one entry in each row."""
    order = np.argsort(inner.rows)
    middle = order[outer.columns]
    values = outer.values * inner.values[middle]
    return _Transfer(inner.layers, inner.shapes, outer.rows, inner.columns[middle], values)


def _matrix(transfer: _Transfer, fine: Layout, coarse: Layout) -> PETSc.Mat:
    mine = (transfer.rows >= fine.start) & (transfer.rows < fine.stop)
    sizes = ((fine.local_size, fine.size), (coarse.local_size, coarse.size))
    mat = PETSc.Mat().createAIJ(sizes, nnz=1, comm=fine.comm)
    rows, columns = (part[mine].astype(PETSc.IntType) for part in (transfer.rows, transfer.columns))
    mat.setPreallocationCOO(rows, columns)
    mat.setValuesCOO(transfer.values[mine])
    mat.assemble()
    return mat
