"""Decompositions of θ into blocks: index sets, with overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import OptionError
from pescitrain.networks.parameters import Layer

PartitionType = Literal["layer", "balanced", "network"]


@dataclass(frozen=True)
class Block:
    """A subdomain of the parameters: ``owned`` without overlap, ``active`` with it; sorted global indices."""

    name: str
    owned: NDArray[np.int32]
    active: NDArray[np.int32]


def decompose(
    layers: list[Layer],
    kind: PartitionType,
    count: int | None,
    overlap: int,
    neighbours: Sequence[NDArray[np.intp]] | None = None,
) -> list[Block]:
    """Blocks of consecutive layers.

    Parameters
    ----------
    layers : list of Layer      in feed-forward order
    kind : "layer"              as equal numbers of layers as possible: block s has layers ⌊sL/N⌋ … ⌊(s+1)L/N⌋ − 1
           "balanced"           the largest block as small as possible in parameters
           "network"            as "layer" in each network, branch and trunk or subdomain networks, where no block and
                                no overlap has layers of two
    count : int or None         number of blocks N; None: one for each layer
    overlap : int               layers added on both sides of each block; with ``neighbours``, how often those of its
                                layers are added
    neighbours : list of (k,)   of each layer, where layers do not follow each other: networks of subdomains

    Every parameter is in exactly one ``owned`` set. Raises OptionError where N or the overlap cannot be.
    """
    if neighbours is not None:
        return _by_neighbours(layers, "layer" if kind == "network" else kind, count, overlap, neighbours)
    if kind == "network":
        return _by_network(layers, count, overlap)
    total = len(layers)
    count = total if count is None else count
    if not 1 <= count <= total:
        raise OptionError(f"-part_blocks {count}: there are {total} layers, so choose from 1 to {total}")
    if overlap < 0:
        raise OptionError(f"-part_overlap {overlap}: the overlap is a number of layers, 0 or more")
    if kind == "layer":
        cuts = [total * s // count for s in range(count + 1)]
    else:
        cuts = _balanced_cuts([layer.size for layer in layers], count)
    blocks = []
    for first, last in pairwise(cuts):
        names = layers[first].name if last == first + 1 else f"{layers[first].name}-{layers[last - 1].name}"
        outer = layers[max(0, first - overlap)].start, layers[min(total, last + overlap) - 1].stop
        owned = np.arange(layers[first].start, layers[last - 1].stop, dtype=np.int32)
        blocks.append(Block(names, owned, np.arange(*outer, dtype=np.int32)))
    return blocks


def _by_neighbours(
    layers: list[Layer],
    kind: PartitionType,
    count: int | None,
    overlap: int,
    neighbours: Sequence[NDArray[np.intp]],
) -> list[Block]:
    """Consecutive layers, and the layers that are at most ``overlap`` steps from them."""
    if overlap < 0:
        raise OptionError(f"-part_overlap {overlap}: the overlap is a number of layers, 0 or more")
    blocks = decompose(layers, kind, count, 0)
    for _ in range(overlap):
        blocks = with_neighbours(blocks, layers, neighbours)
    return blocks


def with_neighbours(
    blocks: Sequence[Block], layers: Sequence[Layer], neighbours: Sequence[NDArray[np.intp]]
) -> list[Block]:
    """The blocks with the neighbours of their active layers for active ones too."""
    starts = np.array([layer.start for layer in layers])
    result = []
    for block in blocks:
        inside = np.unique(np.searchsorted(starts, block.active, side="right") - 1)
        wider = np.unique(np.concatenate([inside, *(neighbours[number] for number in inside)]))
        parts = [np.arange(layers[n].start, layers[n].stop, dtype=np.int32) for n in wider]
        result.append(replace(block, active=np.concatenate(parts)))
    return result


def _by_network(layers: list[Layer], count: int | None, overlap: int) -> list[Block]:
    """N blocks shared out by the networks' numbers of layers (largest remainder), at least one for each."""
    networks = [list(group) for _, group in groupby(layers, lambda layer: layer.network)]
    sizes = np.array([len(network) for network in networks])
    count = int(sizes.sum()) if count is None else count
    if not len(networks) <= count <= sizes.sum():
        raise OptionError(
            f"-part_blocks {count}: there are {len(networks)} networks with {sizes.sum()} layers, so choose from "
            f"{len(networks)} to {sizes.sum()}"
        )
    shares = np.ones(len(networks), dtype=int)
    for _ in range(count - len(networks)):
        wanted = np.where(shares < sizes, count * sizes / sizes.sum() - shares, -np.inf)
        shares[int(wanted.argmax())] += 1
    return [
        block
        for network, share in zip(networks, shares, strict=True)
        for block in _decompose_part(network, int(share), overlap)
    ]


def _decompose_part(layers: list[Layer], count: int, overlap: int) -> list[Block]:
    """As :func:`decompose` by layers, of a part of θ that need not begin at its start."""
    first = layers[0].start
    moved = [replace(layer, start=layer.start - first, stop=layer.stop - first) for layer in layers]
    blocks = decompose(moved, "layer", count, overlap)
    shift = np.int32(first)
    return [Block(block.name, block.owned + shift, block.active + shift) for block in blocks]


def _balanced_cuts(sizes: list[int], count: int) -> list[int]:
    """Cuts into contiguous non-empty parts with the smallest largest sum (dynamic programming, O(L² N))."""
    total = len(sizes)
    prefix = np.concatenate([[0], np.cumsum(sizes)])
    best = np.full((count + 1, total + 1), np.inf)
    last_cut = np.zeros((count + 1, total + 1), dtype=int)
    best[0, 0] = 0.0
    for parts in range(1, count + 1):
        for stop in range(parts, total + 1):
            starts = np.arange(parts - 1, stop)
            largest = np.maximum(best[parts - 1, starts], prefix[stop] - prefix[starts])
            choice = int(largest.argmin())
            best[parts, stop], last_cut[parts, stop] = largest[choice], starts[choice]
    cuts = [total]
    for parts in range(count, 0, -1):
        cuts.append(int(last_cut[parts, cuts[-1]]))
    return cuts[::-1]
