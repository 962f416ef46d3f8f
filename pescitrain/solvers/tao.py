"""Any TAO method on a :class:`~pescitrain.algebra.System`, with the one preconditioner in its slot."""

from __future__ import annotations

from collections import deque
from functools import partial

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import System
from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError
from pescitrain.solvers.names import (
    OWN_TAO_TYPES,
    TAO_BOUNDED,
    TAO_NEWTON,
    TAO_SLOT,
    check_type,
)
from pescitrain.solvers.outcome import (
    NOTHING_LEFT,
    Array,
    GaussNewtonSettings,
    Iterate,
    Memory,
    Monitor,
    Outcome,
    reason_name,
)
from pescitrain.solvers.preconditioning import create_preconditioner, forward_krylov_options
from pescitrain.solvers.quasi_newton_memory import Answers, QuasiNewtonMemory
from pescitrain.solvers.stochastic import Stochastic, refuse_batches

SECANT = "secant"
"""In the name of what our types remember and what holds for one objective only."""


class TaoSolver:
    """One stage of training by TAO.

    Parameters
    ----------
    system : System
    prefix : str                        options prefix of the stage; ``<prefix>tao_type``, ``<prefix>pc_type``, …
    settings : GaussNewtonSettings      how the preconditioner is made
    monitor : Monitor                   called with every iterate

    Raises
    ------
    OptionError     an unknown or senseless method, bounds that the method would ignore
    """

    kind = "tao"

    def __init__(self, system: System, prefix: str, settings: GaussNewtonSettings, monitor: Monitor) -> None:
        self.system, self.prefix, self.settings, self.monitor = system, prefix, settings, monitor
        self.notices: list[str] = []
        name = get_string(prefix + "tao_type", "blmvm") or "blmvm"
        check_type("tao", name, f"-{prefix}tao_type")
        self.type = self._resolve(name)
        if system.bounds is not None and self.label not in TAO_BOUNDED:
            raise OptionError(
                f"-{prefix}tao_type {name} ignores the bounds of the unknown coefficients: use one of "
                f"{', '.join(TAO_BOUNDED)}"
            )
        krylov = name == "lm" and get_string(f"{prefix}tao_lm_space") == "krylov"
        self._slot = "tao_lm_" if krylov else TAO_SLOT.get(self.type)
        takes_one, method = self._slot is not None, name
        if krylov and "cgls" in (get_string(f"{prefix}{slot}ksp_type") for slot in ("tao_lm_", "")):
            takes_one, method = False, "-ksp_type cgls"
        self.preconditioner = create_preconditioner(system, prefix, settings, takes_one, self.notices, method)
        self.lag = settings.lag or (1 if self.type in TAO_NEWTON or krylov else 10)
        self.max_iterations = 0
        self._answers: Answers = deque()
        self._reported = -1
        self._linearized_at: Array | None = None
        self._start, self._linearizations = 0, 0

    def _resolve(self, name: str) -> str:
        """PETSc's type for a name; our own types become Python types in the database."""
        options = PETSc.Options()
        self.label = name
        if name in OWN_TAO_TYPES:
            options[f"{self.prefix}tao_type"] = "python"
            options[f"{self.prefix}tao_python_type"] = OWN_TAO_TYPES[name]
            return "python"
        if name == "lmvm" and get_string(f"{self.prefix}pc_type") != "none":
            self.label = "blmvm"
            options[f"{self.prefix}tao_type"] = "blmvm"
            self.notices.append(
                "lmvm drops its preconditioner after a failed line search; its twin blmvm is used instead"
            )
            return "blmvm"
        return name

    @property
    def pc_label(self) -> str:
        """The preconditioner in use, for summary.json."""
        return "none" if self.preconditioner is None else self.preconditioner.pc_type

    @property
    def _has_initial_matrix(self) -> bool:
        """Whether the preconditioner is the initial matrix of a quasi-Newton method."""
        return self.preconditioner is not None and self.type in TAO_SLOT and self.type not in TAO_NEWTON

    def run(self, theta: PETSc.Vec, start: int, segment: int, memory: Memory) -> tuple[Outcome, Memory]:
        """Go on from ``theta`` (overwritten) at iteration ``start`` for at most ``segment`` iterations. Collective.

        The TAO object is new each time and its state comes from ``theta`` and ``memory`` alone, so that a run that is
        restarted from a checkpoint does what the uninterrupted run does.
        """
        tao = self._create()
        if self.preconditioner is not None:
            self.preconditioner.begin()
        try:
            return self._solve(tao, theta, start, segment, memory)
        finally:
            tao.destroy()

    def points_moved(self, memory: Memory) -> Memory:
        """What of a memory holds when the points have moved: of secant pairs nothing, of our other types all."""
        self._linearized_at = None
        if self.type != "python":
            return {}
        return {key: kept for key, kept in memory.items() if SECANT not in key}

    def _create(self) -> PETSc.TAO:
        system, prefix = self.system, self.prefix
        tao = PETSc.TAO().create(system.layout.comm)
        tao.setOptionsPrefix(prefix or None)
        if self.type != "python":  # Python types come from the database, with the context that they name
            tao.setType(self.type)
        tao.setObjective(self._objective)
        tao.setObjectiveGradient(self._objective_gradient)
        bounds = system.bound_vecs()
        if bounds is not None:
            tao.setVariableBounds(bounds)
        if self.type in TAO_NEWTON:
            matrix = system.operator if self.preconditioner is None else self.preconditioner.matrix.mat
            tao.setHessian(self._hessian, system.operator, matrix)
        return tao

    def _objective(self, _: PETSc.TAO, x: PETSc.Vec) -> float:
        return self._answers[-1][0] if self._answers else self.system.objective(x)

    def _objective_gradient(self, _: PETSc.TAO, x: PETSc.Vec, g: PETSc.Vec) -> float:
        if self._answers:
            self._answers.rotate(-1)
            objective, gradient = self._answers[-1]
            self.system.layout.set(g, gradient)
            return objective
        return self.system.objective_gradient(x, g)

    def _hessian(self, _: PETSc.TAO, x: PETSc.Vec, __: PETSc.Mat, ___: PETSc.Mat) -> None:
        refresh = self._linearizations % self.lag == 0
        damping = self.settings.damping_of_line_search if self.type == "nls" else 0.0
        # The iterate that the monitor saw last: TAO's own number differs at the start of a solve.
        self.system.linearize(x, self.preconditioner, refresh, damping, max(self._reported, self._start))
        self._linearizations += 1

    def _solve(
        self, tao: PETSc.TAO, theta: PETSc.Vec, start: int, segment: int, memory: Memory
    ) -> tuple[Outcome, Memory]:
        self._start, self._linearizations = start, 0
        self._reported = -1
        remembers = self.type == "blmvm"
        if remembers:
            set_default(f"{self.prefix}tao_blmvm_recycle", True)
        if self._slot is not None:
            forward_krylov_options(self.prefix, self._slot)
        if self.type in TAO_NEWTON:
            set_default(f"{self.prefix}{TAO_SLOT[self.type]}ksp_max_it", 100)
        if self._has_initial_matrix:
            self._prepare_initial_matrix(theta, start, memory)
        tao.setSolution(theta)
        if self.type == "blmvm" and self.preconditioner is not None:
            tao.setLMVMH0(self.system.operator)
        tao.setFromOptions()
        if self.type == "python" and hasattr(tao.getPythonContext(), "connect"):
            tao.getPythonContext().connect(self.system)
        if self.type == "python" and hasattr(tao.getPythonContext(), "connect_preconditioner"):
            tao.getPythonContext().connect_preconditioner(self.preconditioner, self.lag, self.prefix)
        if self.type == "python" and hasattr(tao.getPythonContext(), "connect_hierarchy"):
            tao.getPythonContext().connect_hierarchy(self.system, self.settings.coarsening, self.settings.levels)
        self._connect_batches(tao, start)
        tao.setUp()
        self._wire(tao)
        total = tao.getMaximumIterations()
        self.max_iterations = total
        remaining = min(segment, total - start)
        if remaining <= 0:
            return NOTHING_LEFT, memory
        tao.setMaximumIterations(remaining)
        recorder = QuasiNewtonMemory(self._history_size()) if self.type in ("blmvm", "bqnls") else None
        if recorder is not None and memory and remembers:
            recorder.replay(tao, self.system.layout, memory, self._answers)
        if self.type == "python" and memory and hasattr(tao.getPythonContext(), "restore"):
            tao.getPythonContext().restore(self.system.layout, memory)
        if self.type == "python" and hasattr(tao.getPythonContext(), "begin"):
            tao.getPythonContext().begin(theta)
        self._watch(tao, start, recorder)
        tao.solve()
        outcome = self._outcome(tao, start, total)
        saved: Memory = {}
        if recorder is not None and remembers:
            saved = recorder.save(self.system.layout)
            if self._linearized_at is not None:
                saved["linearized_at"] = [self._linearized_at.copy()]
        elif self.type == "python" and hasattr(tao.getPythonContext(), "save"):
            saved = tao.getPythonContext().save(self.system.layout)
        return outcome, saved

    def _connect_batches(self, tao: PETSc.TAO, start: int) -> None:
        """Give the batches to a method that bears them, refuse any other."""
        batches = self.system.evaluator.batches
        if batches is None:
            return
        context = tao.getPythonContext() if self.type == "python" else None
        if not isinstance(context, Stochastic):
            refuse_batches(f"-{self.prefix}tao_type {self.label}")
        context.batches = batches
        batches.show(start)

    def _history_size(self) -> int:
        """Pairs to keep: those of the LMVM matrix; more where they also have to rebuild its diagonal initial matrix."""
        size = PETSc.Options().getInt(f"{self.prefix}tao_blmvm_mat_lmvm_hist_size", 5)
        return size if self.preconditioner is not None else max(size, 30)

    def _wire(self, tao: PETSc.TAO) -> None:
        """Put the one preconditioner into the inner Krylov solver of the method, after its set-up."""
        if self.type not in TAO_SLOT:
            return
        slot, options = self.prefix + TAO_SLOT[self.type], PETSc.Options()
        preconditioner, operator = self.preconditioner, self.system.operator
        if self.type in TAO_NEWTON:
            ksp = tao.getKSP()
            if not options.hasName(slot + "pc_type") or slot == self.prefix:
                if preconditioner is None:
                    ksp.getPC().setType("none")
                else:
                    preconditioner.attach(ksp, operator)
            self._count_krylov(ksp)
            return
        if preconditioner is None:
            return
        if self.type == "blmvm":
            ksp = tao.getLMVMH0KSP()
            ksp.setType("preonly")
            ksp.setFromOptions()
        else:
            ksp = PETSc.KSP().create(self.system.layout.comm)
            ksp.setOptionsPrefix(slot)
            ksp.setOperators(operator, preconditioner.matrix.mat)
            ksp.setType("preonly")
            ksp.setFromOptions()
            tao.getLMVMMat().setLMVMJ0KSP(ksp)
        if not options.hasName(slot + "pc_type"):
            preconditioner.attach(ksp, operator)
        if ksp.getType() != "preonly":
            self._count_krylov(ksp)

    def _count_krylov(self, ksp: PETSc.KSP) -> None:
        counters = self.system.evaluator.counters

        def count(_: PETSc.KSP, iteration: int, __: float) -> None:
            counters.krylov += int(iteration > 0)

        ksp.setMonitor(count)

    def _watch(self, tao: PETSc.TAO, start: int, recorder: QuasiNewtonMemory | None) -> None:
        def watch(tao: PETSc.TAO) -> None:
            iteration, objective, gradient_norm, *_ = tao.getSolutionStatus()
            x = tao.getSolution()
            if recorder is not None:
                recorder.record(x, tao.getGradient()[0], objective)
            if (iteration > 0 or start == 0) and start + iteration != self._reported:
                self._reported = start + iteration  # bntr, bntl and bncg report their start again
                theta = self.system.gather(x)
                whole = partial(self.system.whole, theta)
                if self.monitor(Iterate(start + iteration, theta, objective, gradient_norm, whole)):
                    tao.setConvergedReason(PETSc.TAO.ConvergedReason.CONVERGED_USER)
            if self._has_initial_matrix:
                self._update_initial_matrix(x, iteration, recorder)

        tao.setMonitor(watch)

    def _prepare_initial_matrix(self, theta: PETSc.Vec, start: int, memory: Memory) -> None:
        """The preconditioner as it stood at iteration ``start``: made there, or where the memory says."""
        assert self.preconditioner is not None
        point = memory.get("linearized_at", [None])[0]
        self.preconditioner.scale = 1.0
        if point is None or start % self.lag == 0:
            self._refresh(theta, start)
        elif not np.array_equal(point, self._linearized_at):
            vec = self.system.layout.vec_from(point)
            self._refresh(vec, start - start % self.lag)
            vec.destroy()
        self.preconditioner.require_symmetric_positive_definite(self.label)

    def _refresh(self, x: PETSc.Vec, iteration: int) -> None:
        """Make the preconditioner anew at x. Collective."""
        assert self.preconditioner is not None
        self.preconditioner.begin()
        self.system.linearize(x, self.preconditioner, draw=iteration)
        self._linearized_at = self.system.layout.gather(x).copy()

    def _update_initial_matrix(self, x: PETSc.Vec, iteration: int, recorder: QuasiNewtonMemory | None) -> None:
        """Refresh the preconditioner where it is time, and scale it to the last secant pair."""
        assert self.preconditioner is not None
        reached = self._start + iteration
        if iteration > 0 and reached % self.lag == 0:
            self._refresh(x, reached)
        pair = recorder.last_pair(x) if recorder is not None else None
        if pair is not None:
            self.preconditioner.rescale(*pair)
            self.system.operator.assemble()
            for vec in pair:
                vec.destroy()

    def _outcome(self, tao: PETSc.TAO, start: int, total: int) -> Outcome:
        code = tao.getConvergedReason()
        iterations = tao.getIterationNumber()
        budget = code == PETSc.TAO.ConvergedReason.DIVERGED_MAXITS
        return Outcome(reason_name(PETSc.TAO.ConvergedReason, code), iterations, budget)

    def destroy(self) -> None:
        """Collective."""
        if self.preconditioner is not None:
            self.preconditioner.destroy()
