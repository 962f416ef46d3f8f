"""One solve after another, cut at checkpoints, each from the state that the checkpoint holds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError, PescitrainError, RestartError
from pescitrain.run import checkpoint
from pescitrain.run.build import Setup, build
from pescitrain.run.checkpoint import State
from pescitrain.run.correction import correct, residual_scale, start_at_zero
from pescitrain.run.history import Clock, History, say
from pescitrain.run.interruption import Interruption
from pescitrain.run.nested import coarsening_of, refined, settings_of_level, stage_names
from pescitrain.run.options import Settings, StageOptions, read
from pescitrain.run.patience import Best, best_of
from pescitrain.run.refreshes import Refreshes, create_refreshes
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
    interrupted_by: int  # number of the signal, or 0
    stopped_early: bool = False
    kept: int | None = None  # the iteration whose parameters are kept, where it is not the last one


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
    gauss_newton = GaussNewtonSettings(
        None if options.gn_mat == "auto" else options.gn_mat,
        options.gn_lag or None,
        options.gn_shift,
        options.gn_damping,
        options.gn_rows,
        coarsening_of(options.hier_type),
        options.hier_levels,
        options.gn_precision == "single",
    )
    solver_class = SnesSolver if kind == "snes" else TaoSolver
    return solver_class(setup.system, prefix, gauss_newton, monitor)


def _scale_tolerance(stage: str, scale: float) -> None:
    """PETSc's own ``-tao_gatol`` for the gradients of a correction, which are scale² times those of a network."""
    set_default(f"{stage}_tao_gatol", 1e-8 * scale**2)


def _corrects(stage: str) -> bool:
    """Whether a stage trains a new network on top of those before it."""
    return read(StageOptions, f"{stage}_").net_correction


