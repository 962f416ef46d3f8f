"""Any SNES method on ∇φ(θ) = 0, with φ as its objective and the one preconditioner in its slot."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import System
from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError
from pescitrain.solvers.multilevel.full_approximation import NetworkHierarchy
from pescitrain.solvers.names import OWN_SNES_TYPES, SNES_LINEAR, SNES_MULTILEVEL, SNES_SCHWARZ, check_type
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings, Iterate, Memory, Monitor, Outcome, reason_name
from pescitrain.solvers.preconditioning import create_preconditioner
from pescitrain.solvers.schwarz.native import BlockFunctions, place_of, theta_of
from pescitrain.solvers.stochastic import refuse_batches


class SnesSolver:
    """One stage of training by SNES; parameters and errors as :class:`~pescitrain.solvers.tao.TaoSolver`.

    Newton types solve with the Gauss–Newton operator, preconditioned. The others (qn, ngmres, ncg, anderson,
    nrichardson) take the preconditioner as their nonlinear one: a step θ ← θ − P⁻¹∇φ.

    nasm and aspin solve for the blocks of θ, each with its own SNES ``-sub_*``; ``-npc_snes_type nasm`` or ``spqn``
    puts such a sweep before each step of any other type.

    fas cycles over the networks of ``-hier_type`` and ``-hier_levels``, each with its SNES ``-fas_levels_*`` and the
    coarsest with ``-fas_coarse_*``; a search along each coarse correction makes it MG/Opt (Nash, Optim. Methods Softw.
    14 (2000) 99–116).
    """

    kind = "snes"

    def __init__(self, system: System, prefix: str, settings: GaussNewtonSettings, monitor: Monitor) -> None:
        self.system, self.prefix, self.settings, self.monitor = system, prefix, settings, monitor
        self.notices: list[str] = []
        self.label = self.type = get_string(prefix + "snes_type", "newtonls") or "newtonls"
        check_type("snes", self.type, f"-{prefix}snes_type")
        if system.evaluator.batches is not None:
            refuse_batches(f"-{prefix}snes_type {self.type}")
        if system.bounds is not None:
            raise OptionError(
                "SNES methods ignore the bounds of the unknown coefficients: use -tao_type blmvm, bqnls or bntr"
            )
        self.nonlinear = get_string(f"{prefix}npc_snes_type")
        if self.nonlinear in OWN_SNES_TYPES:
            PETSc.Options()[f"{prefix}npc_snes_type"] = "python"
            PETSc.Options()[f"{prefix}npc_snes_python_type"] = OWN_SNES_TYPES[self.nonlinear]
        own_functions = (*SNES_SCHWARZ, *SNES_MULTILEVEL)
        takes_one = self.type in SNES_LINEAR or (self.type not in own_functions and self.nonlinear is None)
        self.preconditioner = create_preconditioner(system, prefix, settings, takes_one, self.notices, self.type)
        native = {self.type, self.nonlinear} & set(SNES_SCHWARZ)
        self.block_functions = BlockFunctions(system) if native else None
        self.hierarchy = None
        if self.type in SNES_MULTILEVEL:
            levels = PETSc.Options().getInt(f"{prefix}snes_fas_levels", settings.levels)
            self.hierarchy = NetworkHierarchy(system, settings.coarsening, levels)
            set_default(f"{prefix}snes_fas_levels", levels)
        self.lag = settings.lag or 1
        self.max_iterations = 0
        self._norm_at_start: float | None = None
        self._stop = False
        self._start, self._linearizations = 0, 0

    @property
    def pc_label(self) -> str:
        """The preconditioner in use, for summary.json."""
        return "none" if self.preconditioner is None else self.preconditioner.pc_type

    def run(self, theta: PETSc.Vec, start: int, segment: int, memory: Memory) -> tuple[Outcome, Memory]:
        """Go on from ``theta`` (overwritten); as :meth:`TaoSolver.run`. Collective."""
        self._start = start
        snes = self._create()
        if self.preconditioner is not None:
            self.preconditioner.begin()
        try:
            return self._solve(snes, theta, start, segment, memory)
        finally:
            snes.destroy()

    def points_moved(self, memory: Memory) -> Memory:
        """As :meth:`TaoSolver.points_moved`; the norm at the start remains the one to compare with. Collective."""
        if self.block_functions is not None:
            self.block_functions.take_points()
        return memory

    def _create(self) -> PETSc.SNES:
        system, prefix = self.system, self.prefix
        self._linearizations = 0
        snes = PETSc.SNES().create(system.layout.comm)
        snes.setOptionsPrefix(prefix or None)
        functions = self.block_functions or self.hierarchy
        snes.setDM(system.dm if functions is None else functions.dm)
        snes.setFunction(self._function, system.layout.create_vec())
        snes.setType(self.type)
        if self.type == "aspin":  # its Jacobian is that of θ − G(θ), which it makes itself; φ is no merit of it
            snes.setJacobian(self._jacobian, None, system.operator)
        else:
            snes.setObjective(self._objective)
            matrix = system.operator if self.preconditioner is None else self.preconditioner.matrix.mat
            snes.setJacobian(self._jacobian, system.operator, matrix)
        for key, value in self._defaults().items():
            set_default(f"{prefix}{key}", value)
        return snes

    def _defaults(self) -> dict[str, object]:
        """What makes each type a descent method for φ, where the user says nothing.

        PETSc's own defaults solve F = 0 and may climb. On networks qn and nrichardson diverge without backtracking,
        ngmres and anderson without a nonlinear preconditioner that descends, and ncg without steps that go to the first
        stationary point of φ along the direction: a secant search which starts from short steps.
        """
        defaults: dict[str, object] = self._defaults_of_blocks()
        if self.type in SNES_LINEAR:
            return defaults | {"ksp_type": "cg", "ksp_max_it": 100, "snes_max_linear_solve_fail": 1000000}
        if self.type in SNES_MULTILEVEL:
            return defaults | self._defaults_of_levels()
        if self.type in SNES_SCHWARZ or self.nonlinear is not None:
            if self.type in ("qn", "nrichardson"):
                defaults["snes_linesearch_type"] = "bt"
            return defaults
        if self.type in ("qn", "nrichardson") or (self.type == "ncg" and self.preconditioner is not None):
            defaults["snes_linesearch_type"] = "bt"
        if self.preconditioner is not None:
            defaults |= {
                "npc_snes_type": "newtonls",
                "npc_snes_max_it": 1,
                "npc_ksp_type": "cg",
                "npc_ksp_max_it": 10,
                "npc_ksp_convergence_test": "skip",
            }
            if self.type == "qn":
                defaults["snes_npc_side"] = "right"
            if self.type == "ngmres":
                defaults["snes_ngmres_select_type"] = "linesearch"
        elif self.type == "ncg" and get_string(f"{self.prefix}snes_linesearch_type") is None:
            defaults |= {
                "snes_linesearch_type": "cp",
                "snes_linesearch_max_it": 10,
                "snes_linesearch_damping": 0.01,
            }
        elif self.type in ("ngmres", "anderson"):
            defaults |= {"npc_snes_type": "nrichardson", "npc_snes_max_it": 1, "npc_snes_linesearch_type": "bt"}
        return defaults

    def _defaults_of_levels(self) -> dict[str, object]:
        """Newton steps in a trust region, whose failure alone would not end the cycle, and a search along corrections.

        PETSc's default search for them is a secant one, which may climb; backtracking sees φ.
        """
        defaults: dict[str, object] = {
            "snes_fas_use_coarse_correction_linesearch": True,
            "fas_coarse_correction_snes_linesearch_type": "bt",
            "snes_max_fail": 1000000,  # searches that find no descent: the correction is dropped, the smoothers go on
        }
        for level, steps in (("fas_levels_", 1), ("fas_coarse_", 5)):
            defaults |= {
                f"{level}snes_type": "newtontr",
                f"{level}snes_max_it": steps,
                f"{level}snes_max_linear_solve_fail": 1000000,
                f"{level}ksp_type": "cg",
                f"{level}ksp_max_it": 20,
                f"{level}pc_type": "none",
            }
        return defaults

    def _defaults_of_blocks(self) -> dict[str, object]:
        """Of block solves by Gauss–Newton, and of the side on which they precondition."""
        if self.block_functions is None and self.nonlinear is None:
            return {}
        defaults: dict[str, object] = {}
        if self.nonlinear is not None:
            defaults["npc_snes_max_it"] = 1
            if self.type != "nrichardson":  # which knows the left side alone
                defaults["snes_npc_side"] = "right"
        if self.block_functions is not None:
            sub = "sub_" if self.type == "nasm" else "npc_sub_"
            outer = "" if self.type == "nasm" else "npc_"
            if self.type == "aspin":
                defaults |= {"ksp_max_it": 300, "snes_max_linear_solve_fail": 1000000}
            else:
                defaults[f"{outer}snes_nasm_type"] = "restrict"
            defaults |= {
                f"{sub}snes_type": "newtonls",
                f"{sub}snes_max_it": 1,
                f"{sub}snes_linesearch_type": "bt",
                f"{sub}ksp_type": "preonly",
                f"{sub}pc_type": "cholesky",
            }
        return defaults

    def _function(self, snes: PETSc.SNES, x: PETSc.Vec, f: PETSc.Vec) -> None:
        dm = snes.getDM()
        place = None if self.block_functions is None else place_of(dm)
        if self.block_functions is None or place is None:
            self._system_of(dm).gradient(x, f)
        else:
            f.setArray(self.block_functions.gradient(place, theta_of(dm, x)))

    def _objective(self, snes: PETSc.SNES, x: PETSc.Vec) -> float:
        dm = snes.getDM()
        place = None if self.block_functions is None else place_of(dm)
        if self.block_functions is None or place is None:
            return self._system_of(dm).objective(x)
        return self.block_functions.objective(place, theta_of(dm, x))

    def _system_of(self, dm: PETSc.DM) -> System:
        return self.system if self.hierarchy is None else self.hierarchy.system_of(dm)

    def _jacobian(self, snes: PETSc.SNES, x: PETSc.Vec, __: PETSc.Mat, matrix: PETSc.Mat) -> None:
        dm = snes.getDM()
        place = None if self.block_functions is None else place_of(dm)
        if self.block_functions is not None and place is not None:
            values = self.block_functions.gauss_newton(place, theta_of(dm, x), self.settings.damping_of_line_search)
            indices = np.arange(len(values), dtype=PETSc.IntType)
            matrix.setValues(indices, indices, values)
            matrix.assemble()
            return
        if self.hierarchy is not None:
            damping = 0.0 if snes.getType() == "newtontr" else self.settings.damping_of_line_search
            self._system_of(dm).linearize(x, None, damping=damping)
            return
        refresh = self._linearizations % self.lag == 0
        damping = 0.0 if self.type == "newtontr" else self.settings.damping_of_line_search
        # A nonlinear preconditioner has no iterations of its own: it is called once in each.
        reached = snes.getIterationNumber() if self.type in SNES_LINEAR else self._linearizations
        self.system.linearize(x, self.preconditioner, refresh, damping, self._start + reached)
        self._linearizations += 1

    def _solve(
        self, snes: PETSc.SNES, theta: PETSc.Vec, start: int, segment: int, memory: Memory
    ) -> tuple[Outcome, Memory]:
        snes.setFromOptions()
        snes.setUp()
        if self.hierarchy is not None:
            self.hierarchy.prepare_smoothers(snes)
        if self.nonlinear in OWN_SNES_TYPES:
            snes.getNPC().getPythonContext().connect(self.system, start)
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
        code = snes.getConvergedReason()
        budget = code in (reasons.DIVERGED_MAX_IT, reasons.CONVERGED_ITS) and not self._stop
        outcome = Outcome(reason_name(reasons, code), snes.getIterationNumber(), budget)
        return outcome, {"norm_at_start": [np.array([self._norm_at_start or 0.0])]}

    def _watch(self, snes: PETSc.SNES, start: int, iteration: int, norm: float) -> None:
        if self.block_functions is not None:
            self.block_functions.charge()
        if self._norm_at_start is None:
            self._norm_at_start = norm
        if iteration > 0 or start == 0:
            theta = self.system.layout.gather(snes.getSolution()).copy()
            objective = self.system.evaluator.objective(theta).objective
            self._stop = self.monitor(Iterate(start + iteration, theta, objective, norm, theta.copy))
            if self._stop:
                snes.setConvergedReason(PETSc.SNES.ConvergedReason.CONVERGED_ITS)

    def _converged(self, snes: PETSc.SNES, iteration: int, norms: tuple[float, float, float]) -> int | None:
        """PETSc's default test, relative to the gradient at the start of the stage."""
        reasons = PETSc.SNES.ConvergedReason
        solution_norm, step_norm, norm = norms
        rtol, atol, stol, _ = snes.getTolerances()
        first = self._norm_at_start or norm
        if not np.isfinite(norm):
            return reasons.DIVERGED_FUNCTION_NANORINF
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
        if self.block_functions is not None:
            self.block_functions.destroy()
        if self.hierarchy is not None:
            self.hierarchy.destroy()
