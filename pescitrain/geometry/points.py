"""Points with weights, normals and owners, and sets that are drawn in parts: all that one sees of a geometry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def share(count: int, rank: int, size: int) -> tuple[int, int]:
    """The first of the ``count`` samples of one of ``size`` ranks, and the end of them."""
    if not 0 <= rank < size:
        raise ValueError(f"rank {rank} is not one of {size} ranks")
    return count * rank // size, count * (rank + 1) // size


@dataclass(frozen=True)
class PointSet:
    """Points of a set, each with its share of the measure of the set.

    Attributes
    ----------
    x : (N, d) float64              coordinates
    weights : (N,) float64          they sum to the measure (length, area, volume; 1 for one point) of the set
    normals : (N, d) float64 | None outward unit normals, on facets
    cells : (N,) int64 | None       the cell each point lives in; on facets, the cell the normal points out of
    """

    x: Floats
    weights: Floats
    normals: Floats | None = None
    cells: Integers | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def measure(self) -> float:
        """The measure of the set: the sum of the weights."""
        return float(self.weights.sum())

    def take(self, which: slice | NDArray[np.intp] | NDArray[np.bool_]) -> PointSet:
        """The points selected by an index, in its order; the weights are taken as they are."""
        return PointSet(
            self.x[which],
            self.weights[which],
            None if self.normals is None else self.normals[which],
            None if self.cells is None else self.cells[which],
        )

    def slice(self, rank: int, size: int) -> PointSet:
        """The contiguous share of one of ``size`` ranks; shares differ by one point at most and follow each other.

        Not collective. The shares of ranks 0, 1, …, size-1, one after the other, are this set for every ``size``.
        """
        return self.take(slice(*share(len(self), rank, size)))

    @staticmethod
    def concatenate(parts: Sequence[PointSet]) -> PointSet:
        """The union of disjoint sets, in order; normals and owners are kept where all parts have them."""
        normals = [part.normals for part in parts if part.normals is not None]
        cells = [part.cells for part in parts if part.cells is not None]
        return PointSet(
            np.concatenate([part.x for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate(normals) if len(normals) == len(parts) else None,
            np.concatenate(cells) if len(cells) == len(parts) else None,
        )


@dataclass(frozen=True)
class PointSequence:
    """Points of a set in their order, any part of which is drawn without the rest.

    Attributes
    ----------
    count : int             N
    measure : float         the measure of the set: the sum of the weights of all N
    draw : (int, int) -> PointSet       the points begin, …, end - 1. Not collective
    """

    count: int
    measure: float
    draw: Callable[[int, int], PointSet]

    def __len__(self) -> int:
        return self.count

    def whole(self) -> PointSet:
        """All points. Not collective."""
        return self.draw(0, self.count)

    def slice(self, rank: int, size: int) -> PointSet:
        """As :meth:`PointSet.slice`, of which nothing else is drawn. Not collective."""
        return self.draw(*share(self.count, rank, size))

    @staticmethod
    def of(points: PointSet) -> PointSequence:
        """Points that are at hand; a part of them is a copy."""

        def draw(begin: int, end: int) -> PointSet:
            return points if (begin, end) == (0, len(points)) else points.take(np.arange(begin, end))

        return PointSequence(len(points), points.measure, draw)

    @staticmethod
    def weighing(weight: float, count: int, draw: Callable[[int, int], PointSet]) -> PointSequence:
        """``count`` points that all have this weight."""
        # The sum of an array of them, without the array.
        return PointSequence(count, float(np.broadcast_to(weight, count).sum()), draw)

    @staticmethod
    def concatenate(parts: Sequence[PointSequence]) -> PointSequence:
        """The union of disjoint sets, in order, as :meth:`PointSet.concatenate`."""
        if len(parts) == 1:
            return parts[0]
        *starts, count = accumulate((len(part) for part in parts), initial=0)

        def draw(begin: int, end: int) -> PointSet:
            cuts = [
                [min(max(at - start, 0), len(part)) for at in (begin, end)]
                for part, start in zip(parts, starts, strict=True)
            ]
            return PointSet.concatenate([part.draw(*cut) for part, cut in zip(parts, cuts, strict=True)])

        return PointSequence(count, sum(part.measure for part in parts), draw)
