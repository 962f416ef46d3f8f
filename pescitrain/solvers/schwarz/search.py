"""One line search of TAO along a direction that is given."""

from __future__ import annotations

from dataclasses import dataclass

from petsc4py import PETSc

from pescitrain.algebra import System
from pescitrain.evaluation import Value
from pescitrain.solvers.outcome import Array


@dataclass(frozen=True)
class Point:
    """θ (n,) with φ and ∇φ (n,) there."""

    theta: Array
    value: Value
    gradient: Array


class LineSearch:
    """φ(θ + t d) by TAO's line search: ``-<prefix>tao_ls_*``, Moré–Thuente and first trial 1 by default."""

    def __init__(self, system: System, prefix: str) -> None:
        self._system, self._prefix = system, prefix

    def along(self, start: Point, direction: Array) -> tuple[Point, float]:
        """Where the search ends, and t; the start and 0 where it fails. Collective."""
        system = self._system
        x = system.layout.vec_from(start.theta)
        tao = PETSc.TAO().createPython(_OneStep(system, direction), comm=system.layout.comm)
        try:
            tao.setOptionsPrefix(self._prefix)
            tao.setObjective(lambda _, x: system.objective(x))
            tao.setObjectiveGradient(lambda _, x, g: system.objective_gradient(x, g))
            tao.setSolution(x)
            tao.getLineSearch().setFromOptions()  # the TAO's own would be those of a solver with the same prefix
            tao.setTolerances(0.0, 0.0, 0.0)
            tao.setMaximumIterations(1)
            tao.solve()
            if tao.getConvergedReason() == PETSc.TAO.ConvergedReason.DIVERGED_LS_FAILURE:
                return start, 0.0
            return point_at(system, system.layout.gather(x).copy()), float(tao.getSolutionStatus()[4])
        finally:
            tao.destroy()
            x.destroy()


def point_at(system: System, theta: Array) -> Point:
    """φ and ∇φ at θ; free where they are known. Collective."""
    value, gradient = system.evaluator.objective_gradient(theta)
    return Point(theta, value, gradient)


class _OneStep:
    """A TAO of one iteration, along a direction that is given."""

    def __init__(self, system: System, direction: Array) -> None:
        self._system, self._direction = system, direction

    def create(self, tao: PETSc.TAO) -> None:
        tao.getLineSearch().setType("more-thuente")

    def step(self, _: PETSc.TAO, __: PETSc.Vec, ___: PETSc.Vec, step: PETSc.Vec) -> None:
        self._system.layout.set(step, self._direction)
