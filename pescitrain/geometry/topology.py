"""Facets of a mesh: which cells they bound, and which way they look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import MeshError
from pescitrain.geometry.cells import CELL_TYPES
from pescitrain.geometry.points import Integers


@dataclass(frozen=True)
class Facets:
    """All facets of a mesh, each once.

    Attributes
    ----------
    vertices : (F, w) int64     vertices in the order in which the normal points out of ``cells[:, 0]``; w is the
                                largest number of vertices, shorter facets are padded with -1 at the end
    cells : (F, 2) int64        the cells on both sides, the lower index first; -1: there is none
    """

    vertices: Integers
    cells: Integers

    @property
    def outer(self) -> Integers:
        """Indices of the facets with a cell on one side only."""
        return np.flatnonzero(self.cells[:, 1] < 0)

    def find(self, vertices: Integers) -> Integers:
        """Index (M,) of the facet with these vertices (M, w), in any order, padded with -1; -1 where there is none."""
        inverse = group_rows(np.sort(np.concatenate([self.vertices, vertices]), axis=1))[1]
        index_of_group = np.full(inverse.max(initial=-1) + 1, -1)
        index_of_group[inverse[: len(self.vertices)]] = np.arange(len(self.vertices))
        return index_of_group[inverse[len(self.vertices) :]]


def build_facets(cells: Mapping[str, Integers]) -> Facets:
    """The facets of cells {type: (M, k)} that are numbered type after type.

    Raises MeshError where a facet has more than two cells.
    """
    types = [CELL_TYPES[name] for name in cells]
    width = max(len(facet) for cell in types for facet in cell.facets)
    rows: list[Integers] = []
    owners: list[Integers] = []
    start = 0
    for cell, vertices in zip(types, cells.values(), strict=True):
        for facet in cell.facets:
            row = np.full((len(vertices), width), -1)
            row[:, : len(facet)] = vertices[:, facet]
            rows.append(row)
            owners.append(np.arange(start, start + len(vertices)))
        start += len(vertices)
    every, owner = np.concatenate(rows), np.concatenate(owners)
    by_owner = np.argsort(owner, kind="stable")
    every, owner = every[by_owner], owner[by_owner]
    first, inverse, counts = group_rows(np.sort(every, axis=1))
    if counts.max() > 2:
        raise MeshError(f"{np.count_nonzero(counts > 2)} facets have more than two cells: cells overlap")
    sides = np.full((len(first), 2), -1)
    sides[:, 0] = owner[first]
    is_second = np.ones(len(every), dtype=bool)
    is_second[first] = False
    sides[inverse[is_second], 1] = owner[is_second]
    return Facets(every[first], sides)


def group_rows(rows: Integers) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Group equal rows (N, w): first index of each group, group (N,) of each row, number of rows of each group."""
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    starts = np.ones(len(rows), dtype=bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    inverse = np.empty(len(rows), dtype=np.intp)
    inverse[order] = np.cumsum(starts) - 1
    return order[starts], inverse, np.diff(np.append(np.flatnonzero(starts), len(rows)))


def fit_width(rows: Integers, width: int) -> Integers:
    """Rows of vertices (M, k), padded with -1, as rows (M, width); a row that is longer becomes one of no facet, -2."""
    fitted = np.full((len(rows), width), -1)
    fitted[:, : rows.shape[1]] = rows[:, :width]
    fitted[(rows[:, width:] != -1).any(axis=1)] = -2
    return fitted


def reversed_rows(vertices: Integers) -> Integers:
    """The same facets (F, w) seen from the other side; the padding stays at the end."""
    width = vertices.shape[1]
    lengths = (vertices >= 0).sum(axis=1, keepdims=True)
    source = (lengths - 1 - np.arange(width)) % lengths
    return np.where(np.arange(width) < lengths, np.take_along_axis(vertices, source, axis=1), -1)


def same_side(vertices: Integers, other: Integers) -> NDArray[np.bool_]:
    """Whether rows (F, w) that hold the same vertices (padded with -1) also run the same way around."""
    if vertices.shape[1] == 1:
        return np.ones(len(vertices), dtype=bool)
    lengths = (vertices >= 0).sum(axis=1)
    where = (other == vertices[:, :1]).argmax(axis=1)
    rows = np.arange(len(other))
    if vertices.shape[1] == 2:
        return where == 0
    return other[rows, (where + 1) % lengths] == vertices[:, 1]