class Training:
    """All stages of a run.

    The state between two segments is what a checkpoint holds and nothing else, so that a run that is continued from a
    checkpoint computes what the uninterrupted run computes. Construction is collective.

    Raises
    ------
    RestartError        the checkpoint has other corrections than this run
    """

    def __init__(
        self,
        setup: Setup,
        settings: Settings,
        state: State,
        history: History,
        clock: Clock,
        folder: Path | None,
        refreshes: Refreshes,
        interruption: Interruption,
    ) -> None:
        self.setup, self.settings, self.state = setup, settings, state
        self.stages, self.interval = stage_names() or ("",), settings.ckpt_interval
        self.history, self.clock, self.folder = history, clock, folder
        self.mark = checkpoint.fingerprint(setup.system.layout, setup.evaluator)
        self.last_good: np.ndarray = state.theta
        self.refreshes, self.interruption = refreshes, interruption
        self._best = Best()
        self._finest = setup if settings.hier_nested else None
        if settings.hier_nested:
            self._enter_level()
        self._resume_corrections()

    def run(self) -> list[StageResult]:
        """Solve what is left of the stages. Collective.

        Raises
        ------
        PescitrainError     what a residual or an option raised; :attr:`last_good` has the last accepted parameters
        """
        self.refreshes.begin(self.state)
        results = [self._stage(self.stages[self.state.stage])]
        while self.state.stage + 1 < len(self.stages) and not results[-1].interrupted_by:
            self.state.stage, self.state.iteration, self.state.memory = self.state.stage + 1, 0, {}
            self.state.refreshed.clear()
            self.state.best.clear()
            self.state.stage_start_s = self.clock.elapsed
            if self.settings.hier_nested:
                self._refine()
            self._begin_correction(self.stages[self.state.stage])
            results.append(self._stage(self.stages[self.state.stage]))
        return results

    def _level(self, stage: int) -> Setup:
        """The network of a level of nested iteration. Collective."""
        settings, finest = settings_of_level(self.settings, len(self.stages) - 1 - stage), self._finest
        assert finest is not None
        setup = finest
        if settings is not self.settings:
            setup = build(finest.problem, settings, finest.system.layout.comm)
            evaluator = setup.evaluator
            evaluator.counters, evaluator.arithmetic = finest.evaluator.counters, finest.evaluator.arithmetic
            evaluator.cost = evaluator.parameters.size / finest.evaluator.parameters.size
        say(
            f"level {stage}: {settings.net_depth} hidden layers of {settings.net_width}, "
            f"{setup.evaluator.parameters.size} parameters"
        )
        return setup

    def _enter_level(self) -> None:
        """Go on with the network of the level where the run stands. Collective."""
        with PETSc.Log.Stage("Set-up"):
            setup = self._level(self.state.stage)
            self._follow(setup, create_refreshes(setup, self.settings))
        if not self.state.history:
            self.state.theta = self.last_good = setup.evaluator.parameters.current()

    def _refine(self) -> None:
        """The next finer network, from where the coarser one has ended. Collective."""
        with PETSc.Log.Stage("Set-up"):
            finer = self._level(self.state.stage)
            seed = self.settings.seed + self.state.stage
            theta = refined(self.setup, finer, self.state.theta, seed)
            refreshes = self._onto_points(finer)
        self._follow(finer, refreshes)
        self.state.theta = self.last_good = theta

    def _resume_corrections(self) -> None:
        """From the checkpoint: the networks of the stages before, each with the next one on top. Collective."""
        state = self.state
        corrections = [name for name in self.stages[1 : state.stage + 1] if _corrects(name)]
        if len(corrections) != len(state.finished):
            raise RestartError("-ckpt_restart: the checkpoint has other stages with -net_correction than this run")
        for network, name in enumerate(corrections):
            self._put(state.finished[network])
            scale = float(state.scales[network][0])
            _scale_tolerance(name, scale)
            corrected = self._corrected(name, network + 1, scale)
            self._follow(corrected, create_refreshes(corrected, self.settings))
        if len(state.theta) != self.setup.system.layout.size:
            raise RestartError("-ckpt_restart: the network of the checkpoint differs from that of its stage here")

    def _begin_correction(self, name: str) -> None:
        """A new network, if the stage asks for one. Collective."""
        if not _corrects(name):
            return
        if self.settings.hier_nested:
            raise OptionError(f"-{name}_net_correction: with -hier_nested every level has a network already")
        self._put(self.state.theta)
        network = len(self.state.finished) + 1
        with PETSc.Log.Stage("Set-up"):
            scale = residual_scale(self.setup, self._onto_points, lambda one: self._corrected(name, network, one))
            _scale_tolerance(name, scale)
            corrected = self._corrected(name, network, scale)
            start_at_zero(corrected)
            refreshes = self._onto_points(corrected)
        self._follow(corrected, refreshes)
        self.state.finished.append(self.state.theta)
        self.state.scales.append(np.array([scale]))
        self.state.theta = self.last_good = corrected.evaluator.parameters.current()
        say(f"stage {name}: a correction of {len(self.state.theta)} parameters, scaled by {scale:.2e}")

    def _corrected(self, name: str, network: int, scale: float) -> Setup:
        return correct(self.setup, self.settings, f"{name}_", network, scale)

    def _onto_points(self, setup: Setup) -> Refreshes:
        """What refreshes, for a setup of its own, which gets the present points. Collective."""
        refreshes = create_refreshes(setup, self.settings)
        refreshes.begin(self.state)
        return refreshes

    def _follow(self, setup: Setup, refreshes: Refreshes) -> None:
        """Go on with another setup. Collective."""
        if self.setup is not self._finest:
            self.setup.destroy()
        self.setup, self.refreshes = setup, refreshes
        self.history.follow(setup)

    def _put(self, theta: np.ndarray) -> None:
        self.setup.evaluator.parameters.put(theta)

    def _stage(self, name: str) -> StageResult:
        prefix = f"{name}_" if name else ""
        options = read(StageOptions, prefix)
        if self.settings.hier_nested:
            most = options.hier_cycle_levels or options.hier_levels
            options = dataclasses.replace(options, hier_levels=min(most, self.state.stage + 1))
        out_of_time, signalled, recorded = False, 0, -1

        def monitor(iterate: Iterate) -> bool:
            nonlocal out_of_time, signalled, recorded
            self.last_good = iterate.theta.copy()
            # A segment of no iterations reports its start, like the one before.
            if iterate.iteration > recorded:
                self._watch(iterate, self.history.record(name or "main", iterate))
            recorded = iterate.iteration
            spent = self.clock.elapsed - self.state.stage_start_s
            reasons = np.array([0.0 < options.max_time <= spent, self.interruption.number], dtype=np.intc)
            self.setup.evaluator.comm.Allreduce(MPI.IN_PLACE, reasons, op=MPI.MAX)
            out_of_time, signalled = bool(reasons[0]), int(reasons[1])
            return out_of_time or signalled > 0 or self._out_of_patience

        try:
            solver = create_solver(self.setup, prefix, options, monitor)
        except PETSc.Error as error:
            raise cause_of(error, prefix) from error
        for notice in solver.notices:
            say(f"note: {notice}")
        method = f"{solver.kind}:{solver.label}"
        say(f"stage {name or 'main'}: {method}, preconditioner {solver.pc_label}")
        if self.state.memory and self.state.method != method:
            say(f"note: the checkpoint is of {self.state.method}, of whose memory {method} has no use")
            self.state.memory = {}
        self.state.method = method
        # A checkpoint of a run that did not watch the error has no best parameters: the watch begins now.
        self._best = best_of(self.history.rows, name or "main") if self.state.best else Best()
        try:
            return self._segments(solver, name, lambda: (out_of_time, signalled))
        except PETSc.Error as error:
            raise cause_of(error, prefix) from error
        finally:
            solver.destroy()

    def _watch(self, iterate: Iterate, error: float | None) -> None:
        """Keep the parameters with the smallest error of the stage, if anyone asks for them."""
        if error is None or not self.settings.data_patience:
            return
        self._best = self._best.after(iterate.iteration, error)
        if self._best.iteration == iterate.iteration:
            self.state.best[:] = [iterate.whole()]

    @property
    def _out_of_patience(self) -> bool:
        """Whether the error has not fallen for as many measurements as ``-data_patience`` says."""
        return 0 < self.settings.data_patience <= self._best.since

    def _return_to_best(self, stage: str) -> int | None:
        """End a stage with its best parameters; the checkpoint has the last ones, from which a longer run goes on.

        Returns their iteration, or None where they are the last ones.
        """
        if not self.settings.data_patience or not self.state.best or self._best.iteration == self.state.iteration:
            return None
        self.state.theta = self.last_good = self.state.best[0]
        self.history.keep(stage, self._best.iteration)
        return self._best.iteration

    def _segments(self, solver: Solver, name: str, stopped_by: Callable[[], tuple[bool, int]]) -> StageResult:
        layout, state = self.setup.system.layout, self.state
        theta = layout.vec_from(state.theta)
        evaluator, before = self.setup.evaluator, dict(vars(self.setup.evaluator.counters))
        self.clock.start()
        if evaluator.batches is not None:
            evaluator.batches.show(state.iteration)
        with PETSc.Log.Stage("Train"):
            start, _ = evaluator.objective_gradient(state.theta)  # the solver finds it cached
        if state.iteration > 0:
            evaluator.counters.restore(before)  # the run that wrote the checkpoint has counted it
        if not np.isfinite(start.objective):
            raise OptionError(
                "the objective is not finite at the start: look for logarithms and divisions in the residual, or "
                "try another -seed"
            )
        outcome = Outcome("CONVERGED_USER", 0, budget=False)
        done = self._out_of_patience  # it had stopped before the checkpoint that it starts from
        while not done:
            segment = self.interval - state.iteration % self.interval
            wait = self.refreshes.next_in(state)
            if wait == 0:
                with PETSc.Log.Stage("Train"):
                    self._refresh(solver)
                wait = self.refreshes.next_in(state)
            if wait is not None:
                segment = min(segment, wait)
            with PETSc.Log.Stage("Train"):
                outcome, state.memory = solver.run(theta, state.iteration, segment, state.memory)
            state.iteration += outcome.iterations
            state.theta = layout.gather(theta).copy()
            stopped = any(stopped_by()) or self._out_of_patience
            done = stopped or state.iteration >= solver.max_iterations
            if not (done or outcome.budget):
                done = outcome.diverged or not self.refreshes.hasten(state)
            if done or state.iteration % self.interval == 0:
                with self.clock.paused():
                    self._save()
        self.clock.stop()
        theta.destroy()
        label = f"{solver.kind}:{solver.label}"
        early, kept = self._out_of_patience, self._return_to_best(name or "main")
        pc, limit = solver.pc_label, solver.max_iterations
        return StageResult(name or "main", label, pc, outcome, state.iteration, limit, *stopped_by(), early, kept)

    def _refresh(self, solver: Solver) -> None:
        """Do what is due, and tell everyone who remembers the old objective. Collective."""
        self.refreshes.refresh(self.state)
        self.setup.evaluator.forget()
        self.setup.system.gauss_newton.forget()
        self.state.memory = solver.points_moved(self.state.memory)

    def _save(self) -> None:
        if self.folder is None:
            return
        self.state.wall_s = self.clock.elapsed
        self.state.counters = dict(vars(self.setup.evaluator.counters))
        self.state.history = self.history.text()
        checkpoint.save(self.folder, self.state, self.setup.system.layout, self.mark)


def cause_of(error: PETSc.Error, prefix: str) -> BaseException:
    """What is behind an error of PETSc: ours if a callback raised it, else a sentence about the option."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PescitrainError) or not isinstance(cause, PETSc.Error):
            return cause
        cause = cause.__cause__ or cause.__context__
    text = str(error).strip().splitlines()
    last = text[-1].partition("] ")[2] or text[-1]
    if value := re.match(r"Input string (\S+) has no (\w+) value", last):
        names = [key for key, given in PETSc.Options().getAll().items() if given == value[1]]
        name = min(names, key=len, default="?")  # stages have copies under longer names
        wanted = "a whole number" if value[2] == "integer" else "a number"
        return OptionError(f"-{name} {value[1]}: PETSc wants {wanted}")
    return OptionError(f"PETSc refuses these options (-{prefix}tao_*, -{prefix}snes_*, -{prefix}pc_*): {last}")
