"""A trust region with limited-memory SR1 curvature as a TAO type: ``-tao_type trlsr1``."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.errors import OptionError
from pescitrain.solvers.lbfgs import gathered
from pescitrain.solvers.limited_memory_sr1 import LimitedMemorySR1
from pescitrain.solvers.outcome import Memory, report
from pescitrain.solvers.trust_region import Radius, reduction_ratio


class SR1TrustRegion:
    """Minimises gᵀs + ½ sᵀBs over ‖s‖ ≤ Δ to round-off, with B indefinite where the objective is; no line search.

    Every trial is an iteration and a closure; B learns from refused ones too. The one-level method of Kopaničáková &
    Krause, arXiv:2107.07572; B as in :class:`LimitedMemorySR1`.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_trlsr1_history 10          pairs that are kept
    -tao_trlsr1_radius 1            Δ at the start
    -tao_trlsr1_max_radius 10       its largest value
    """

    def __init__(self) -> None:
        self.history, self.first_radius, self.rules = 10, 1.0, Radius()
        self.radius = 0.0
        self.curvature: LimitedMemorySR1 | None = None

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_trlsr1_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self.history = options.getInt("tao_trlsr1_history", self.history)
        self.first_radius = options.getReal("tao_trlsr1_radius", self.first_radius)
        largest = options.getReal("tao_trlsr1_max_radius", self.rules.largest)
        if self.history < 1:
            raise OptionError(f"-{prefix}tao_trlsr1_history {self.history}: keep at least 1 pair")
        if not 0.0 < self.first_radius <= largest:
            raise OptionError(
                f"-{prefix}tao_trlsr1_radius {self.first_radius:g}: it must be above 0 and at most "
                f"-{prefix}tao_trlsr1_max_radius {largest:g}"
            )
        self.rules = Radius(largest=largest)
        self.radius = self.first_radius

    def solve(self, tao: PETSc.TAO) -> None:
        """Iterate until a test of TAO ends it. Collective."""
        x, reasons = tao.getSolution(), PETSc.TAO.ConvergedReason
        gradient, trial, slope = vecs = [x.duplicate() for _ in range(3)]
        curvature = self._curvature(tao)
        objective = tao.computeObjectiveGradient(x, gradient)
        report(tao, 0, objective, gradient, self.radius)
        for iteration in range(1, tao.getMaximumIterations() + 1):
            if tao.getConvergedReason():
                break
            step = curvature.solve(gradient.array_r, self.radius)
            trial.setArray(x.array_r + step.vector)
            reached = tao.computeObjectiveGradient(trial, slope)
            ratio = reduction_ratio(objective, reached, step.reduction)
            if np.isfinite(reached):
                curvature.add(step.vector, slope.array_r - gradient.array_r)
            self.radius = self.rules.after(self.radius, ratio)
            if ratio > self.rules.accept:
                objective = reached
                trial.copy(x)
                slope.copy(gradient)
            report(tao, iteration, objective, gradient, step.length)
            if self.radius < self.rules.smallest and not tao.getConvergedReason():
                tao.setConvergedReason(reasons.CONVERGED_STEPTOL)
        if not tao.getConvergedReason():
            tao.setConvergedReason(reasons.DIVERGED_MAXITS)
        for vec in vecs:
            vec.destroy()

    def _curvature(self, tao: PETSc.TAO) -> LimitedMemorySR1:
        if self.curvature is None:
            self.curvature = LimitedMemorySR1(self.history, tao.comm)
        return self.curvature

    def save(self, layout: ParameterLayout) -> Memory:
        """Pairs and radius. Collective."""
        if self.curvature is None:
            return {}
        steps, changes = gathered(layout, self.curvature.steps), gathered(layout, self.curvature.changes)
        scales = np.array([self.radius, self.curvature.scale])
        return {"secant_steps": steps, "secant_changes": changes, "radius": [scales]}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Collective."""
        own = slice(layout.start, layout.stop)
        self.radius, scale = memory["radius"][0]
        self.curvature = LimitedMemorySR1(self.history, layout.comm)
        steps, changes = (memory.get(name, []) for name in ("secant_steps", "secant_changes"))
        pairs = [(step[own], change[own]) for step, change in zip(steps, changes, strict=True)]
        self.curvature.restore(pairs, scale)

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  L-SR1 trust region: history={self.history} radius={self.first_radius:g}\n")
