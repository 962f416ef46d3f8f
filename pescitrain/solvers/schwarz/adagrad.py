"""AdaGrad in the blocks of θ side by side, without the objective: ``-tao_type asadagrad``."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System
from pescitrain.errors import EvaluationError, OptionError
from pescitrain.evaluation import Counters
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.restriction import RestrictedEvaluator, closure_work
from pescitrain.solvers.adagrad_step import Bounds, adagrad_step, descent
from pescitrain.solvers.outcome import Array, Memory
from pescitrain.solvers.schwarz.local import shares


class SchwarzAdagrad:
    """Steps α d / w of AdaGrad in every block with the rest frozen, joined as a partition of unity.

    An iteration starts from the gradient of all of θ, which is the first one of every block; parameters of several
    blocks, where they overlap, get the mean of what these say, and so do the sums of squares w². φ plays no part, and
    bounds are kept (additive Schwarz form of Gratton, Kopaničáková & Toint, arXiv:2507.11513; the details are our own).
    Blocks are shared out to the ranks by their work.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_asadagrad_lr 0.1, -tao_asadagrad_start 0.01    α, and what the sums of squares start from
    -tao_asadagrad_steps 3                              in a block
    """

    def __init__(self) -> None:
        self.learning_rate, self.start, self.steps = 0.1, 0.01, 3
        self.squares: Array | None = None
        self._system: System | None = None
        self._bounds: Bounds | None = None
        self._own: dict[int, RestrictedEvaluator] = {}

    def create(self, tao: PETSc.TAO) -> None:
        """It takes its step as it is."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_asadagrad_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), f"{tao.getOptionsPrefix() or ''}tao_asadagrad_"
        self.learning_rate = options.getReal("tao_asadagrad_lr", self.learning_rate)
        self.start = options.getReal("tao_asadagrad_start", self.start)
        self.steps = options.getInt("tao_asadagrad_steps", self.steps)
        for name, value in (("lr", self.learning_rate), ("start", self.start), ("steps", self.steps)):
            if not value > 0:
                raise OptionError(f"-{prefix}{name} {value:g}: it must be above 0")

    def connect(self, system: System) -> None:
        """The blocks, and those of them that this rank trains. Collective."""
        self._system, self._bounds = system, Bounds.of(system.bounds, system.layout.size)
        evaluator, actives = system.evaluator, [block.active for block in system.blocks]
        own = shares(closure_work(evaluator, actives), evaluator.comm.size)[evaluator.comm.rank]
        samples = LocalSamples.seen(evaluator, [actives[place] for place in own], MPI.COMM_SELF)
        self._own = {place: RestrictedEvaluator(evaluator, actives[place], samples) for place in own}

    def step(self, _: PETSc.TAO, x: PETSc.Vec, gradient: PETSc.Vec, step: PETSc.Vec) -> None:
        """The joined steps of all blocks. Collective."""
        if self._system is None or self._bounds is None:
            raise OptionError("-tao_type asadagrad needs the networks of pescitrain; use it through pescitrain")
        layout = self._system.layout
        theta, g = layout.gather(x).copy(), layout.gather(gradient).copy()
        first = descent(theta, g, self._bounds)
        squares = np.full(len(theta), self.start) if self.squares is None else self.squares
        squares = squares + first * first
        change, weights, count = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for place, (moved, learnt) in self._train_blocks(theta, first, squares).items():
            active = self._system.blocks[place].active
            change[active] += moved
            weights[active] += learnt
            count[active] += 1.0
        self.squares = weights / count
        layout.set(step, change / count)

    def _train_blocks(self, theta: Array, first: Array, squares: Array) -> dict[int, tuple[Array, Array]]:
        """Change and sums of squares of every block, on all ranks. Collective."""
        assert self._system is not None
        comm, failure = self._system.evaluator.comm, None
        results, spent = {}, []
        try:
            for place, evaluator in self._own.items():
                evaluator.counters = Counters()
                results[place] = self._train(evaluator, self._system.blocks[place].active, theta, first, squares)
                spent.append(evaluator.counters)
        except EvaluationError as error:  # the other ranks wait in the exchange below
            failure = str(error)
        parts = comm.allgather((results, spent, failure))
        text = next((text for _, _, text in parts if text is not None), None)
        if text is not None:
            raise EvaluationError(text)
        self._system.evaluator.counters.add_concurrent([one for _, part, _ in parts for one in part])
        return {place: result for part, _, _ in parts for place, result in part.items()}

    def _train(
        self,
        evaluator: RestrictedEvaluator,
        active: NDArray[np.integer],
        theta: Array,
        first: Array,
        squares: Array,
    ) -> tuple[Array, Array]:
        assert self._bounds is not None
        bounds, start, weights = self._bounds.part(active), theta[active], squares[active]
        y = start + adagrad_step(start, first[active], weights, self.learning_rate, bounds)
        with evaluator.frozen(theta):
            for _ in range(self.steps - 1):
                d = descent(y, evaluator.objective_gradient(y)[1], bounds)
                weights = weights + d * d
                y = y + adagrad_step(y, d, weights, self.learning_rate, bounds)
        return y - start, weights

    def save(self, layout: ParameterLayout) -> Memory:
        """Sums of squares. Not collective."""
        return {} if self.squares is None else {"squares": [self.squares.copy()]}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self.squares = memory["squares"][0].copy()

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  Schwarz AdaGrad: lr={self.learning_rate:g} start={self.start:g} steps={self.steps}\n")
