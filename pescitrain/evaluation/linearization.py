"""The residual linearized once at a point, to be applied often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.evaluation.arithmetic import Arithmetic
from pescitrain.evaluation.counters import Counters
from pescitrain.evaluation.jacobian import ChunkJacobian
from pescitrain.networks.parameters import Entry, FlatParameters

Array = NDArray[np.float64]


@dataclass
class Linearization:
    """J = ∂r/∂θ (m, n) with its rows distributed over ranks, at the θ of :meth:`Evaluator.linearize`.

    Every product is exact (no differences); J itself is never held whole.
    """

    comm: MPI.Intracomm
    parameters: FlatParameters
    chunks: list[ChunkJacobian]
    residual: Array
    counters: Counters
    arithmetic: Arithmetic

    @property
    def rows(self) -> int:
        """Residuals on this rank."""
        return len(self.residual)

    def times(self, direction: Array) -> Array:
        """J v: (n,), the same on all ranks -> (m_local,). Not collective."""
        self.counters.jvp += 1
        v = torch.from_numpy(np.ascontiguousarray(direction))
        with self.arithmetic.event("JacobianMult"), torch.no_grad():
            parts = [chunk.times(v) for chunk in self.chunks]
        return torch.cat(parts).numpy() if parts else np.zeros(0)

    def transpose_times(self, cotangent: Array) -> Array:
        """Jᵀ w: (m_local,) -> (n,), summed over ranks. Collective: one reduction of n numbers."""
        self.counters.vjp += 1
        w = torch.from_numpy(np.ascontiguousarray(cotangent))
        total = torch.zeros(self.parameters.size, dtype=torch.float64)
        position = 0
        with self.arithmetic.event("JacobianMultTranspose"), torch.no_grad():
            for chunk in self.chunks:
                chunk.add_transpose_times(w[position : position + chunk.rows], total)
                position += chunk.rows
        result = total.numpy()
        self.comm.Allreduce(MPI.IN_PLACE, result)
        return result

    def gauss_newton_times(self, direction: Array) -> Array:
        """JᵀJ v: (n,) -> (n,). Collective."""
        return self.transpose_times(self.times(direction))

    def gauss_newton_blocks(
        self, index_sets: Sequence[NDArray[np.integer]], owners: Sequence[int]
    ) -> list[Array | None]:
        """The blocks (JᵀJ)[I, I] of sorted index sets I, summed over ranks on their owners, None elsewhere. Collective.

        Cost: m_local |I|² multiply-adds a block and one reduction of Σ |I|² numbers.
        """
        sums = [torch.zeros(len(indices), len(indices), dtype=torch.float64) for indices in index_sets]
        selections = [self._select(indices) for indices in index_sets]
        with self.arithmetic.event("GaussNewtonBlocks"), torch.no_grad():
            for chunk in self.chunks:
                for total, (entries, columns) in zip(sums, selections, strict=True):
                    jacobian = chunk.dense(entries)
                    if columns is not None:
                        jacobian = jacobian[:, columns]
                    total.addmm_(jacobian.t(), jacobian)
        result: list[Array | None] = []
        for total, owner in zip(sums, owners, strict=True):
            block = total.numpy()
            mine = self.comm.rank == owner
            self.comm.Reduce(MPI.IN_PLACE if mine else block, block if mine else None, root=owner)
            result.append(block if mine else None)
        return result

    def gauss_newton_diagonal(self) -> Array:
        """diag(JᵀJ) (n,), the same on all ranks. Collective."""
        total = torch.zeros(self.parameters.size, dtype=torch.float64)
        with self.arithmetic.event("GaussNewtonDiagonal"), torch.no_grad():
            for chunk in self.chunks:
                total += chunk.dense(self.parameters.entries).square().sum(0)
        result = total.numpy()
        self.comm.Allreduce(MPI.IN_PLACE, result)
        return result

    def dense(self) -> Array:
        """The rows of J on this rank, (m_local, n): for dense methods and for tests. Not collective."""
        with torch.no_grad():
            parts = [chunk.dense(self.parameters.entries) for chunk in self.chunks]
        return torch.cat(parts).numpy() if parts else np.zeros((0, self.parameters.size))

    def _select(self, indices: NDArray[np.integer]) -> tuple[list[Entry], Tensor | None]:
        """The parameter tensors that an index set touches, and which of their columns it takes (None: all)."""
        places = [np.searchsorted(indices, (entry.start, entry.stop)) for entry in self.parameters.entries]
        entries = [e for e, (first, last) in zip(self.parameters.entries, places, strict=True) if first < last]
        columns = np.concatenate([np.arange(e.start, e.stop) for e in entries]) if entries else np.zeros(0, dtype=int)
        if len(columns) == len(indices):
            return entries, None
        return entries, torch.from_numpy(np.searchsorted(columns, indices))
