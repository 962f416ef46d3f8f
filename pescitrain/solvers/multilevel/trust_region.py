"""The recursive multilevel trust region as a TAO type: ``-tao_type rmtr``."""

from __future__ import annotations

from collections.abc import Callable
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
from pescitrain.solvers.multilevel.sample_size import SampleSize
from pescitrain.solvers.outcome import Array, Memory, report
from pescitrain.solvers.stochastic import Stochastic
from pescitrain.solvers.truncated_cg import truncated_cg
from pescitrain.solvers.trust_region import Radius, reduction_ratio

HESSIANS = ("sr1", "gauss_newton")
"""Curvature from the pairs of a level, or products with the generalized Gauss–Newton matrix of its network."""
RESTRICTIONS = ("transpose", "injection")
"""Of gradients: by Pᵀ, which they are dual to, or from one child of two, which shows what that is worth."""
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

    def gauss_newton(self, scaled: Array) -> Callable[[Array], Array]:
        """v -> D⁻¹ JᵀJ D⁻¹ v, J of this network. Collective, and so is the product."""
        linearization = self.level.evaluator.linearize(scaled / self.scale)
        return lambda v: linearization.gauss_newton_times(v / self.scale) / self.scale

    def prolong(self, change: Array) -> Array:
        """P̂ c."""
        assert self._prolongation is not None
        return self._prolongation @ change

    def restrict(self, vector: Array) -> Array:
        """P̂ᵀ, of gradients and of iterates."""
        assert self._prolongation is not None
        return self._prolongation.T @ vector

    def inject(self, gradient: Array) -> Array:
        """The gradient of the first that each coarse parameter is prolonged to."""
        assert self.coarse_scale is not None
        return self.level.inject(gradient * self.scale) / self.coarse_scale


@dataclass(frozen=True)
class LevelSettings:
    """What is done on a level: steps before and after a correction, or in all on the coarsest one; their curvature."""

    pre: int = 1
    post: int = 1
    coarse_its: int = 10
    hessian: str = "sr1"
    history: int = 10
    cg_its: int = 20
    cg_rtol: float = 0.1


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
    settings: LevelSettings = LevelSettings()
    anchor: Array | None = None
    bound: float = np.inf
    leave: bool = field(default=False, init=False)


