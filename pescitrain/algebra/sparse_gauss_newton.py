"""JᵀJ + λI as a sparse matrix: dense blocks where two layers of θ meet at a sample, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.operators import mean_of_diagonal
from pescitrain.evaluation import Linearization
from pescitrain.networks.device import on_host


class SparseGaussNewton:
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
        self.layout, self.damping = layout, damping
        self.uncoupled = np.zeros(0, dtype=int) if uncoupled is None else uncoupled
        sizes = ((layout.local_size, layout.size),) * 2
        self.mat = PETSc.Mat().createAIJ(sizes, nnz=_row_lengths(layout, coupled), comm=layout.comm)
        self.mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)  # periodic pairs may move
        self.mat.setUp()
        self.mean_diagonal, self._damping = 1.0, 0.0
        self._first = True

    def assemble(self, linearization: Linearization) -> None:
        """Overwrite the entries with those of JᵀJ + λI at a linearization. Collective."""
        mat, uncoupled = self.mat, self.uncoupled
        mat.zeroEntries()
        if self._first:
            self._insert_pattern()
        for block in linearization.gauss_newton_sparse():
            rows, columns = (np.arange(e.start, e.stop, dtype=PETSc.IntType) for e in (block.row, block.column))
            values = on_host(block.values)
            if len(uncoupled):
                alone = np.isin(rows, uncoupled)[:, None] | np.isin(columns, uncoupled)
                values = np.where(alone & (rows[:, None] != columns), 0.0, values)
            mat.setValues(rows, columns, values, addv=PETSc.InsertMode.ADD)
            if block.row is not block.column:
                mat.setValues(columns, rows, values.T.copy(), addv=PETSc.InsertMode.ADD)
        mat.assemble()
        diagonal = mat.getDiagonal()
        self.mean_diagonal = mean_of_diagonal(diagonal.sum(), self.layout.size)
        diagonal.destroy()
        self._damping = 0.0
        self.set_damping(self.damping * self.mean_diagonal)

    def _insert_pattern(self) -> None:
        """Zeros on the diagonal, which a parameter that no sample sees needs, too."""
        self._first = False
        for row in range(self.layout.start, self.layout.stop):
            self.mat.setValue(row, row, 0.0, addv=PETSc.InsertMode.ADD)

    def set_damping(self, damping: float) -> None:
        """Another λ, absolute, on the same JᵀJ. Collective."""
        self.mat.shift(damping - self._damping)
        self.mat.setOption(PETSc.Mat.Option.SPD, True)  # here, because new entries make PETSc forget it
        self._damping = damping

    def destroy(self) -> None:
        """Collective."""
        self.mat.destroy()


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
