"""Points with weights, normals and owners: all that the rest of the program sees of a geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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
        if not 0 <= rank < size:
            raise ValueError(f"rank {rank} is not one of {size} ranks")
        return self.take(slice(rank * len(self) // size, (rank + 1) * len(self) // size))

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
