"""Factorisations of a sparse JᵀJ with one shift after another: a band, and a border of what meets everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from mpi4py import MPI
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cho_solve_banded, cholesky_banded
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

from pescitrain.errors import EvaluationError
from pescitrain.evaluation.jacobian import GramBlock
from pescitrain.networks.device import on_host
from pescitrain.networks.parameters import Layer

Array = NDArray[np.float64]


class BandedOrder:
    """An order of θ in which JᵀJ is a band and a border.

    Layers that meet more than a part of all are the border. The others stay in their order, or follow each other as
    reverse Cuthill–McKee says (George & Liu, Computer Solution of Large Sparse Positive Definite Systems, 1981). Of a
    few such parts and both orders it is the one that is factored with the fewest operations.

    Parameters
    ----------
    layers : list of Layer          of θ
    coupled : list of (k,) int      for each layer, those that its rows reach

    Attributes
    ----------
    band : (p,) int         the parameters in the band, in its order
    border : (q,) int       the others
    place : (n,) int        where each parameter is, those of the border after the band
    width : int             entries of a column of the band below the diagonal
    flops : float           multiply-adds of a factorisation
    """

    PARTS = (0.5, 0.75, 1.0)

    def __init__(self, layers: Sequence[Layer], coupled: Sequence[NDArray[np.intp]]) -> None:
        sizes = np.array([layer.size for layer in layers])
        reached = np.array([len(others) for others in coupled])
        self.flops, self.width = np.inf, 0
        inside = outside = np.zeros(0, dtype=np.intp)
        for part in self.PARTS:
            wide = reached > part * len(layers)
            for order in _orders(np.flatnonzero(~wide), coupled):
                width = _band_width(order, sizes, coupled)
                cost = _flops(int(sizes[order].sum()), width, int(sizes[wide].sum()))
                if cost < self.flops:
                    self.flops, self.width, inside, outside = cost, width, order, np.flatnonzero(wide)
        self.band, self.border = (_parameters([layers[int(i)] for i in some]) for some in (inside, outside))
        self.place = np.empty(layers[-1].stop, dtype=np.int64)
        self.place[self.band] = np.arange(len(self.band))
        self.place[self.border] = len(self.band) + np.arange(len(self.border))


def _orders(inner: NDArray[np.intp], coupled: Sequence[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Of the layers in the band."""
    if not len(inner):
        return [inner]
    place = np.full(len(coupled), -1)
    place[inner] = np.arange(len(inner))
    rows = np.concatenate([np.full(len(coupled[i]), place[i]) for i in inner])
    columns = np.concatenate([place[coupled[i]] for i in inner])
    kept = columns >= 0
    graph = csr_array((np.ones(kept.sum()), (rows[kept], columns[kept])), shape=(len(inner),) * 2)
    return [inner, inner[reverse_cuthill_mckee(graph, symmetric_mode=True)]]


def _flops(band: float, width: float, border: float) -> float:
    """Multiply-adds of a factorisation."""
    return band * width**2 + 2.0 * band * width * border + band * border**2 + border**3 / 3.0


def _band_width(order: NDArray[np.intp], sizes: NDArray[np.intp], coupled: Sequence[NDArray[np.intp]]) -> int:
    """Entries below the diagonal that a column has at most, for layers one after the other in this order."""
    starts = dict(zip(order.tolist(), np.cumsum([0, *sizes[order]]).tolist(), strict=False))
    widest = int(sizes[order].max(initial=0))  # so that entries of a block have places of their own in the storage
    for i, start in starts.items():
        for j in coupled[i]:
            if starts.get(int(j), -1) >= start:
                widest = max(widest, starts[int(j)] + int(sizes[j]) - 1 - start)
    return widest


def _parameters(layers: Sequence[Layer]) -> NDArray[np.int64]:
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *(np.arange(layer.start, layer.stop, dtype=np.int64) for layer in layers)])


class BandedCholesky:
    """(JᵀJ + λI)⁻¹ b for a sparse JᵀJ, the same on all ranks. Construction is collective: a reduction of the band.

    Raises EvaluationError where two layers meet that the order does not expect to.

    Memory: p (width + 1) + (p + q) q doubles on every rank, p in the band and q in the border.
    """

    def __init__(self, blocks: Iterable[GramBlock], order: BandedOrder, comm: MPI.Intracomm) -> None:
        """``blocks``: this rank's part of JᵀJ, each pair of layers once."""
        self._order = order
        band, border = len(order.band), len(order.border)
        self._band = np.zeros((order.width + 1, band), order="F")
        self._sides, self._corner = np.zeros((band, border)), np.zeros((border, border))
        expected = all([self._add(block) for block in blocks])
        if not comm.allreduce(expected, op=MPI.LAND):
            raise EvaluationError(
                "points have moved to where other subdomains meet than at the start: use -tao_lm_space krylov"
            )
        for part in (self._band, self._sides, self._corner):
            comm.Allreduce(MPI.IN_PLACE, part.T if part.flags.f_contiguous else part)

    @property
    def diagonal(self) -> Array:
        """Of JᵀJ (n,), in some order."""
        return np.concatenate((self._band[0], self._corner.diagonal()))

    def _add(self, block: GramBlock) -> bool:
        """Whole rows of blocks lie next to each other in the band, or in the border; whether there is room."""
        order, values = self._order, on_host(block.values)
        row, column = (int(order.place[entry.start]) for entry in (block.row, block.column))
        if row < column:  # below the diagonal
            row, column, values = column, row, values.T
        rows, columns, band = len(values), values.shape[1], len(order.band)
        if column >= band:
            self._corner[row - band :, column - band :][:rows, :columns] += values
            if row != column:
                self._corner[column - band :, row - band :][:columns, :rows] += values.T
        elif row >= band:
            self._sides[column : column + columns, row - band : row - band + rows] += values.T
        elif row + rows - 1 - column > order.width:
            return False
        else:
            # Entry (i, k) of the block is entry row − column + i + k · width of the storage from its column on.
            storage = self._band.T.reshape(-1)[row - column + column * (order.width + 1) :]
            part = as_strided(storage, (rows, columns), (8, 8 * order.width))
            part += np.tril(values) if row == column else values
        return True

    def factor(self, shift: float) -> Callable[[Array], Array]:
        """The solve b -> x, both (n,); raises LinAlgError where JᵀJ + λI is not positive definite. Not collective."""
        order = self._order
        inner = self._factor_band(shift)
        if not len(order.border):
            return lambda b: inner(b[order.band])[order.place]
        images = inner(self._sides)
        corner = self._corner - self._sides.T @ images
        corner.flat[:: len(corner) + 1] += shift
        complement = cho_factor(corner, lower=True, overwrite_a=True, check_finite=False)

        def solve(b: Array) -> Array:
            first = inner(b[order.band])
            outer = cho_solve(complement, b[order.border] - self._sides.T @ first, check_finite=False)
            return np.concatenate((first - images @ outer, outer))[order.place]

        return solve

    def _factor_band(self, shift: float) -> Callable[[Array], Array]:
        """The solve with the band alone, which may be empty."""
        if not self._band.size:
            return lambda b: b
        shifted = self._band.copy(order="F")
        shifted[0] += shift
        factor = cholesky_banded(shifted, overwrite_ab=True, lower=True, check_finite=False)
        return lambda b: cho_solve_banded((factor, True), b, check_finite=False)
