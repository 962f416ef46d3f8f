"""Schwarz-preconditioned quasi-Newton training as a TAO type: ``-tao_type spqn``."""

from __future__ import annotations

from typing import Any

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System
from pescitrain.algebra.options import get_choice, get_string
from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import GaussNewtonSettings, Memory
from pescitrain.solvers.schwarz.preconditioner import NonlinearSchwarz, local_defaults, preset_of, under
from pescitrain.solvers.schwarz.search import Point, point_at
from pescitrain.solvers.tao import TaoSolver

SECANTS = ("global", "half", "mixed")


class SchwarzQuasiNewton:
    """Quasi-Newton steps for ∇φ(G(θ)) = 0, where G trains the blocks of θ (:class:`NonlinearSchwarz`).

    An iteration: θ½ = G(θ), then a global step from θ½. The first iteration is a global step alone.

    The pairs of the global memory: ``global``, of the global step, s = θ⁺ − θ½; ``half``, from one θ½ to the next,
    as PETSc's qn with a right preconditioner has them; ``mixed``, s from the last θ½ to θ with the y of ``half``, which
    is no secant and is there to be compared with.

    Sources: Kopaničáková, Kothari, Karniadakis & Krause, SIAM J. Sci. Comput. 46 (2024) S46 (ASPQN, MSPQN); Lee,
    Kopaničáková & Karniadakis, Comput. Methods Appl. Mech. Engrg. 448 (2025) 118400 (two levels); Salvadó-Benasco et
    al., arXiv:2601.08709 (subspace). Blocks are ``-part_type``, ``-part_blocks``, ``-part_overlap``.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_spqn_preset none       aspqn, mspqn, two_level, subspace: other defaults for what follows
    -tao_spqn_kind additive     multiplicative, hybrid
    -tao_spqn_order forward     of blocks in turn: backward, symmetric (there and back), random
    -tao_spqn_sync subdomain    single, subspace, copy: how corrections are joined; of subdomain networks single, where
                                hybrid copy
    -tao_spqn_weights average   mean, restrict, sum: where blocks overlap (single and copy)
    -tao_spqn_memory restart    keep: of the local and coarse solves
    -tao_spqn_coarse none       first, last, output, interface, gains, network, level: what the coarse step trains
    -tao_spqn_coarse_accept search   copy
    -tao_spqn_secant global     half, mixed
    -tao_spqn_global true       the global step
    -tao_spqn_global_every 1    iterations between global steps
    -tao_spqn_warmup 1          iterations of global steps alone at the start
    -sub_tao_*                  the local solves: lbfgs, 10 iterations
    -coarse_tao_*               the coarse solve: lbfgs, 5 iterations
    -global_tao_*               the global step: lbfgs, 1 iteration
    -sync_tao_*                 the line searches or the minimisation of the synchronisation
    """

    def __init__(self) -> None:
        self.secant, self.use_global, self.global_every, self.warmup = "global", True, 1, 1
        self.global_steps = 1
        self.iterations, self._prefix = 0, ""
        self._system: System | None = None
        self._schwarz: NonlinearSchwarz | None = None
        self._global: TaoSolver | None = None
        self._global_memory: Memory = {}
        self._last_half: Point | None = None

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_spqn_*`` of the outer iteration.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self._prefix, name = prefix, f"{prefix}tao_spqn_"
        self.secant = get_choice(f"{name}secant", self.secant, SECANTS)
        self.use_global = options.getBool("tao_spqn_global", self.use_global)
        self.global_every = options.getInt("tao_spqn_global_every", self.global_every)
        self.warmup = options.getInt("tao_spqn_warmup", self.warmup)
        self.global_steps = PETSc.Options().getInt(f"{prefix}global_tao_max_it", self.global_steps)
        for key, number, least in (
            (f"{name}global_every", self.global_every, 1),
            (f"{name}warmup", self.warmup, 0),
            (f"{prefix}global_tao_max_it", self.global_steps, 1),
        ):
            if number < least:
                raise OptionError(f"-{key} {number}: it must be at least {least}")
        local_defaults(f"{prefix}global_", preset_of(prefix, "tao_spqn_"))
        if self.secant != "global" and get_string(f"{prefix}global_tao_type") not in ("lbfgs", "python"):
            raise OptionError(f"-{name}secant {self.secant} is for -{prefix}global_tao_type lbfgs")

    def connect(self, system: System) -> None:
        """The system behind φ, which TAO does not know. Collective."""
        self._system = system
        self._schwarz = NonlinearSchwarz(system, self._prefix, "tao_spqn_")
        self._global = TaoSolver(system, f"{self._prefix}global_", GaussNewtonSettings(), lambda _: False)

    def solve(self, tao: PETSc.TAO) -> None:
        """All iterations. Collective."""
        if self._system is None:
            raise OptionError("-tao_type spqn needs the blocks of a pescitrain system; use it through pescitrain")
        system, x = self._system, tao.getSolution()
        here = point_at(system, system.layout.gather(x).copy())
        iteration, step, reasons = 0, 0.0, PETSc.TAO.ConvergedReason
        while True:
            tao.setIterationNumber(iteration)
            tao.monitor(iteration, here.value.objective, float(np.linalg.norm(here.gradient)), 0.0, step)
            tao.checkConverged()
            if tao.getConvergedReason() == reasons.CONTINUE_ITERATING and iteration >= tao.getMaximumIterations():
                tao.setConvergedReason(reasons.DIVERGED_MAXITS)
            if tao.getConvergedReason() != reasons.CONTINUE_ITERATING:
                return
            there = self._iterate(system, here)
            if not there.value.objective < here.value.objective:
                tao.setConvergedReason(reasons.DIVERGED_LS_FAILURE)
                return
            step = float(np.linalg.norm(there.theta - here.theta))
            here = there
            system.layout.set(x, here.theta)
            iteration += 1

    def _iterate(self, system: System, start: Point) -> Point:
        assert self._schwarz is not None
        here = start
        if self.iterations >= self.warmup:
            here = self._schwarz.apply(start, self.iterations)
        if self.use_global and (self.iterations < self.warmup or self.iterations % self.global_every == 0):
            here = self._global_step(system, start, here)
        self.iterations += 1
        return here

    def _global_step(self, system: System, start: Point, half: Point) -> Point:
        """From θ½ = half, which the iteration that began at start has reached. Collective."""
        assert self._schwarz is not None
        assert self._global is not None
        memory = self._global_memory
        own_pairs = {key: memory.get(key, []) for key in ("secant_steps", "secant_changes")}
        if self.secant != "global" and self._last_half is not None:
            end = half if self.secant == "half" else start
            own_pairs["secant_steps"] = [*own_pairs["secant_steps"], end.theta - self._last_half.theta]
            own_pairs["secant_changes"] = [*own_pairs["secant_changes"], half.gradient - self._last_half.gradient]
            memory = {**memory, **own_pairs}
        x = system.layout.vec_from(half.theta)
        outcome, saved = self._global.run(x, 0, self.global_steps, memory)
        theta = system.layout.gather(x).copy()
        x.destroy()
        if self.secant != "global":
            newest = PETSc.Options().getInt(f"{self._prefix}global_tao_lbfgs_history", 10)
            saved = {**saved, **{key: pairs[-newest:] for key, pairs in own_pairs.items()}}
        self._global_memory, self._last_half = saved, half
        if outcome.diverged and np.array_equal(theta, half.theta):
            self._schwarz.notice(f"the global step failed in an iteration: {outcome.reason}")
            self._global_memory = {}
            return half
        return point_at(system, theta)

    def save(self, layout: ParameterLayout) -> Memory:
        """The global memory, the point of the last secant pair, and the local memories that are kept. Collective."""
        if self.iterations == 0 or self._schwarz is None:
            return {}
        memory: Memory = {"iterations": [np.array([float(self.iterations)])]}
        if self._last_half is not None and self.secant != "global":
            memory["secant_half"] = [self._last_half.theta, self._last_half.gradient]
        memory |= {f"global {key}": arrays for key, arrays in self._global_memory.items()}
        return memory | {f"local {key}": arrays for key, arrays in self._schwarz.save().items()}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Collective."""
        assert self._system is not None
        assert self._schwarz is not None
        self.iterations = int(memory["iterations"][0][0])
        self._global_memory = under("global ", memory)
        self._schwarz.restore(under("local ", memory))
        if "secant_half" in memory:
            theta, gradient = memory["secant_half"]
            self._last_half = Point(theta, self._system.evaluator.objective(theta), gradient)

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        kind = "" if self._schwarz is None else self._schwarz.kind
        viewer.printfASCII(f"  Schwarz quasi-Newton: kind={kind} secant={self.secant}\n")

    def destroy(self, _: Any = None) -> None:
        """Collective."""
        for solver in (self._schwarz, self._global):
            if solver is not None:
                solver.destroy()
        self._system = self._schwarz = self._global = None
