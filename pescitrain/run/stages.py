"""One solve after another, cut at checkpoints, each from the state that the checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.options import get_string
from pescitrain.errors import OptionError, PescitrainError
from pescitrain.evaluation.resampling import ResidualResampling
from pescitrain.run import checkpoint
from pescitrain.run.build import Setup
from pescitrain.run.checkpoint import State
from pescitrain.run.history import Clock, History, say
from pescitrain.run.options import StageOptions, read
from pescitrain.solvers.outcome import GaussNewtonSettings, Iterate, Outcome
from pescitrain.solvers.snes import SnesSolver
from pescitrain.solvers.tao import TaoSolver

Solver = TaoSolver | SnesSolver


@dataclass(frozen=True)
class StageResult:
    """How a stage ended."""

    name: str
    solver: str
    pc: str
    outcome: Outcome
    iterations: int
    max_iterations: int
    stopped_by_time: bool


def create_solver(setup: Setup, prefix: str, options: StageOptions, monitor: Callable[[Iterate], bool]) -> Solver:
    """The solver that a stage's options name. Collective.

    Raises
    ------
    OptionError
    """
    kind = options.solver
    if kind == "auto":
        snes, tao = get_string(f"{prefix}snes_type"), get_string(f"{prefix}tao_type")
        kind = "snes" if snes is not None and tao is None else "tao"
    coarsening = "depth" if options.hier_type == "depth" else "width" if options.hier_type == "width" else "both"
    gauss_newton = GaussNewtonSettings(
        None if options.gn_mat == "auto" else options.gn_mat,
        options.gn_lag or None,
        options.gn_shift,
        options.gn_damping,
        options.gn_rows,
        coarsening,
        options.hier_levels,
    )
    solver_class = SnesSolver if kind == "snes" else TaoSolver
    return solver_class(setup.system, prefix, gauss_newton, monitor)


class Training:
    """All stages of a run.

    The state between two segments is what a checkpoint holds and nothing else, so that a run that is continued from a
    checkpoint computes what the uninterrupted run computes.
    """

    def __init__(
        self,
        setup: Setup,
        stages: tuple[str, ...],
        state: State,
        history: History,
        clock: Clock,
        interval: int,
        folder: Path | None,
        resampling: ResidualResampling | None = None,
    ) -> None:
        self.setup, self.stages, self.state = setup, stages or ("",), state
        self.history, self.clock, self.interval, self.folder = history, clock, interval, folder
        self.mark = checkpoint.fingerprint(setup.system.layout, setup.evaluator.samples)
        self.last_good: np.ndarray = state.theta
        self.resampling = resampling
        if resampling is not None and state.sampled_at is not None:
            counters = setup.evaluator.counters
            before = dict(vars(counters))
            resampling.move(state.sampled_at, state.sampling_round)
            counters.restore(before)  # the run that wrote the checkpoint has counted it

    def run(self) -> list[StageResult]:
        """Solve what is left of the stages. Collective.

        Raises
        ------
        PescitrainError     what a residual or an option raised; :attr:`last_good` has the last accepted parameters
        """
        results = [self._stage(self.stages[self.state.stage])]
        while self.state.stage + 1 < len(self.stages):
            self.state.stage, self.state.iteration, self.state.memory = self.state.stage + 1, 0, {}
            self.state.stage_start_s = self.clock.elapsed
            results.append(self._stage(self.stages[self.state.stage]))
        return results

    def _stage(self, name: str) -> StageResult:
        prefix = f"{name}_" if name else ""
        options = read(StageOptions, prefix)
        out_of_time = False

        def monitor(iterate: Iterate) -> bool:
            nonlocal out_of_time
            self.last_good = iterate.theta.copy()
            self.history.record(name or "main", iterate)
            if options.max_time > 0.0:
                spent = self.clock.elapsed - self.state.stage_start_s
                out_of_time = self.setup.evaluator.comm.bcast(spent >= options.max_time)
            return out_of_time

        try:
            solver = create_solver(self.setup, prefix, options, monitor)
        except PETSc.Error as error:
            raise _cause(error, prefix) from error
        for notice in solver.notices:
            say(f"note: {notice}")
        say(f"stage {name or 'main'}: {solver.kind}:{solver.label}, preconditioner {solver.pc_label}")
        try:
            return self._segments(solver, name, lambda: out_of_time)
        except PETSc.Error as error:
            raise _cause(error, prefix) from error
        finally:
            solver.destroy()

    def _segments(self, solver: Solver, name: str, out_of_time: Callable[[], bool]) -> StageResult:
        layout, state = self.setup.system.layout, self.state
        theta = layout.vec_from(state.theta)
        evaluator, before = self.setup.evaluator, dict(vars(self.setup.evaluator.counters))
        self.clock.start()
        with PETSc.Log.Stage("Train"):
            start, _ = evaluator.objective_gradient(state.theta)  # the solver finds it cached
        if state.iteration > 0:
            evaluator.counters.restore(before)  # the run that wrote the checkpoint has counted it
        if not np.isfinite(start.objective):
            raise OptionError(
                "the objective is not finite at the start: look for logarithms and divisions in the residual, or "
                "try another -seed"
            )
        while True:
            segment = self._to_next(self.interval)
            if self.resampling is not None:
                if state.iteration > 0 and state.iteration % self.resampling.interval == 0:
                    with PETSc.Log.Stage("Train"):
                        self._resample(solver)
                segment = min(segment, self._to_next(self.resampling.interval))
            with PETSc.Log.Stage("Train"):
                outcome, state.memory = solver.run(theta, state.iteration, segment, state.memory)
            state.iteration += outcome.iterations
            state.theta = layout.gather(theta).copy()
            done = out_of_time() or not outcome.budget or state.iteration >= solver.max_iterations
            if done or state.iteration % self.interval == 0:
                with self.clock.paused():
                    self._save()
            if done:
                break
        self.clock.stop()
        theta.destroy()
        label = f"{solver.kind}:{solver.label}"
        pc, limit = solver.pc_label, solver.max_iterations
        return StageResult(name or "main", label, pc, outcome, state.iteration, limit, out_of_time())

    def _to_next(self, interval: int) -> int:
        return interval - self.state.iteration % interval

    def _resample(self, solver: Solver) -> None:
        """Move the points, and tell everyone who remembers the old ones. Collective."""
        assert self.resampling is not None
        state = self.state
        state.sampling_round, state.sampled_at = state.sampling_round + 1, state.theta
        self.resampling.move(state.theta, state.sampling_round)
        self.setup.system.gauss_newton.forget()
        state.memory = solver.points_moved(state.memory)

    def _save(self) -> None:
        if self.folder is None:
            return
        self.state.wall_s = self.clock.elapsed
        self.state.counters = dict(vars(self.setup.evaluator.counters))
        self.state.history = self.history.text()
        checkpoint.save(self.folder, self.state, self.setup.system.layout, self.mark)


def _cause(error: PETSc.Error, prefix: str) -> BaseException:
    """What is behind an error of PETSc: ours if a callback raised it, else a sentence about the option."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PescitrainError) or not isinstance(cause, PETSc.Error):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = str(error).strip().splitlines()
    last = text[-1].partition("] ")[2] or text[-1]
    return OptionError(f"PETSc refuses these options (-{prefix}tao_*, -{prefix}snes_*, -{prefix}pc_*): {last}")
