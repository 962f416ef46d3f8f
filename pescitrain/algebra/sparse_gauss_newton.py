"""JᵀJ + λI as a sparse matrix: dense blocks where two layers of θ meet at a sample, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.operators import ShiftedMatrix
from pescitrain.evaluation import Linearization
from pescitrain.networks.device import on_host


class SparseGaussNewton(ShiftedMatrix):
    """All entries of JᵀJ + λI that are not zero, in an AIJ matrix, for every PC that PETSc has for those.

    Each rank sums the blocks of its own samples and sends those of other ranks' rows to them: no rank holds more than
    its rows and what its samples touch. It is the counterpart of
    :class:`~pescitrain.algebra.operators.AssembledGaussNewton` for networks in subdomains.

    Parameters
    ----------
    coupled : list of (k,) int      for each layer of the layout, the layers that its rows reach
    damping : float                 λ relative to the mean of the diagonal of JᵀJ
    uncoupled : (k,)                parameters whose rows and columns are zero but for the diagonal
    """

    def __init__(
        self,
        layout: ParameterLayout,
        coupled: Sequence[NDArray[np.intp]],
        damping: float,
        uncoupled: NDArray[np.intp] | None = None,
    ) -> None:
        sizes = ((layout.local_size, layout.size),) * 2
        mat = PETSc.Mat().createAIJ(sizes, nnz=_row_lengths(layout, coupled), comm=layout.comm)
        mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)  # periodic pairs may move
        super().__init__(layout, mat, damping, uncoupled)
        self._insert_pattern(coupled)

    def fill(self, linearization: Linearization) -> None:
        mat, uncoupled = self.mat, self.uncoupled
        mat.zeroEntries()
        for block in linearization.gauss_newton_sparse():
            rows, columns = (np.arange(e.start, e.stop, dtype=PETSc.IntType) for e in (block.row, block.column))
            values = on_host(block.values)
            if len(uncoupled):
                alone = np.isin(rows, uncoupled)[:, None] | np.isin(columns, uncoupled)
                values = np.where(alone & (rows[:, None] != columns), 0.0, values)
            mat.setValues(rows, columns, values, addv=PETSc.InsertMode.ADD)
            if block.row is not block.column:
                mat.setValues(columns, rows, values.T.copy(), addv=PETSc.InsertMode.ADD)

    def _insert_pattern(self, coupled: Sequence[NDArray[np.intp]]) -> None:
        """Zeros where there may ever be entries: assembly gives up what nobody has written to. Collective."""
        layout = self.layout
        for number, layer in enumerate(layout.layers):
            first, last = max(layer.start, layout.start), min(layer.stop, layout.stop)
            rows = np.arange(first, max(first, last), dtype=PETSc.IntType)
            for other in coupled[number] if len(rows) else ():
                columns = np.arange(layout.layers[other].start, layout.layers[other].stop, dtype=PETSc.IntType)
                zeros = np.zeros((len(rows), len(columns)))
                self.mat.setValues(rows, columns, zeros, addv=PETSc.InsertMode.ADD)
        self.mat.assemble()


def _row_lengths(
    layout: ParameterLayout, coupled: Sequence[NDArray[np.intp]]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Entries in the diagonal and the off-diagonal part of each local row."""
    starts = np.array([layer.start for layer in layout.layers])
    stops = np.array([layer.stop for layer in layout.layers])
    inside = np.minimum(stops, layout.stop) - np.maximum(starts, layout.start)
    inside = np.maximum(inside, 0)
    lengths = np.zeros((layout.local_size, 2), dtype=PETSc.IntType)
    for number, layer in enumerate(layout.layers):
        first, last = max(layer.start, layout.start), min(layer.stop, layout.stop)
        if first < last:
            near = int(inside[coupled[number]].sum())
            total = int((stops - starts)[coupled[number]].sum())
            lengths[first - layout.start : last - layout.start] = near, total - near
    return lengths[:, 0].copy(), lengths[:, 1].copy()
