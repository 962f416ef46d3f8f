"""The memory of a limited-memory method, kept beside PETSc's so that it can be saved and replayed exactly."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.solvers.outcome import Array, Memory


@dataclass
class Answers:
    """The gradient (n,) that evaluations answer with while points are replayed; None: they evaluate."""

    gradient: Array | None = None


class QuasiNewtonMemory:
    """The last points and gradients that an LMVM matrix was updated with.

    PETSc's secant pairs are differences of successive (θ, ∇φ), and it hands out the matrix of no TAO type but bqn*. So the
    saved points are replayed through TAO itself: a solve in which the iterates are put in place by the update callback
    and the evaluations answered from memory (``-tao_blmvm_recycle`` keeps the matrix for the solve that follows). The
    pairs are bit for bit those of the uninterrupted run. With a preconditioner as initial matrix so are the steps;
    PETSc's own diagonal initial matrix is rebuilt from the points that are kept.
    """

    def __init__(self, size: int) -> None:
        self._points: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=size + 1)

    def record(self, x: PETSc.Vec, gradient: PETSc.Vec) -> None:
        """Remember a point and its gradient (local parts)."""
        self._points.append((x.array_r.copy(), gradient.array_r.copy()))

    def last_pair(self, template: PETSc.Vec) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        """The last secant pair s, y as new Vecs, or None after the first point."""
        if len(self._points) < 2:
            return None
        (x0, g0), (x1, g1) = self._points[-2], self._points[-1]
        step, change = template.duplicate(), template.duplicate()
        step.setArray(x1 - x0)
        change.setArray(g1 - g0)
        return step, change

    def replay(self, tao: PETSc.TAO, layout: ParameterLayout, memory: Memory, answers: Answers) -> None:
        """Bring the matrix of a new TAO solver to the saved state. Collective; costs no evaluation.

        ``answers`` stand in for φ and ∇φ while the replay lasts.
        """
        points, gradients = memory["points"], memory["gradients"]
        if not points:
            return
        solution = tao.getSolution()
        start = solution.duplicate()
        solution.copy(start)
        line_search = tao.getLineSearch()
        usual, iterations = line_search.getType(), tao.getMaximumIterations()
        tolerances = tao.getTolerances()

        def put_in_place(tao: PETSc.TAO, iteration: int) -> None:
            layout.set(tao.getSolution(), points[iteration])
            layout.set(tao.getGradient()[0], gradients[iteration])
            answers.gradient = gradients[min(iteration + 1, len(gradients) - 1)]

        layout.set(solution, points[0])
        answers.gradient = gradients[0]
        line_search.setType("unit")
        tao.setMaximumIterations(len(points))
        tao.setTolerances(0.0, 0.0, 0.0)
        tao.setUpdate(put_in_place)
        tao.solve()
        tao.setUpdate(None)
        answers.gradient = None
        tao.setTolerances(*tolerances)
        tao.setMaximumIterations(iterations)
        line_search.setType(usual)
        line_search.setFromOptions()
        start.copy(solution)
        start.destroy()
        for point, gradient in zip(points, gradients, strict=True):
            own = slice(layout.start, layout.stop)
            self._points.append((point[own].copy(), gradient[own].copy()))

    def save(self, layout: ParameterLayout) -> Memory:
        """The points and gradients, whole, without the newest (the solve starts from it). Collective."""
        whole: Memory = {"points": [], "gradients": []}
        vec = layout.create_vec()
        for point, slope in list(self._points)[:-1]:
            for name, local in (("points", point), ("gradients", slope)):
                vec.setArray(local)
                whole[name].append(layout.gather(vec).copy())
        vec.destroy()
        return whole
