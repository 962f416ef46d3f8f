"""The residual linearized once at a point, to be applied often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs
from torch import Tensor

from pescitrain.evaluation.arithmetic import Arithmetic
from pescitrain.evaluation.counters import Counters
from pescitrain.evaluation.jacobian import ChunkJacobian, GramBlock, KroneckerFactor
from pescitrain.evaluation.neighbour_sums import NeighbourSums
from pescitrain.evaluation.owner_sums import sum_on_owners
from pescitrain.evaluation.sample_gram import blocks_of_gram, is_shorter
from pescitrain.networks.device import HOST, on_device, on_host
from pescitrain.networks.parameters import Entry, Parameters

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ChunkPlace:
    """Which samples of all ranks a chunk holds: ``count`` from number ``first`` of the ``total`` of its term."""

    term: int
    first: int
    count: int
    total: int


@dataclass
class Linearization:
    """J = ∂r/∂θ (m, n) with its rows distributed over ranks, at the θ of :meth:`Evaluator.linearize`.

    Every product is exact (no differences); J itself is never held whole. ``theta`` (n,): where it is; ``cost``: what a
    product counts as, below 1 for a coarser network. With ``neighbour_sums`` the results Jᵀw, JᵀJ v and the
    diagonal are those of the rank's own entries, zero elsewhere.
    """

    comm: MPI.Intracomm
    parameters: Parameters
    theta: Array
    chunks: list[ChunkJacobian]
    residual: Array
    counters: Counters
    arithmetic: Arithmetic
    places: list[ChunkPlace]
    cost: float = 1.0
    neighbour_sums: NeighbourSums | None = None

    @property
    def rows(self) -> int:
        """Residuals on this rank."""
        return len(self.residual)

    def subset(self, rows: int, draw: int) -> Linearization:
        """About ``rows`` random rows of J, by whole samples, scaled so that JᵀJ is that of all on average. Collective.

        Each term keeps its share of samples, at least one, without replacement; ``draw`` and the global numbers of the
        samples say which, on any number of ranks.
        """
        totals = {place.term: place.total for place in self.places}
        totals = {term: n for known in self.comm.allgather(totals) for term, n in known.items()}
        part = rows / self.comm.allreduce(self.rows)
        if part >= 1.0:
            return self
        chosen, scales = {}, {}
        for term, total in totals.items():
            kept = max(1, round(part * total))
            chosen[term] = np.sort(np.random.default_rng((draw, term)).choice(total, kept, replace=False))
            scales[term] = float(np.sqrt(total / kept))
        chunks, residuals, places, position = [], [], [], 0
        for chunk, place in zip(self.chunks, self.places, strict=True):
            first, last = np.searchsorted(chosen[place.term], (place.first, place.first + place.count))
            local = chosen[place.term][first:last] - place.first
            if len(local):
                scale = scales[place.term]
                chunks.append(chunk.subset(on_device(local, self.parameters.device), scale))
                by_sample = self.residual[position : position + chunk.rows].reshape(place.count, -1)
                residuals.append(scale * by_sample[local].ravel())
                places.append(ChunkPlace(place.term, int(first), len(local), len(chosen[place.term])))
            position += chunk.rows
        residual = np.concatenate(residuals) if residuals else np.zeros(0)
        return replace(self, chunks=chunks, residual=residual, places=places)

    def times(self, direction: Array) -> Array:
        """J v: (n,), the same on all ranks -> (m_local,). Not collective."""
        self.counters.jvp += self.cost
        v = on_device(direction, self.parameters.device)
        with self.arithmetic.event("JacobianMult"), torch.no_grad():
            parts = [chunk.times(v) for chunk in self.chunks]
        if not parts:
            return np.zeros(0)
        return on_host(parts[0] if len(parts) == 1 else torch.cat(parts))

    def transpose_times(self, cotangent: Array) -> Array:
        """Jᵀ w: (m_local,) -> (n,), summed over ranks. Collective: one reduction of n numbers."""
        self.counters.vjp += self.cost
        w = on_device(cotangent, self.parameters.device)
        total = w.new_zeros(self.parameters.size)
        position = 0
        with self.arithmetic.event("JacobianMultTranspose"), torch.no_grad():
            for chunk in self.chunks:
                chunk.add_transpose_times(w[position : position + chunk.rows], total)
                position += chunk.rows
        result = on_host(total)
        return self._summed_vector(result)

    def gauss_newton_times(self, direction: Array) -> Array:
        """JᵀJ v: (n,) -> (n,), the same on all ranks. Collective: one reduction of n numbers."""
        self.counters.jvp += self.cost
        self.counters.vjp += self.cost
        v = on_device(direction, self.parameters.device)
        total = torch.zeros_like(v)
        with self.arithmetic.event("GaussNewtonMult"), torch.no_grad():
            for chunk in self.chunks:
                chunk.add_gauss_newton_times(v, total)
        result = on_host(total)
        return self._summed_vector(result)

    def gauss_newton_products(self, directions: Array) -> Array:
        """JᵀJ V of several directions at once: (n, k) -> (n, k), the same on all ranks. Collective.

        By matrix products with the rows of J, a chunk at a time: 4 m_local n k flops and one reduction of n k numbers;
        of an operator one direction after the other.
        """
        self.counters.jvp += self.cost * directions.shape[1]
        self.counters.vjp += self.cost * directions.shape[1]
        v = on_device(directions, self.parameters.device)
        total = torch.zeros_like(v)
        with self.arithmetic.event("GaussNewtonProducts"), torch.no_grad():
            for chunk in self.chunks:
                chunk.add_gauss_newton_products(v, total)
        result = on_host(total)
        self.comm.Allreduce(MPI.IN_PLACE, result)
        return result

    def kronecker_factors(self) -> list[KroneckerFactor] | None:
        """The factors of every affine layer, the same on all ranks; None if a residual has no Taylor mode. Collective.

        Cost: m_local (in² + out²) multiply-adds a layer for each component of the jets, and two reductions.
        """
        sums: dict[str, KroneckerFactor] = {}
        factored = True
        with self.arithmetic.event("KroneckerFactors"), torch.no_grad():
            for chunk in self.chunks:
                parts = chunk.kronecker_factors()
                factored = factored and parts is not None
                for part in parts or ():
                    name = part.weight.name
                    sums[name] = part if name not in sums else sums[name].plus(part)
        known = self.comm.allgather([(f.weight.name, f.bias and f.bias.name) for f in sums.values()])
        if not self.comm.allreduce(factored, op=MPI.LAND):
            return None
        entry_of = {entry.name: entry for entry in self.parameters.entries}
        result = []
        for weight, bias in dict.fromkeys(name for names in known for name in names):
            factor = sums.get(weight) or KroneckerFactor.zero(entry_of[weight], entry_of[bias] if bias else None)
            result.append(factor.to(HOST))
            for part in (result[-1].inputs, result[-1].cotangents, result[-1].count):
                self.comm.Allreduce(MPI.IN_PLACE, part.numpy())
        return result

    def gauss_newton_blocks(
        self,
        index_sets: Sequence[NDArray[np.integer]],
        owners: Sequence[int],
        single: bool = False,
        seen_by: Sequence[NDArray[np.integer]] | None = None,
    ) -> list[Array | None]:
        """The blocks (JᵀJ)[I, I] of sorted index sets I, summed over ranks on their owners, None elsewhere. Collective.

        ``seen_by``: for each block the parameters without which a sample is left out.

        Cost: m_local |I|² multiply-adds a block, in single precision where ``single``, and |I|² numbers to its owner
        from the ranks whose samples see it; one reduction of Σ |I|² numbers where all samples see all blocks.
        """
        kind, device = torch.float32 if single else torch.float64, self.parameters.device
        sums: dict[int, _Gram] = {}
        with self.arithmetic.event("GaussNewtonBlocks"), torch.no_grad():
            seeing = index_sets if seen_by is None else seen_by
            near = self._touched_here(seeing)
            selections, selected = (self._select([sets[i] for i in near]) for sets in (index_sets, seeing))
            seen_in: dict[str, list[int]] = {}
            for place, (seen, _) in enumerate(selected):
                for entry in seen:
                    seen_in.setdefault(entry.name, []).append(place)
            for chunk in self.chunks:
                for place in sorted({place for e in chunk.touched() for place in seen_in.get(e.name, ())}):
                    number, (entries, columns), (seen, _) = near[place], selections[place], selected[place]
                    if number not in sums:
                        sums[number] = _Gram(len(index_sets[number]), kind)
                    for factor in chunk.gram_factors(entries, seen):
                        sums[number].add(factor if columns is None else factor[columns])
        parts = [on_host(sums[i].matrix(device)) if i in sums else None for i in range(len(index_sets))]
        return sum_on_owners(self.comm, parts, [(len(indices),) * 2 for indices in index_sets], owners)

    def triangular_factors(
        self, index_sets: Sequence[NDArray[np.integer]], owners: Sequence[int]
    ) -> list[Array | None]:
        """R (≤ |I|, |I|) with RᵀR = (JᵀJ)[I, I] of sorted index sets I, on their owners, None elsewhere. Collective.

        By QR factorisations of columns of J, first of the rows of a chunk, then of what they have left: small singular
        values are as accurate as J is, where JᵀJ has lost those below 1e-8 of the largest (TSQR: Demmel et al., SIAM J.
        Sci. Comput. 34 (2012) A206). Cost: 2 m_local |I|² multiply-adds a block, and a gather of |I|² / 2 numbers.
        """
        near, device = self._touched_here(index_sets), self.parameters.device
        selections = self._select([index_sets[i] for i in near])
        factors = [torch.zeros(0, len(indices), dtype=torch.float64, device=device) for indices in index_sets]
        with self.arithmetic.event("TriangularFactors"), torch.no_grad():
            for chunk in self.chunks:
                for i, (entries, columns) in zip(near, selections, strict=True):
                    for factor in chunk.gram_factors(entries):
                        rows = (factor if columns is None else factor[columns]).t()
                        factors[i] = torch.linalg.qr(torch.cat((factors[i], rows)), mode="r")[1]
            result: list[Array | None] = []
            for factor, owner in zip(factors, owners, strict=True):
                parts = self.comm.gather(on_host(factor), root=owner)
                result.append(None if parts is None else np.linalg.qr(np.concatenate(parts), mode="r"))
        return result

    def gauss_newton_sparse(self) -> list[GramBlock]:
        """This rank's part of the blocks of JᵀJ that are not zero, each pair of parameter tensors once. Not collective.

        Cost: for each pair of tensors, the products of the rows that both have.
        """
        sums: dict[tuple[str, str], GramBlock] = {}
        with self.arithmetic.event("GaussNewtonSparse"), torch.no_grad():
            for chunk in self.chunks:
                for block in chunk.gram_blocks():
                    known = sums.setdefault((block.row.name, block.column.name), block)
                    if known is not block:
                        known.values.add_(block.values)
        return list(sums.values())

    def gauss_newton_matrix(self, restrict: Callable[[Tensor], Tensor] = lambda transposed: transposed) -> Array:
        """As :meth:`gauss_newton_matrix_on_device`, on the host."""
        return on_host(self.gauss_newton_matrix_on_device(restrict))

    def gauss_newton_matrix_on_device(
        self, restrict: Callable[[Tensor], Tensor] = lambda transposed: transposed
    ) -> Tensor:
        """JᵀJ (n, n), the same on all ranks, where the networks are. Collective: one reduction of n² numbers.

        ``restrict`` maps Jᵀ (n, m) to SᵀJᵀ (k, m), so that it is SᵀJᵀJS (k, k). Cost: m_local k² flops, half of those
        of a matrix product.
        """
        total = _Gram(len(restrict(torch.zeros(self.parameters.size, 0, dtype=torch.float64))))
        with self.arithmetic.event("GaussNewtonMatrix"), torch.no_grad():
            for chunk in self.chunks:
                for factor in chunk.gram_factors(self.parameters.entries):
                    total.add(restrict(factor))
            result = total.matrix(self.parameters.device)
        return self._summed(result)

    def sample_gram_matrix(self) -> Array:
        """As :meth:`sample_gram_matrix_on_device`, on the host."""
        return on_host(self.sample_gram_matrix_on_device())

    def sample_gram_matrix_on_device(self) -> Tensor:
        """J Jᵀ (m, m) over all ranks' rows in rank order, the same on all ranks, where the networks are. Collective.

        From the inputs and cotangents of layers where these are wide (:mod:`~pescitrain.evaluation.sample_gram`): each
        rank sees the chunks of half of the others. Else each takes all rows of its share of the columns: an exchange
        of m_local n numbers. Then a reduction of m².
        """
        device = self.parameters.device
        with self.arithmetic.event("SampleGramMatrix"), torch.no_grad():
            chunks = [chunk.sample_rows() for chunk in self.chunks]
            known = [chunk for chunk in chunks if chunk is not None]
            if is_shorter(chunks, self.parameters.size, self.comm):
                size = self.comm.allreduce(self.rows)
                result = torch.zeros(size, size, dtype=torch.float64, device=device)
                for rows, columns, block in blocks_of_gram(known, device, self.comm):
                    result[rows, columns] = block
                    result[columns, rows] = block.t()
            else:
                rows = self._columns_of_rank().t()
                total = _Gram(len(rows))
                total.add(rows)
                result = total.matrix(device)
        return self._summed(result)

    def _summed_vector(self, values: Array) -> Array:
        """The sums (n,) over ranks, in place. Collective."""
        if self.neighbour_sums is None:
            self.comm.Allreduce(MPI.IN_PLACE, values)
        else:
            self.neighbour_sums.sum(values)
        return values

    def seen(self) -> NDArray[np.intp]:
        """The parameters that samples of this rank may depend on, sorted. Not collective."""
        touched = np.zeros(self.parameters.size, dtype=bool)
        for chunk in self.chunks:
            for entry in chunk.touched():
                touched[entry.start : entry.stop] = True
        return np.flatnonzero(touched)

    def _summed(self, matrix: Tensor) -> Tensor:
        """The sum over ranks, through the host where there are several. Collective."""
        if self.comm.size == 1:
            return matrix
        whole = on_host(matrix)
        self.comm.Allreduce(MPI.IN_PLACE, whole)
        return on_device(whole, matrix.device)

    def _columns_of_rank(self) -> Tensor:
        """Jᵀ (n / ranks, m) of the parameters that this rank takes, for the rows of all ranks. Collective."""
        comm = self.comm
        if comm.size == 1:
            return self._transposed()
        local = on_host(self._transposed())
        cuts = self.parameters.size * np.arange(comm.size + 1) // comm.size
        rows, mine = np.array(comm.allgather(self.rows)), cuts[comm.rank + 1] - cuts[comm.rank]
        received = np.empty(mine * rows.sum())
        comm.Alltoallv((local, self.rows * np.diff(cuts)), (received, mine * rows))
        parts = np.split(received, np.cumsum(mine * rows)[:-1])
        columns = np.concatenate([part.reshape(mine, -1) for part in parts], axis=1)
        return on_device(columns, self.parameters.device)

    def gauss_newton_diagonal(self) -> Array:
        """diag(JᵀJ) (n,), the same on all ranks. Collective."""
        total = torch.zeros(self.parameters.size, dtype=torch.float64, device=self.parameters.device)
        with self.arithmetic.event("GaussNewtonDiagonal"), torch.no_grad():
            for chunk in self.chunks:
                total += chunk.gram_diagonal()
        result = on_host(total)
        return self._summed_vector(result)

    def transposed(self) -> Array:
        """Jᵀ of the rows on this rank, (n, m_local). Not collective."""
        return on_host(self._transposed())

    def _transposed(self) -> Tensor:
        with torch.no_grad():
            parts = [chunk.transposed(self.parameters.entries) for chunk in self.chunks]
        empty = torch.zeros(self.parameters.size, 0, dtype=torch.float64, device=self.parameters.device)
        return torch.cat([empty, *parts], dim=1) if len(parts) != 1 else parts[0]

    def dense(self) -> Array:
        """The rows of J on this rank, (m_local, n): for dense methods and for tests. Not collective."""
        return self.transposed().T

    def _touched_here(self, index_sets: Sequence[NDArray[np.integer]]) -> list[int]:
        """The numbers of the sets of parameters that samples of this rank may depend on."""
        touched = np.zeros(self.parameters.size, dtype=bool)
        touched[self.seen()] = True
        return [number for number, indices in enumerate(index_sets) if touched[indices].any()]

    def _select(self, index_sets: Sequence[NDArray[np.integer]]) -> list[tuple[list[Entry], Tensor | None]]:
        """The parameter tensors that index sets touch, and which of their columns they take (None: all)."""
        everything = self.parameters.entries
        starts = np.array([entry.start for entry in everything])
        result = []
        for indices in index_sets:
            touched = np.unique(np.searchsorted(starts, indices, side="right") - 1)
            entries = [everything[number] for number in touched]
            columns = np.concatenate([np.arange(e.start, e.stop) for e in entries]) if entries else indices
            whole = len(columns) == len(indices)
            taken = None if whole else on_device(np.searchsorted(columns, indices), self.parameters.device)
            result.append((entries, taken))
        return result


class _Gram:
    """Σ F Fᵀ (k, k) of factors F (k, m): on the host by half the flops of a product, on a GPU by its fastest kernel."""

    def __init__(self, size: int, kind: torch.dtype = torch.float64) -> None:
        self._kind = kind
        dtype = np.float32 if kind == torch.float32 else np.float64
        self._lower = np.zeros((size, size), dtype, order="F")  # memory is taken where it is written to
        self._there: Tensor | None = None

    def add(self, factor: Tensor) -> None:
        """Another F."""
        factor = factor.to(self._kind)
        if factor.device == HOST:
            _add_gram(self._lower, factor.numpy())
        elif self._there is None:
            self._there = factor @ factor.t()
        else:
            self._there.addmm_(factor, factor.t())

    def matrix(self, device: torch.device) -> Tensor:
        """The sum in double precision; no more may be added."""
        whole = on_device(_mirrored(self._lower), device) if self._there is None else self._there
        return whole.double()


def _add_gram(total: NDArray, factor: NDArray) -> None:
    """Lower triangle of total (k, k), in Fortran order, += factor factorᵀ by BLAS's symmetric rank-k update."""
    if factor.size:
        contiguous_rows = factor.flags.c_contiguous
        (update,) = get_blas_funcs(("syrk",), (total,))
        update(1.0, factor.T if contiguous_rows else factor, 1.0, total, int(contiguous_rows), 1, 1)


def _mirrored(lower: NDArray) -> NDArray:
    """The whole symmetric matrix, in C order, from its lower triangle in Fortran order, which is overwritten."""
    size, step = len(lower), 128
    for first in range(0, size, step):
        last = min(first + step, size)
        tile = lower[first:last, first:last]
        tile += np.tril(tile, -1).T
        lower[first:last, last:] = lower[last:, first:last].T
    return lower.T
