"""Factorisations of a sparse JᵀJ with one shift after another, layer by layer in dense fronts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import LinAlgError, get_blas_funcs, get_lapack_funcs

from pescitrain.errors import EvaluationError
from pescitrain.evaluation.jacobian import GramBlock
from pescitrain.networks.device import on_host
from pescitrain.networks.parameters import Layer

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

syrk, trsm = get_blas_funcs(("syrk", "trsm"), dtype=np.float64)
potrf, trtrs = get_lapack_funcs(("potrf", "trtrs"), dtype=np.float64)


@dataclass
class Front:
    """Layers that are eliminated together, and those that they then couple.

    ``starts``: of the layers, own and others, among the s + r parameters; ``runs``: pieces of the others, where they
    are among these and in the parent.
    """

    own: list[int]
    others: list[int]
    own_parameters: Integers  # (s,)
    other_parameters: Integers  # (r,)
    starts: dict[int, int]
    children: list[int] = field(default_factory=list)
    runs: list[tuple[slice, slice]] = field(default_factory=list)

    @property
    def flops(self) -> float:
        """Of its elimination."""
        s, r = float(len(self.own_parameters)), float(len(self.other_parameters))
        return s**3 / 3.0 + s * s * r + s * r * r

    @property
    def entries(self) -> int:
        """That it leaves in the factor."""
        s, r = len(self.own_parameters), len(self.other_parameters)
        return s * (s + r)


class EliminationOrder:
    """An order in which layers of θ are eliminated, with little fill.

    A minimum degree order of the layers (PETSc's ``qmd``), and a front for each layer, or for several whose fronts are
    nested in each other.

    Parameters
    ----------
    layers : list of Layer          of θ
    coupled : list of (k,) int      for each layer, those that its rows reach, its own among them

    Attributes
    ----------
    fronts : list of Front      children before their parents
    front_of : (L,) int         the front that eliminates a layer
    place : (L,) int            where a layer is in the order
    pairs : list of (int, int)  row and column of the blocks on and below the diagonal, in this order
    flops : float               of a factorisation
    entries : int               of the blocks on and below the diagonal, and of those of the factor
    """

    def __init__(self, layers: Sequence[Layer], coupled: Sequence[NDArray[np.intp]]) -> None:
        self.layers, self.coupled = list(layers), coupled
        order = _minimum_degree(coupled)
        order = order[_postorder(self._reached(order)[1])]  # the same fill; fewer fronts wait for their parents
        reached, parents = self._reached(order)
        self.front_of = np.empty(len(layers), dtype=np.int64)
        self.fronts: list[Front] = []
        for own, others in _eliminated(order, reached, parents):
            parts = [[layers[i] for i in some] for some in (own, others)]
            starts = np.cumsum([0, *(layer.size for part in parts for layer in part)]).tolist()
            known = dict(zip(own + others, starts, strict=False))
            self.front_of[own] = len(self.fronts)
            self.fronts.append(Front(own, others, _parameters(parts[0]), _parameters(parts[1]), known))
        for number, front in enumerate(self.fronts):
            if front.others:
                parent = self.fronts[self.front_of[front.others[0]]]
                parent.children.append(number)
                front.runs = self._runs(front, parent)
        self.flops = sum(front.flops for front in self.fronts)
        place = self.place
        self.pairs = [(int(i), j) for j, near in enumerate(coupled) for i in near if place[i] >= place[j]]
        factor = sum(front.entries for front in self.fronts)
        self.entries = factor + sum(layers[i].size * layers[j].size for i, j in self.pairs)

    def _reached(self, order: Integers) -> tuple[list[set[int]], list[int]]:
        """For each place the later ones that its elimination couples, and the first of them, −1 where there is none."""
        self.place = np.empty(len(order), dtype=np.int64)
        self.place[order] = np.arange(len(order))
        reached = [{int(at) for at in self.place[self.coupled[i]] if at > here} for here, i in enumerate(order)]
        parents = [-1] * len(order)
        for here, later in enumerate(reached):
            if later:
                parents[here] = min(later)
                reached[parents[here]] |= later - {parents[here]}
        return reached, parents

    def _runs(self, front: Front, parent: Front) -> list[tuple[slice, slice]]:
        """Parameters that follow each other both among the others of a front and in its parent."""
        runs: list[tuple[slice, slice]] = []
        border = len(parent.own_parameters)
        here = 0
        for number in front.others:
            size, there = self.layers[number].size, parent.starts[number]
            if runs and runs[-1][1].stop == there != border:
                last = runs.pop()
                runs.append((slice(last[0].start, here + size), slice(last[1].start, there + size)))
            else:
                runs.append((slice(here, here + size), slice(there, there + size)))
            here += size
        return runs


def _minimum_degree(coupled: Sequence[NDArray[np.intp]]) -> Integers:
    """The order of elimination."""
    ends = np.cumsum([0, *(len(others) for others in coupled)]).astype(PETSc.IntType)
    columns = np.concatenate(coupled).astype(PETSc.IntType)
    graph = PETSc.Mat().createAIJ((len(coupled),) * 2, csr=(ends, columns, np.ones(len(columns))), comm=PETSc.COMM_SELF)
    rows, other = graph.getOrdering("qmd")
    order = rows.getIndices().astype(np.int64)
    for thing in (rows, other, graph):
        thing.destroy()
    return order


def _postorder(parents: list[int]) -> list[int]:
    """Of a forest: each tree after the other, children before their parents."""
    children: list[list[int]] = [[] for _ in parents]
    for child, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(child)
    order = []
    pending = [at for at, parent in enumerate(parents) if parent < 0]
    while pending:  # parents before their children, then backwards
        order.append(pending.pop())
        pending += children[order[-1]]
    return order[::-1]


def _eliminated(order: Integers, reached: list[set[int]], parents: list[int]) -> list[tuple[list[int], list[int]]]:
    """The layers of each front and those that they couple, both in their order."""
    fronts: list[tuple[list[int], list[int]]] = []
    chain: list[int] = []
    for here, later in enumerate(reached):
        chain.append(int(order[here]))
        above = parents[here]
        if above != here + 1 or len(later) != len(reached[above]) + 1:  # not nested in the next one's
            fronts.append((chain, [int(order[at]) for at in sorted(later)]))
            chain = []
    return fronts


def _parameters(layers: Sequence[Layer]) -> Integers:
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *(np.arange(layer.start, layer.stop, dtype=np.int64) for layer in layers)])


class MultifrontalCholesky:
    """(JᵀJ + λI)⁻¹ b for a sparse JᵀJ, the same on all ranks. Construction is collective: a reduction of its blocks.

    Raises EvaluationError where two layers meet that the order does not expect to.

    Memory: on every rank the blocks of JᵀJ on and below the diagonal, those of the factor, and a few fronts.
    Source: Duff & Reid, ACM Trans. Math. Softw. 9 (1983) 302.
    """

    def __init__(self, blocks: Iterable[GramBlock], order: EliminationOrder, comm: MPI.Intracomm) -> None:
        """``blocks``: this rank's part of JᵀJ, each pair of layers once."""
        self._order = order
        self._starts = np.array([layer.start for layer in order.layers])
        pairs = order.pairs
        sizes = [order.layers[i].size * order.layers[j].size for i, j in pairs]
        values = np.zeros(sum(sizes))
        self._blocks: dict[tuple[int, int], Array] = {}
        for (i, j), (first, last) in zip(pairs, pairwise(np.cumsum([0, *sizes]).tolist()), strict=True):
            self._blocks[i, j] = values[first:last].reshape(order.layers[i].size, -1)
        expected = all([self._add(block) for block in blocks])
        if not comm.allreduce(expected, op=MPI.LAND):
            raise EvaluationError(
                "points have moved to where other subdomains meet than at the start: use -tao_lm_space krylov"
            )
        comm.Allreduce(MPI.IN_PLACE, values)

    @property
    def diagonal(self) -> Array:
        """Of JᵀJ (n,)."""
        return np.concatenate([self._blocks[i, i].diagonal() for i in range(len(self._order.layers))])

    def _add(self, block: GramBlock) -> bool:
        """To the block of two layers, below the diagonal; whether there is one."""
        row, column, values = block.row.start, block.column.start, on_host(block.values)
        i, j = (int(np.searchsorted(self._starts, start, side="right")) - 1 for start in (row, column))
        place = self._order.place
        if (place[i], row) < (place[j], column):
            row, column, values, i, j = column, row, values.T, j, i
        if (i, j) not in self._blocks:
            return False
        row, column = row - int(self._starts[i]), column - int(self._starts[j])
        self._blocks[i, j][row : row + values.shape[0], column : column + values.shape[1]] += values
        return True

    def factor(self, shift: float) -> Callable[[Array], Array]:
        """The solve b -> x, both (n,); raises LinAlgError where JᵀJ + λI is not positive definite. Not collective."""
        factors: list[tuple[Array, Array]] = []
        updates: dict[int, Array] = {}
        for number, front in enumerate(self._order.fronts):
            inner, side, outer = self._assembled(front, shift)
            for child in front.children:
                _extend_add(self._order.fronts[child], updates.pop(child), inner, side, outer)
            inner, failed = potrf(inner, lower=1, clean=0, overwrite_a=1)
            if failed:
                raise LinAlgError("not positive definite")
            if front.others:
                side = trsm(1.0, inner, side, side=1, lower=1, trans_a=1, overwrite_b=1)
                updates[number] = syrk(-1.0, side, 1.0, outer, lower=1, overwrite_c=1)
            factors.append((inner, side))
        return lambda b: self._solved(factors, b)

    def _assembled(self, front: Front, shift: float) -> tuple[Array, Array, Array]:
        """JᵀJ + λI in a front: among its own parameters (s, s), of others (r, s), and room among these (r, r)."""
        s, r = len(front.own_parameters), len(front.other_parameters)
        inner, side, outer = (np.zeros(shape, order="F") for shape in ((s, s), (r, s), (r, r)))
        for j in front.own:
            column = front.starts[j]
            columns = slice(column, column + self._order.layers[j].size)
            for i in self._order.coupled[j]:
                if self._order.place[i] >= self._order.place[j]:
                    block, row = self._blocks[int(i), j], front.starts[int(i)]
                    target, row = (inner, row) if row < s else (side, row - s)
                    target[row : row + len(block), columns] = block
        inner.ravel(order="K")[:: s + 1] += shift
        return inner, side, outer

    def _solved(self, factors: list[tuple[Array, Array]], b: Array) -> Array:
        x = b.copy()
        for front, (inner, side) in zip(self._order.fronts, factors, strict=True):
            own = trtrs(inner, x[front.own_parameters], lower=1)[0]
            x[front.own_parameters] = own
            if front.others:
                x[front.other_parameters] -= side @ own
        for front, (inner, side) in zip(reversed(self._order.fronts), reversed(factors), strict=True):
            own = x[front.own_parameters]
            if front.others:
                own = own - side.T @ x[front.other_parameters]
            x[front.own_parameters] = trtrs(inner, own, lower=1, trans=1)[0]
        return x


def _extend_add(child: Front, update: Array, inner: Array, side: Array, outer: Array) -> None:
    """What the elimination of a child has left, lower triangle, to the front of its parent."""
    s = len(inner)
    for b, (columns, there) in enumerate(child.runs):
        for rows, target in child.runs[b:]:
            part = update[rows, columns]
            if target.start < s:
                inner[target, there] += part
            elif there.start < s:
                side[target.start - s : target.stop - s, there] += part
            else:
                outer[target.start - s : target.stop - s, there.start - s : there.stop - s] += part
