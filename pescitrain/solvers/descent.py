"""The loop of methods that remember curvature and step by a line search of TAO."""

from __future__ import annotations

from typing import Protocol

from petsc4py import PETSc

from pescitrain.solvers.outcome import report


class CurvatureMemory(Protocol):
    """What a quasi-Newton method knows of the curvature; all of it collective."""

    def aim(self, gradient: PETSc.Vec, direction: PETSc.Vec) -> float:
        """Write the direction of the search; returns what a step of length 1 along it is told as."""
        ...

    def learn(self, step: PETSc.Vec, change: PETSc.Vec, before: PETSc.Vec, length: float) -> None:
        """Take in a step, its length, the change of the gradient along it, and the gradient before it."""
        ...

    def forget(self) -> bool:
        """Drop everything; returns whether the last direction came of anything but the gradient."""
        ...


def descend(tao: PETSc.TAO, memory: CurvatureMemory) -> None:
    """Iterate until a test of TAO ends it. Collective.

    A failed search is made again without memory; where that fails as well, the solution stays as it was: PETSc's loop
    for Python types would go on from where the search has left it.
    """
    x, reasons = tao.getSolution(), PETSc.TAO.ConvergedReason
    gradient, start, before, direction, step, change = vecs = [x.duplicate() for _ in range(6)]
    objective = tao.computeObjectiveGradient(x, gradient)
    report(tao, 0, objective, gradient, 1.0)
    for iteration in range(1, tao.getMaximumIterations() + 1):
        if tao.getConvergedReason():
            break
        x.copy(start)
        gradient.copy(before)
        while True:
            unit = memory.aim(before, direction)
            reached, length, reason = tao.getLineSearch().apply(x, gradient, direction)
            if has_descended(reason, reached, objective):
                break
            start.copy(x)
            before.copy(gradient)
            if not memory.forget():
                tao.setConvergedReason(reasons.DIVERGED_LS_FAILURE)
                break
        if tao.getConvergedReason():
            break
        objective, length = reached, unit * length
        step.waxpy(-1.0, start, x)
        change.waxpy(-1.0, before, gradient)
        memory.learn(step, change, before, length)
        report(tao, iteration, objective, gradient, length)
    if not tao.getConvergedReason():
        tao.setConvergedReason(reasons.DIVERGED_MAXITS)
    for vec in vecs:
        vec.destroy()


def has_descended(reason: int, reached: float, objective: float) -> bool:
    """Whether a line search of TAO met Wolfe's conditions, or ended for another reason at a point that is lower."""
    kinds = PETSc.TAOLineSearch.ConvergedReason
    return reason in (kinds.SUCCESS, kinds.SUCCESS_USER) or (reason > 0 and reached < objective)
