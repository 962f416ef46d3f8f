"""The recursive multilevel trust region as a TAO type: ``-tao_type rmtr``."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System
from pescitrain.algebra.hierarchy import Coarsening
from pescitrain.algebra.options import get_choice
from pescitrain.errors import OptionError
from pescitrain.solvers.limited_memory_sr1 import LimitedMemorySR1
from pescitrain.solvers.multilevel.coarse_model import COARSE_MODELS, Function, coarse_model
from pescitrain.solvers.multilevel.levels import NetworkLevel, create_levels
from pescitrain.solvers.outcome import Array, Memory, report
from pescitrain.solvers.trust_region import Radius, reduction_ratio

CYCLES = {"v": 1, "w": 2}
"""Coarse corrections of a cycle."""
INSIDE = 1e-3
"""A coarse level is left where its iterate is closer than this part of the radius to the edge of the finer region."""


class IsometricLevel:
    """A network in coordinates Dθ in which prolongation is an isometry: P̂ᵀP̂ = I, so that Π = P̂ᵀ and radii carry over.

    D = 1 on the finest level, and D_c² = diag(Pᵀ D² P).
    """

    def __init__(self, level: NetworkLevel, scale: Array) -> None:
        self.level, self.scale = level, scale
        self._prolongation = None
        self.coarse_scale: Array | None = None
        if level.prolongation is not None:
            weighted = level.prolongation.multiply(scale[:, None])
            squares = np.asarray(weighted.multiply(weighted).sum(0)).ravel()
            self.coarse_scale = np.sqrt(squares)
            self._prolongation = weighted.multiply(1.0 / self.coarse_scale).tocsr()

    def __call__(self, scaled: Array) -> tuple[float, Array]:
        """φ and its gradient in these coordinates. Collective."""
        value, gradient = self.level.evaluator.objective_gradient(scaled / self.scale)
        return value.objective, gradient / self.scale

    def prolong(self, change: Array) -> Array:
        """P̂ c."""
        assert self._prolongation is not None
        return self._prolongation @ change

    def restrict(self, vector: Array) -> Array:
        """P̂ᵀ, of gradients and of iterates."""
        assert self._prolongation is not None
        return self._prolongation.T @ vector


@dataclass
class Visit:
    """A stay on a level: h, the iterate with h and ∇h there, the region, the curvature that was learnt.

    ``anchor`` and ``bound``: the first iterate and the radius of the finer region, which it must not leave; None on the
    finest level.
    """

    objective: Function
    theta: Array
    value: float
    gradient: Array
    radius: float
    curvature: LimitedMemorySR1
    tolerance: float
    anchor: Array | None = None
    bound: float = np.inf
    leave: bool = field(default=False, init=False)


class RecursiveTrustRegion:
    """Trust-region steps with SR1 curvature on every level of the hierarchy, corrections of the coarser ones tested as
    steps are.

    A cycle smooths, corrects by the next coarser level and smooths again; that level minimises a model with the
    gradient Pᵀ∇h inside the region of the finer one (Kopaničáková & Krause, SIAM J. Sci. Comput. 45 (2023) S254–S280,
    arXiv:2107.07572, after Gratton, Sartenaer & Toint, SIAM J. Optim. 19 (2008) 414–444). Levels are in coordinates in
    which prolongation is an isometry. An iteration is a cycle; the networks are those of ``-hier_type`` and
    ``-hier_levels``.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_rmtr_cycle v                   w: two corrections
    -tao_rmtr_pre 1, -tao_rmtr_post 1   steps before and after them
    -tao_rmtr_coarse_its 10             on the coarsest level
    -tao_rmtr_coarse_model additive     multiplicative, hybrid, none
    -tao_rmtr_kappa 0.1                 no correction where ‖Pᵀ∇h‖ is below this part of the coarse gradient's norm
    -tao_rmtr_history 10                pairs that are kept on each level; a coarse one starts anew at each visit
    -tao_rmtr_radius 1, -tao_rmtr_max_radius 10
    """

    def __init__(self) -> None:
        self.cycle, self.pre, self.post, self.coarse_its = "v", 1, 1, 10
        self.model, self.kappa, self.history = "additive", 0.1, 10
        self.first_radius, self.rules = 1.0, Radius()
        self.visit: Visit | None = None
        self._system: System | None = None
        self._levels: list[IsometricLevel] = []
        self._memory: Memory = {}

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_rmtr_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), f"{tao.getOptionsPrefix() or ''}tao_rmtr_"
        self.cycle = get_choice(f"{prefix}cycle", self.cycle, tuple(CYCLES))
        self.model = get_choice(f"{prefix}coarse_model", self.model, COARSE_MODELS)
        self.kappa = options.getReal("tao_rmtr_kappa", self.kappa)
        self.first_radius = options.getReal("tao_rmtr_radius", self.first_radius)
        self.rules = Radius(largest=options.getReal("tao_rmtr_max_radius", self.rules.largest))
        for name, least in (("pre", 0), ("post", 0), ("coarse_its", 1), ("history", 1)):
            number = options.getInt(f"tao_rmtr_{name}", getattr(self, name))
            if number < least:
                raise OptionError(f"-{prefix}{name} {number}: it must be {least} or more")
            setattr(self, name, number)
        if not 0.0 < self.first_radius <= self.rules.largest:
            raise OptionError(
                f"-{prefix}radius {self.first_radius:g}: it must be above 0 and at most -{prefix}max_radius "
                f"{self.rules.largest:g}"
            )

    def connect_hierarchy(self, system: System, coarsening: Coarsening, count: int) -> None:
        """The networks of ``-hier_type`` and ``-hier_levels``. Collective.

        Raises
        ------
        OptionError     as :func:`create_levels`
        """
        self._system, self._levels = system, []
        scale: Array | None = np.ones(system.layout.size)
        for level in create_levels(system, coarsening, count):
            assert scale is not None
            self._levels.append(IsometricLevel(level, scale))
            scale = self._levels[-1].coarse_scale

    def solve(self, tao: PETSc.TAO) -> None:
        """Cycle until a test of TAO ends it. Collective."""
        if self._system is None:
            raise OptionError("-tao_type rmtr needs the networks of pescitrain; use it through pescitrain")
        layout, x, reasons = self._system.layout, tao.getSolution(), PETSc.TAO.ConvergedReason
        visit = self.visit = self._begin(layout.gather(x).copy(), float(tao.getTolerances()[0]))
        gradient = layout.vec_from(visit.gradient)
        report(tao, 0, visit.value, gradient, visit.radius)
        for iteration in range(1, tao.getMaximumIterations() + 1):
            if tao.getConvergedReason():
                break
            self._cycle(0, visit)
            layout.set(x, visit.theta)
            layout.set(gradient, visit.gradient)
            report(tao, iteration, visit.value, gradient, visit.radius)
            if visit.radius < self.rules.smallest and not tao.getConvergedReason():
                tao.setConvergedReason(reasons.CONVERGED_STEPTOL)
        if not tao.getConvergedReason():
            tao.setConvergedReason(reasons.DIVERGED_MAXITS)
        gradient.destroy()

    def _begin(self, theta: Array, tolerance: float) -> Visit:
        """The finest level, with what a memory has of it. Collective."""
        value, gradient = self._levels[0](theta)
        curvature = LimitedMemorySR1(self.history, PETSc.COMM_SELF)
        visit = Visit(self._levels[0], theta, value, gradient, self.first_radius, curvature, tolerance)
        if self._memory:
            visit.radius, scale = self._memory["radius"][0]
            pairs = zip(self._memory.get("secant_steps", []), self._memory.get("secant_changes", []), strict=True)
            curvature.restore(list(pairs), scale)
        return visit

    def _cycle(self, level: int, visit: Visit) -> None:
        if level + 1 == len(self._levels):
            self._smooth(visit, self.coarse_its)
            return
        self._smooth(visit, self.pre)
        for _ in range(CYCLES[self.cycle]):
            if visit.leave or not self._correct(level, visit):
                break
        self._smooth(visit, self.post)

    def _smooth(self, visit: Visit, count: int) -> None:
        """Trust-region steps. Collective."""
        for _ in range(count):
            if visit.leave or np.linalg.norm(visit.gradient) <= visit.tolerance or visit.radius < self.rules.smallest:
                return
            step = visit.curvature.solve(visit.gradient, visit.radius)
            self._try(visit, step.vector, step.reduction)

    def _correct(self, level: int, visit: Visit) -> bool:
        """The correction of the next coarser level; False where it has none to give. Collective."""
        fine, coarse = self._levels[level], self._levels[level + 1]
        restricted, anchor = fine.restrict(visit.gradient), fine.restrict(visit.theta)
        here = coarse(anchor)
        size = float(np.linalg.norm(restricted))
        tolerance = min(visit.tolerance, self.kappa * float(np.linalg.norm(visit.gradient)))
        if not np.isfinite(here[0]) or size < self.kappa * np.linalg.norm(here[1]) or size <= tolerance:
            return False
        model = coarse_model(self.model, coarse, anchor, here, (visit.value, restricted))
        if model is None:
            return False
        value, gradient = here if self.model == "none" else (visit.value, restricted)
        curvature = LimitedMemorySR1(self.history, PETSc.COMM_SELF)
        child = Visit(
            model, anchor, value, gradient, visit.radius, curvature, tolerance, anchor=anchor, bound=visit.radius
        )
        self._cycle(level + 1, child)
        reduction = value - child.value
        if not reduction > 0.0:
            return False
        self._try(visit, fine.prolong(child.theta - anchor), reduction)
        return True

    def _try(self, visit: Visit, step: Array, predicted: float) -> None:
        """Take a step if it reduces h as predicted, learn from it in any case, and set the radius. Collective."""
        value, gradient = visit.objective(visit.theta + step)
        ratio = reduction_ratio(visit.value, value, predicted)
        if np.isfinite(value):
            visit.curvature.add(step, gradient - visit.gradient)
        if ratio > self.rules.accept:
            visit.theta, visit.value, visit.gradient = visit.theta + step, value, gradient
        visit.radius = self.rules.after(visit.radius, ratio)
        if visit.anchor is not None:
            away = float(np.linalg.norm(visit.theta - visit.anchor))
            visit.radius = min(visit.radius, max(0.0, visit.bound - away))
            visit.leave = away > (1.0 - INSIDE) * visit.bound or visit.radius < self.rules.smallest

    def save(self, layout: ParameterLayout) -> Memory:
        """Radius and curvature of the finest level. Not collective."""
        if self.visit is None:
            return {}
        curvature = self.visit.curvature
        return {
            "secant_steps": [step.copy() for step in curvature.steps],
            "secant_changes": [change.copy() for change in curvature.changes],
            "radius": [np.array([self.visit.radius, curvature.scale])],
        }

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self._memory = memory

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(
            f"  RMTR: {len(self._levels)} levels cycle={self.cycle} pre={self.pre} post={self.post} "
            f"coarse_its={self.coarse_its} coarse_model={self.model}\n"
        )
