"""The memory of a limited-memory method, kept beside PETSc's so that it can be saved and replayed exactly."""

from __future__ import annotations

from collections import deque

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.solvers.outcome import Array, Memory

Answers = deque[tuple[float, Array]]
"""φ and ∇φ (n,) that evaluations answer with in turn while points are replayed, the last given one last in the queue;
empty: they evaluate."""


class QuasiNewtonMemory:
    """The last points and gradients that an LMVM matrix was updated with.

    PETSc's secant pairs are differences of successive (θ, ∇φ), and it hands out the matrix of bqn* alone. So the
    saved points are replayed through TAO itself: a solve in which the iterates are put in place by the update callback
    and the evaluations answered from memory (``-tao_blmvm_recycle`` keeps the matrix for the solve that follows). The
    pairs are bit for bit those of the uninterrupted run. With a preconditioner as initial matrix so are the steps;
    PETSc's own diagonal initial matrix is rebuilt from the points that are kept, and starts from φ at the first.
    """

    def __init__(self, size: int) -> None:
        self._points: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=size + 1)

    def record(self, x: PETSc.Vec, gradient: PETSc.Vec, objective: float) -> None:
        """Remember a point, its gradient (local parts) and its objective."""
        self._points.append((x.array_r.copy(), gradient.array_r.copy(), objective))

    def last_pair(self, template: PETSc.Vec) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        """The last secant pair s, y as new Vecs, or None after the first point."""
        if len(self._points) < 2:
            return None
        (x0, g0, _), (x1, g1, _) = self._points[-2], self._points[-1]
        step, change = template.duplicate(), template.duplicate()
        step.setArray(x1 - x0)
        change.setArray(g1 - g0)
        return step, change

    def replay(self, tao: PETSc.TAO, layout: ParameterLayout, memory: Memory, answers: Answers) -> None:
        """Bring the matrix of a new TAO solver to the saved state. Collective; costs no evaluation.

        ``answers`` stand in for φ and ∇φ while the replay lasts.
        """
        points, gradients, objectives = (memory[name] for name in ("points", "gradients", "objectives"))
        solution = tao.getSolution()
        start = solution.duplicate()
        solution.copy(start)
        line_search = tao.getLineSearch()
        usual, iterations = line_search.getType(), tao.getMaximumIterations()
        tolerances = tao.getTolerances()

        def put_in_place(tao: PETSc.TAO, iteration: int) -> None:
            layout.set(tao.getSolution(), points[iteration])

        known = [(float(objective[0]), gradient) for objective, gradient in zip(objectives, gradients, strict=True)]
        answers += [*known, known[-1]]  # one at the start, then one in each line search
        line_search.setType("unit")
        tao.setMaximumIterations(len(points))
        tao.setTolerances(0.0, 0.0, 0.0)
        tao.setUpdate(put_in_place)
        tao.solve()
        tao.setUpdate(None)
        answers.clear()
        tao.setTolerances(*tolerances)
        tao.setMaximumIterations(iterations)
        line_search.setType(usual)
        line_search.setFromOptions()
        start.copy(solution)
        start.destroy()
        own = slice(layout.start, layout.stop)
        for point, gradient, objective in zip(points, gradients, objectives, strict=True):
            self._points.append((point[own].copy(), gradient[own].copy(), float(objective[0])))

    def save(self, layout: ParameterLayout) -> Memory:
        """What was recorded, whole, without the newest point (the solve starts from it). Collective."""
        whole: Memory = {"points": [], "gradients": [], "objectives": []}
        vec = layout.create_vec()
        for point, slope, objective in list(self._points)[:-1]:
            whole["objectives"].append(np.array([objective]))
            for name, local in (("points", point), ("gradients", slope)):
                vec.setArray(local)
                whole[name].append(layout.gather(vec).copy())
        vec.destroy()
        return whole