class RecursiveTrustRegion(Stochastic):
    """Trust-region steps with SR1 curvature on every level of the hierarchy, corrections of the coarser ones tested as
    steps are.

    A cycle smooths, corrects by the next coarser level and smooths again; that level minimises a model with the
    gradient Pᵀ∇h inside the region of the finer one (Kopaničáková & Krause, SIAM J. Sci. Comput. 45 (2023) S254–S280,
    arXiv:2107.07572, after Gratton, Sartenaer & Toint, SIAM J. Optim. 19 (2008) 414–444). Levels are in coordinates in
    which prolongation is an isometry. An iteration is a cycle; the networks are those of ``-hier_type`` and
    ``-hier_levels``. With ``-sample_batch``, which is the size of the first batches, an iteration is some cycles on the
    next batch, whose pairs are forgotten, and batches grow as :class:`~.sample_size.SampleSize` says.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_rmtr_cycle v                   w: two corrections
    -tao_rmtr_coarse_model additive     multiplicative, hybrid, none
    -tao_rmtr_restriction transpose     injection
    -tao_rmtr_kappa 0.1                 no correction where ‖Pᵀ∇h‖ is below this part of the coarse gradient's norm
    -tao_rmtr_radius 1, -tao_rmtr_max_radius 10
    -tao_rmtr_batch_cycles 3            on each batch
    -tao_rmtr_batch_overlap 0.2         the part of the next batch that each one has, too

    Of each level, as ``-mg_levels_2_tao_rmtr_pre``, of all but the coarsest (number 0) as ``-mg_levels_tao_rmtr_pre``,
    of the coarsest as ``-mg_coarse_tao_rmtr_history``, or of all without these words:
    -tao_rmtr_pre 1, -tao_rmtr_post 1   steps before and after corrections
    -tao_rmtr_coarse_its 10             on the coarsest level
    -tao_rmtr_hessian sr1               gauss_newton: truncated conjugate gradients on its matrix
    -tao_rmtr_history 10                pairs that sr1 keeps; a coarse level starts anew at each visit
    -tao_rmtr_cg_its 20, -tao_rmtr_cg_rtol 0.1      where conjugate gradients stop
    """

    def __init__(self) -> None:
        self.cycle, self.model, self.kappa = "v", "additive", 0.1
        self.restriction = "transpose"
        self.settings: list[LevelSettings] = []
        self._prefix = ""
        self.first_radius, self.rules = 1.0, Radius()
        self.batch_cycles, self.batch_overlap = 3, 0.2
        self.sizes: SampleSize | None = None
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
        self._prefix = tao.getOptionsPrefix() or ""
        options, prefix = PETSc.Options(tao), f"{self._prefix}tao_rmtr_"
        self.cycle = get_choice(f"{prefix}cycle", self.cycle, tuple(CYCLES))
        self.model = get_choice(f"{prefix}coarse_model", self.model, COARSE_MODELS)
        self.restriction = get_choice(f"{prefix}restriction", self.restriction, RESTRICTIONS)
        self.kappa = options.getReal("tao_rmtr_kappa", self.kappa)
        self.first_radius = options.getReal("tao_rmtr_radius", self.first_radius)
        self.rules = Radius(largest=options.getReal("tao_rmtr_max_radius", self.rules.largest))
        self.batch_cycles = options.getInt("tao_rmtr_batch_cycles", self.batch_cycles)
        self.batch_overlap = options.getReal("tao_rmtr_batch_overlap", self.batch_overlap)
        if self.batch_cycles < 1:
            raise OptionError(f"-{prefix}batch_cycles {self.batch_cycles}: it must be 1 or more")
        if not 0.0 <= self.batch_overlap <= 1.0:
            raise OptionError(f"-{prefix}batch_overlap {self.batch_overlap:g}: it must be from 0 to 1")
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
        self.settings = [read_level(self._prefix, count - 1 - place) for place in range(count)]
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
        self._prepare_batches()
        visit = self.visit = self._begin(layout.gather(x).copy(), float(tao.getTolerances()[0]))
        gradient = layout.vec_from(visit.gradient)
        report(tao, 0, visit.value, gradient, visit.radius)
        for iteration in range(1, tao.getMaximumIterations() + 1):
            if tao.getConvergedReason():
                break
            if self.sizes is None:
                self._cycle(0, visit)
            else:
                self._cycle_on_batch(visit, self.sizes)
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
        settings = self.settings[0]
        curvature = LimitedMemorySR1(settings.history, PETSc.COMM_SELF)
        visit = Visit(self._levels[0], theta, value, gradient, self.first_radius, curvature, tolerance, settings)
        if self._memory:
            visit.radius, scale = self._memory["radius"][0]
            pairs = zip(self._memory.get("secant_steps", []), self._memory.get("secant_changes", []), strict=True)
            curvature.restore(list(pairs), scale)
        return visit

    def _prepare_batches(self) -> None:
        assert self._system is not None
        self.sizes = None
        if self.batches is not None:
            self.batches.overlap = self.batch_overlap
            self.sizes = SampleSize(self._system.evaluator, self.batches)
            if "epoch" in self._memory:
                self.sizes.restore(self._memory["epoch"])
            self.batches.forget()

    def _cycle_on_batch(self, visit: Visit, sizes: SampleSize) -> None:
        """Some cycles on the next batch; where its epoch was of no use, back to where that began. Collective."""
        sizes.begin(visit.theta)
        if not sizes.whole:
            visit.curvature = LimitedMemorySR1(visit.settings.history, PETSc.COMM_SELF)
        first, visit.gradient = self._levels[0](visit.theta)
        visit.value = first
        for _ in range(self.batch_cycles):
            self._cycle(0, visit)
        back = sizes.end(visit.theta, first - visit.value)
        if back is not None:
            visit.theta, visit.radius = back, 0.5 * visit.radius
        visit.value, visit.gradient = self._levels[0](visit.theta)  # of the batch that is shown now

    def _cycle(self, level: int, visit: Visit) -> None:
        if level + 1 == len(self._levels):
            self._smooth(level, visit, visit.settings.coarse_its)
            return
        self._smooth(level, visit, visit.settings.pre)
        for _ in range(CYCLES[self.cycle]):
            if visit.leave or not self._correct(level, visit):
                break
        self._smooth(level, visit, visit.settings.post)

    def _smooth(self, level: int, visit: Visit, count: int) -> None:
        """Trust-region steps. Collective."""
        product, moved = None, visit.theta
        for _ in range(count):
            if visit.leave or np.linalg.norm(visit.gradient) <= visit.tolerance or visit.radius < self.rules.smallest:
                return
            if visit.settings.hessian == "gauss_newton":
                if product is None or moved is not visit.theta:
                    product, moved = self._levels[level].gauss_newton(visit.theta), visit.theta
                its, rtol = visit.settings.cg_its, visit.settings.cg_rtol
                self._try(visit, *truncated_cg(product, visit.gradient, visit.radius, its, rtol))
            else:
                step = visit.curvature.solve(visit.gradient, visit.radius)
                self._try(visit, step.vector, step.reduction)

    def _correct(self, level: int, visit: Visit) -> bool:
        """The correction of the next coarser level; False where it has none to give. Collective."""
        fine, coarse = self._levels[level], self._levels[level + 1]
        restricted = (fine.restrict if self.restriction == "transpose" else fine.inject)(visit.gradient)
        anchor = fine.restrict(visit.theta)
        here = coarse(anchor)
        size = float(np.linalg.norm(restricted))
        tolerance = min(visit.tolerance, self.kappa * float(np.linalg.norm(visit.gradient)))
        if not np.isfinite(here[0]) or size < self.kappa * np.linalg.norm(here[1]) or size <= tolerance:
            return False
        model = coarse_model(self.model, coarse, anchor, here, (visit.value, restricted))
        if model is None:
            return False
        value, gradient = here if self.model == "none" else (visit.value, restricted)
        settings = self.settings[level + 1]
        curvature = LimitedMemorySR1(settings.history, PETSc.COMM_SELF)
        child = Visit(
            model, anchor, value, gradient, visit.radius, curvature, tolerance, settings, anchor, visit.radius
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
        """Radius and curvature of the finest level, and where the epoch stands. Not collective."""
        if self.visit is None:
            return {}
        curvature = self.visit.curvature
        return {
            "secant_steps": [step.copy() for step in curvature.steps],
            "secant_changes": [change.copy() for change in curvature.changes],
            "radius": [np.array([self.visit.radius, curvature.scale])],
        } | ({} if self.sizes is None else self.sizes.save())

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self._memory = memory

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  RMTR: {len(self._levels)} levels cycle={self.cycle} coarse_model={self.model}\n")
        for number, settings in enumerate(reversed(self.settings)):
            viewer.printfASCII(f"    level {number}: {settings}\n")


def read_level(prefix: str, number: int) -> LevelSettings:
    """The ``tao_rmtr_*`` options of a level, under its own name, that of its kind, or none.

    Raises
    ------
    OptionError
    """
    kinds = [f"mg_levels_{number}_", "mg_levels_"] if number else ["mg_coarse_"]
    options = PETSc.Options()

    def own(name: str) -> str:
        names = [f"{prefix}{kind}tao_rmtr_{name}" for kind in (*kinds, "")]
        return next((one for one in names if options.hasName(one)), names[-1])

    known, found = LevelSettings(), {}
    for name, least in (("pre", 0), ("post", 0), ("coarse_its", 1), ("history", 1), ("cg_its", 1)):
        found[name] = options.getInt(own(name), getattr(known, name))
        if found[name] < least:
            raise OptionError(f"-{own(name)} {found[name]}: it must be {least} or more")
    found["cg_rtol"] = options.getReal(own("cg_rtol"), known.cg_rtol)
    if not 0.0 <= found["cg_rtol"] < 1.0:
        raise OptionError(f"-{own('cg_rtol')} {found['cg_rtol']:g}: it must be at least 0 and below 1")
    found["hessian"] = get_choice(own("hessian"), known.hessian, HESSIANS)
    return LevelSettings(**found)
