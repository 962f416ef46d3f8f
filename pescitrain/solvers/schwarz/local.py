"""The local problems: each block of θ trained by a TAO of its own, with the rest frozen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra import Block, ParameterLayout, System, decompose
from pescitrain.errors import EvaluationError
from pescitrain.evaluation import Counters
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.restriction import RestrictedEvaluator, closure_work
from pescitrain.solvers.outcome import Array, GaussNewtonSettings, Memory
from pescitrain.solvers.schwarz.search import Point
from pescitrain.solvers.tao import TaoSolver

FLOATING_POINT = 83
"""PETSC_ERR_FP, of TAO where a callback gives no number."""


@dataclass(frozen=True)
class Correction:
    """What a local solve gives: the change of its block, zero elsewhere.

    Attributes
    ----------
    name : str              of the block
    change : (n,)           E (z − R θ)
    cost : Counters         evaluations of the local solve
    trouble : str           why there is no change; "" if there is
    """

    name: str
    change: Array
    cost: Counters
    trouble: str = ""


class LocalProblem:
    """φ over the layers of a block, the rest frozen, and the TAO that reduces it.

    Construction is collective on the ranks of its samples.

    Parameters
    ----------
    system : System             of all of θ
    block : Block
    prefix : str                of the options of its TAO
    samples : LocalSamples      what the block sees, and maybe more, on the ranks that solve it together

    Attributes
    ----------
    sees_all : bool             whether its φ is that of all samples; else of those that its subdomains see
    """

    def __init__(self, system: System, block: Block, prefix: str, samples: LocalSamples) -> None:
        self.block = block
        self.memory: Memory = {}
        self.evaluator = RestrictedEvaluator(system.evaluator, block.active, samples)
        self.evaluator.arithmetic = system.evaluator.arithmetic
        comm = PETSc.Comm(samples.comm)  # pyright: ignore[reportCallIssue]
        layout = ParameterLayout(self.evaluator.parameters, comm, "even")
        bounds = system.bounds
        own = None if bounds is None else (bounds[0][block.active], bounds[1][block.active])
        blocks = decompose(layout.layers, "layer", None, 0)
        self.system = System(self.evaluator, layout, blocks, own)
        self.sees_all = not self.evaluator.sight.own
        self.idle = PETSc.Options().getInt(f"{prefix}tao_max_it", 1) == 0  # which TAO itself refuses
        self.solver = TaoSolver(self.system, prefix, GaussNewtonSettings(), lambda _: False)

    def solve(self, theta: Array, known: Point | None, keep: bool) -> Correction:
        """Reduce φ from θ (n,). Collective on the ranks of the problem.

        ``known``: φ and ∇φ there, which a block that :attr:`sees_all` samples needs; ``keep``: go on with the memory of
        the last solve.
        """
        layout, evaluator, active = self.system.layout, self.evaluator, self.block.active
        evaluator.counters = Counters()
        change, trouble = np.zeros_like(theta), ""
        if self.idle:
            return Correction(self.block.name, change, evaluator.counters)
        x = layout.vec_from(theta[active])
        try:
            with evaluator.frozen(theta):
                if self.sees_all:
                    assert known is not None
                    evaluator.learn(theta[active], known.value, known.gradient[active])
                value = evaluator.objective_gradient(theta[active])[0]
                self.system.gauss_newton.forget()
                outcome, memory = self.solver.run(x, 0, np.iinfo(np.int32).max, self.memory if keep else {})
                z = layout.gather(x).copy()
                if evaluator.objective(z).objective < value.objective:
                    change[active] = z - theta[active]
                elif outcome.diverged:
                    trouble = outcome.reason
                self.memory = memory
        except PETSc.Error as error:
            trouble = _trouble(error)
            if not trouble:
                raise
        finally:
            x.destroy()
        return Correction(self.block.name, change, evaluator.counters, trouble)

    def destroy(self) -> None:
        """Collective on the ranks of the problem."""
        self.solver.destroy()
        self.system.destroy()


def _trouble(error: PETSc.Error) -> str:
    """What went wrong in the evaluation of φ, or "" where something else did."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, PETSc.Error) and cause.args[0] == FLOATING_POINT:
        return "the objective or its gradient became infinite or NaN"
    return str(cause) if isinstance(cause, EvaluationError) else ""


def shares(work: Sequence[float], groups: int) -> list[list[int]]:
    """The places of tasks for every group, so that groups end at about the same time: the longest goes first to the
    group that has least (Graham 1969), and every group gets one."""
    result: list[list[int]] = [[] for _ in range(groups)]
    load = [0.0] * groups
    for place in sorted(range(len(work)), key=lambda k: -work[k]):
        least = min(range(groups), key=lambda group: (load[group], len(result[group])))
        result[least].append(place)
        load[least] += work[place]
    return [sorted(places) for places in result]


class LocalProblems:
    """All blocks, side by side: each is solved by one rank, or by a group of ranks where blocks are fewer.

    The first layers of a network make a dear block, as every closure runs through all that follow: each rank gets its
    share of the work, not of the blocks.

    Every rank is sent the points that its blocks see (or its part of them, in a group), so that a local solve needs no
    other rank: all points, or those under the windows of its subdomains. Construction is collective.
    """

    def __init__(self, system: System, blocks: Sequence[Block], prefix: str) -> None:
        comm: MPI.Intracomm = system.evaluator.comm
        self.comm, self.count = comm, len(blocks)
        groups = min(comm.size, len(blocks))
        group = comm.rank * groups // comm.size
        self.group = comm.Split(group, comm.rank)
        actives = [block.active for block in blocks]
        own = shares(closure_work(system.evaluator, actives), groups)[group]
        samples = LocalSamples.seen(system.evaluator, [actives[place] for place in own], self.group)
        self.problems = {place: LocalProblem(system, blocks[place], prefix, samples) for place in own}

    def solve(self, here: Point, keep: bool) -> list[Correction]:
        """The corrections of all blocks, on all ranks. Collective."""
        own, failure = {}, None
        try:
            own = {place: problem.solve(here.theta, here, keep) for place, problem in self.problems.items()}
        except Exception as error:  # whatever it is, the other ranks wait in the exchange below
            failure = error
        texts = self.comm.allgather(None if failure is None else str(failure.__cause__ or failure))
        text = next((text for text in texts if text is not None), None)
        if text is not None:
            raise EvaluationError(text) from failure
        sent = own if self.group.rank == 0 else {}
        known = {place: one for part in self.comm.allgather(sent) for place, one in part.items()}
        return [known[place] for place in range(self.count)]

    def save(self) -> list[Memory]:
        """The memory of every block, on all ranks. Collective."""
        own = {place: problem.memory for place, problem in self.problems.items() if self.group.rank == 0}
        known = {place: one for part in self.comm.allgather(own) for place, one in part.items()}
        return [known[place] for place in range(self.count)]

    def restore(self, memories: Sequence[Memory]) -> None:
        """Continue from :meth:`save`. Not collective."""
        for place, problem in self.problems.items():
            problem.memory = memories[place]

    def destroy(self) -> None:
        """Collective."""
        for problem in self.problems.values():
            problem.destroy()
        self.group.Free()
