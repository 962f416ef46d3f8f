"""Any SNES method on ∇φ(θ) = 0, with φ as its objective and the one preconditioner in its slot."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import System
from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError
from pescitrain.solvers.names import SNES_LINEAR, check_type
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings, Iterate, Memory, Monitor, Outcome
from pescitrain.solvers.preconditioning import create_preconditioner


class SnesSolver:
    """One stage of training by SNES; parameters and errors as :class:`~pescitrain.solvers.tao.TaoSolver`.

    Newton types solve with the Gauss–Newton operator, preconditioned. The others (qn, ngmres, ncg, anderson,
    nrichardson) take the preconditioner as their nonlinear one: a step θ ← θ − P⁻¹∇φ.
    """

    kind = "snes"

    def __init__(self, system: System, prefix: str, settings: GaussNewtonSettings, monitor: Monitor) -> None:
        self.system, self.prefix, self.settings, self.monitor = system, prefix, settings, monitor
        self.notices: list[str] = []
        self.label = self.type = get_string(prefix + "snes_type", "newtonls") or "newtonls"
        check_type("snes", self.type, f"-{prefix}snes_type")
        if system.bounds is not None:
            raise OptionError(
                "SNES methods ignore the bounds of the unknown coefficients: use -tao_type blmvm, bqnls or bntr"
            )
        self.preconditioner = create_preconditioner(system, prefix, settings, True, self.notices, self.type)
        self.lag = settings.lag or 1
        self.max_iterations = 0
        self._norm_at_start: float | None = None
        self._stop = False

    @property
    def pc_label(self) -> str:
        """The preconditioner in use, for summary.json."""
        return "none" if self.preconditioner is None else self.preconditioner.pc_type

    def run(self, theta: PETSc.Vec, start: int, segment: int, memory: Memory) -> tuple[Outcome, Memory]:
        """Go on from ``theta`` (overwritten); as :meth:`TaoSolver.run`. Collective."""
        snes = self._create()
        try:
            return self._solve(snes, theta, start, segment, memory)
        finally:
            snes.destroy()

    def _create(self) -> PETSc.SNES:
        system, prefix = self.system, self.prefix
        self._linearizations = 0
        snes = PETSc.SNES().create(system.layout.comm)
        snes.setOptionsPrefix(prefix or None)
        snes.setType(self.type)
        snes.setDM(system.dm)
        snes.setFunction(lambda _, x, f: system.gradient(x, f), system.layout.create_vec())
        snes.setObjective(lambda _, x: system.objective(x))
        matrix = system.operator if self.preconditioner is None else self.preconditioner.matrix.mat
        snes.setJacobian(self._jacobian, system.operator, matrix)
        if self.type in SNES_LINEAR:
            self._krylov_defaults("")
        elif self.preconditioner is not None:
            if self.type == "qn":
                set_default(f"{prefix}snes_npc_side", "right")
            if self.type == "ngmres":
                set_default(f"{prefix}snes_ngmres_select_type", "linesearch")
            set_default(f"{prefix}npc_snes_type", "newtonls")
            set_default(f"{prefix}npc_snes_max_it", 1)
            set_default(f"{prefix}npc_ksp_type", "cg")
            set_default(f"{prefix}npc_ksp_max_it", 10)
            set_default(f"{prefix}npc_ksp_convergence_test", "skip")
        return snes

    def _krylov_defaults(self, slot: str) -> None:
        set_default(f"{self.prefix}{slot}ksp_type", "cg")
        set_default(f"{self.prefix}{slot}ksp_max_it", 100)
        set_default(f"{self.prefix}{slot}snes_max_linear_solve_fail", 1000000)

    def _jacobian(self, _: PETSc.SNES, x: PETSc.Vec, __: PETSc.Mat, ___: PETSc.Mat) -> None:
        refresh = self._linearizations % self.lag == 0
        self.system.linearize(x, self.preconditioner if refresh else None)
        self._linearizations += 1

    def _solve(
        self, snes: PETSc.SNES, theta: PETSc.Vec, start: int, segment: int, memory: Memory
    ) -> tuple[Outcome, Memory]:
        snes.setFromOptions()
        snes.setUp()
        inner = snes if self.type in SNES_LINEAR else snes.getNPC() if self.preconditioner is not None else None
        if inner is not None:
            ksp = inner.getKSP()
            if self.preconditioner is not None:
                self.preconditioner.attach(ksp, self.system.operator)
            else:
                ksp.getPC().setType("none")
            counters = self.system.evaluator.counters

            def count(_: PETSc.KSP, iteration: int, __: float) -> None:
                counters.krylov += int(iteration > 0)

            ksp.setMonitor(count)
        rtol, atol, stol, total = snes.getTolerances()
        self.max_iterations = total
        remaining = min(segment, total - start)
        if remaining <= 0:
            return NOTHING_LEFT, memory
        snes.setTolerances(rtol, atol, stol, remaining)
        self._stop = False
        if memory:
            self._norm_at_start = float(memory["norm_at_start"][0][0])
        snes.setMonitor(lambda snes, iteration, norm: self._watch(snes, start, iteration, norm))
        snes.setConvergenceTest(self._converged)
        snes.solve(None, theta)
        reasons = PETSc.SNES.ConvergedReason
        names = {v: k for k, v in vars(reasons).items() if isinstance(v, int)}
        code = snes.getConvergedReason()
        budget = code in (reasons.DIVERGED_MAX_IT, reasons.CONVERGED_ITS) and not self._stop
        outcome = Outcome(names.get(code, str(code)), snes.getIterationNumber(), budget)
        return outcome, {"norm_at_start": [np.array([self._norm_at_start or 0.0])]}

    def _watch(self, snes: PETSc.SNES, start: int, iteration: int, norm: float) -> None:
        if self._norm_at_start is None:
            self._norm_at_start = norm
        if iteration > 0 or start == 0:
            theta = self.system.layout.gather(snes.getSolution()).copy()
            objective = self.system.evaluator.objective(theta).objective
            self._stop = self.monitor(Iterate(start + iteration, theta, objective, norm))

    def _converged(self, snes: PETSc.SNES, iteration: int, norms: tuple[float, float, float]) -> int | None:
        """PETSc's default test, relative to the gradient at the start of the stage, and the monitor's wish to stop."""
        reasons = PETSc.SNES.ConvergedReason
        solution_norm, step_norm, norm = norms
        rtol, atol, stol, _ = snes.getTolerances()
        first = self._norm_at_start or norm
        if not np.isfinite(norm):
            return reasons.DIVERGED_FUNCTION_NANORINF
        if self._stop:
            return reasons.CONVERGED_ITS
        if norm < atol:
            return reasons.CONVERGED_FNORM_ABS
        if iteration == 0:
            return None
        if norm <= rtol * first:
            return reasons.CONVERGED_FNORM_RELATIVE
        if step_norm < stol * solution_norm:
            return reasons.CONVERGED_SNORM_RELATIVE
        divergence = PETSc.Options(snes).getReal("snes_divergence_tolerance", 1e4)
        return reasons.DIVERGED_DTOL if 0.0 < divergence * first < norm else None

    def destroy(self) -> None:
        """Collective."""
        if self.preconditioner is not None:
            self.preconditioner.destroy()
