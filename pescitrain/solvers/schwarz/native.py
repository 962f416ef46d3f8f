"""PETSc's own nonlinear Schwarz methods on the blocks of θ: ``nasm`` and ``aspin``, alone or as ``-npc_snes_type``.

PETSc calls the functions of a block at its own time on each rank, so nothing in them communicates: a rank holds the
points that its blocks see, as in :class:`~pescitrain.solvers.schwarz.local.LocalProblems`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra import Block, System
from pescitrain.algebra.network_dm import index_set
from pescitrain.evaluation import Counters
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.restriction import RestrictedEvaluator
from pescitrain.solvers.outcome import Array


class BlockFunctions:
    """∇φ and JᵀJ of the blocks of this rank with all else frozen, as a DM that hands them to PETSc. Collective.

    Every rank has the same number of blocks, as PETSc asks; those beyond the last are empty.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        comm = system.evaluator.comm
        per_rank = -(-len(system.blocks) // comm.size)
        own = list(system.blocks[comm.rank * per_rank : (comm.rank + 1) * per_rank])
        nothing = np.zeros(0, dtype=np.int32)
        own += [Block("empty", nothing, nothing)] * (per_rank - len(own))
        self.blocks = own
        self.take_points()
        self.dm = self._create_dm()

    def take_points(self) -> None:
        """Those of the system, where they have moved. Collective."""
        whole = self.system.evaluator
        actives = [block.active for block in self.blocks if len(block.active)]
        samples = LocalSamples.seen(whole, actives, MPI.COMM_SELF)
        self.evaluators = [
            RestrictedEvaluator(whole, block.active, samples) if len(block.active) else None for block in self.blocks
        ]

    def gradient(self, place: int, theta: Array) -> Array:
        """R ∇φ(θ) of a block. Not collective."""
        evaluator = self.evaluators[place]
        if evaluator is None:
            return np.zeros(0)
        with evaluator.frozen(theta):
            return evaluator.objective_gradient(theta[self.blocks[place].active])[1]

    def objective(self, place: int, theta: Array) -> float:
        """φ(θ). Not collective."""
        evaluator = self.evaluators[place]
        if evaluator is None:
            return 0.0
        with evaluator.frozen(theta):
            return evaluator.objective(theta[self.blocks[place].active]).objective

    def gauss_newton(self, place: int, theta: Array, damping: float) -> Array:
        """R JᵀJ Rᵀ + λ I of a block, λ relative to the mean of its diagonal. Not collective."""
        evaluator = self.evaluators[place]
        if evaluator is None:
            return np.zeros((0, 0))
        with evaluator.frozen(theta):
            matrix = evaluator.linearize(theta[self.blocks[place].active]).gauss_newton_matrix()
        return matrix + damping * float(matrix.diagonal().mean()) * np.eye(len(matrix))

    def charge(self) -> None:
        """Add what the blocks of all ranks have spent since the last time, side by side. Collective."""
        own = []
        for evaluator in self.evaluators:
            if evaluator is not None:
                own.append(evaluator.counters)
                evaluator.counters = Counters()
        spent = [one for part in self.system.evaluator.comm.allgather(own) for one in part]
        self.system.evaluator.counters.add_concurrent(spent)

    def _create_dm(self) -> PETSc.DM:
        layout = self.system.layout
        dm = PETSc.DMShell().create(comm=layout.comm)
        dm.setGlobalVector(layout.template)

        def decomposition(_: PETSc.DM) -> tuple[list[str], list[PETSc.IS], list[PETSc.IS], list[PETSc.DM]]:
            names, owned, active = (
                [block.name for block in self.blocks],
                [index_set(block.owned) for block in self.blocks],
                [index_set(block.active) for block in self.blocks],
            )
            return names, owned, active, [self._subdomain(place) for place in range(len(self.blocks))]

        def scatters(_: PETSc.DM, parts: Sequence[PETSc.DM]) -> tuple[list[Any], list[Any], list[Any]]:
            inner, outer, local = [], [], []
            everything = PETSc.IS().createStride(layout.size, 0, 1, comm=PETSc.COMM_SELF)
            for part in parts:
                block = self.blocks[_place(part)]
                here, whole = part.createGlobalVec(), part.createLocalVec()
                owned = index_set(np.searchsorted(block.active, block.owned))
                inner.append(PETSc.Scatter().create(layout.template, index_set(block.owned), here, owned))
                outer.append(PETSc.Scatter().create(layout.template, index_set(block.active), here, None))
                local.append(PETSc.Scatter().create(layout.template, everything, whole, everything))
            return inner, outer, local

        dm.setCreateMatrix(lambda _: self.system.operator)  # aspin multiplies with it
        dm.setCreateDomainDecomposition(decomposition)
        dm.setCreateDomainDecompositionScatters(scatters)
        dm.setUp()
        return dm

    def _subdomain(self, place: int) -> PETSc.DM:
        """What a block solve changes (k,), and all of θ that it sees (n,)."""
        active, size = self.blocks[place].active, self.system.layout.size
        part = PETSc.DMShell().create(comm=PETSc.COMM_SELF)
        part.setGlobalVector(PETSc.Vec().createSeq(len(active)))
        part.setLocalVector(PETSc.Vec().createSeq(size))

        def insert(_: PETSc.DM, block: PETSc.Vec, mode: Any, whole: PETSc.Vec) -> None:
            values = whole.array_r.copy()
            values[active] = block.array_r
            whole.setArray(values)

        def extract(_: PETSc.DM, whole: PETSc.Vec, mode: Any, block: PETSc.Vec) -> None:
            block.setArray(whole.array_r[active])

        def nothing(*_: Any) -> None:
            pass

        part.setGlobalToLocal(insert, nothing)
        part.setLocalToGlobal(extract, nothing)
        part.setCreateMatrix(lambda _: PETSc.Mat().createDense((len(active), len(active)), comm=PETSc.COMM_SELF))
        part.setAttr("place", place)
        part.setUp()
        return part

    def destroy(self) -> None:
        """Collective."""
        self.dm.destroy()


def _place(dm: PETSc.DM) -> int:
    place = dm.getAttr("place")
    assert isinstance(place, int)
    return place


def place_of(dm: PETSc.DM) -> int | None:
    """The block of this rank that a DM stands for; None: all of θ."""
    place = dm.getAttr("place")
    return place if isinstance(place, int) else None


def theta_of(dm: PETSc.DM, x: PETSc.Vec) -> Array:
    """θ (n,) of a block's unknowns (k,): the frozen values are those that PETSc has put into the DM."""
    whole = dm.getLocalVec()
    dm.globalToLocal(x, whole)
    theta = whole.array_r.copy()
    dm.restoreLocalVec(whole)
    return theta
