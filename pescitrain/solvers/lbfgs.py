"""Limited-memory BFGS with momentum as a TAO type: ``-tao_type lbfgs``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.algebra.options import set_default
from pescitrain.errors import OptionError
from pescitrain.solvers.descent import descend
from pescitrain.solvers.outcome import Array, Memory


class SecantPairs:
    """The newest m pairs (s, y) of a quasi-Newton method, and the direction −H g that they give.

    Two-loop recursion with H₀ = (sᵀy / yᵀy) I of the newest pair (Nocedal & Wright, Numerical Optimization, algorithm
    7.4); −g where there are none. A pair is kept if sᵀy > ε ‖s‖ ‖y‖. All vectors are local parts; ``dot`` is the inner
    product over all ranks.
    """

    def __init__(self, size: int, curvature: float, comm: PETSc.Comm) -> None:
        self.steps: deque[Array] = deque(maxlen=size)
        self.changes: deque[Array] = deque(maxlen=size)
        self._products: deque[float] = deque(maxlen=size)
        self.curvature, self._comm = curvature, comm.tompi4py()

    def dot(self, a: Array, b: Array) -> float:
        """aᵀb. Collective."""
        return float(self._comm.allreduce(float(a @ b))) if self._comm.size > 1 else float(a @ b)

    def add(self, step: Array, change: Array) -> bool:
        """Keep a pair, if its curvature is positive; returns whether it is. Collective."""
        product = self.dot(step, change)
        bound = self.curvature * np.sqrt(self.dot(step, step) * self.dot(change, change))
        if not product > bound:
            return False
        self.steps.append(step.copy())
        self.changes.append(change.copy())
        self._products.append(product)
        return True

    def clear(self) -> None:
        """Drop all pairs."""
        for numbers in (self.steps, self.changes, self._products):
            numbers.clear()

    def direction(self, gradient: Array) -> Array:
        """−H g. Collective."""
        direction = -gradient
        pairs = list(zip(self.steps, self.changes, self._products, strict=True))
        weights = []
        for step, change, product in reversed(pairs):
            weights.append(self.dot(step, direction) / product)
            direction = direction - weights[-1] * change
        if pairs:
            _, change, product = pairs[-1]
            direction = product / self.dot(change, change) * direction
        for (step, change, product), weight in zip(pairs, reversed(weights), strict=True):
            direction = direction + (weight - self.dot(change, direction) / product) * step
        return direction


class LimitedMemoryBFGS:
    """Quasi-Newton steps along the momentum-averaged direction v ← (1 − μ) v + μ p, p = −H g, by a Wolfe line search.

    Kopaničáková, Kothari, Karniadakis & Krause, SIAM J. Sci. Comput. 46 (2024) S46, use it for the local, the global
    and the plain training alike. Where v is no descent direction, v = p. The line search is TAO's (Moré–Thuente by
    default, first trial 1).

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_lbfgs_history 10       pairs that are kept
    -tao_lbfgs_momentum 1       μ, the weight of the new direction; 1: no momentum
    -tao_lbfgs_curvature 1e-12  ε: pairs with sᵀy ≤ ε ‖s‖ ‖y‖ are dropped
    -tao_lbfgs_first_step 1     longest direction where there are no pairs: φ can grow by many orders along −g itself
    """

    def __init__(self) -> None:
        self.history, self.momentum, self.curvature, self.first_step = 10, 1.0, 1e-12, 1.0
        self.pairs: SecantPairs | None = None
        self.velocity: Array | None = None
        self._fresh = True  # the last direction came of the gradient alone

    def create(self, tao: PETSc.TAO) -> None:
        """TAO's line search takes the step."""
        tao.getLineSearch().setType("more-thuente")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_lbfgs_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self.history = options.getInt("tao_lbfgs_history", self.history)
        self.momentum = options.getReal("tao_lbfgs_momentum", self.momentum)
        self.curvature = options.getReal("tao_lbfgs_curvature", self.curvature)
        self.first_step = options.getReal("tao_lbfgs_first_step", self.first_step)
        if not self.first_step > 0.0:
            raise OptionError(f"-{prefix}tao_lbfgs_first_step {self.first_step:g}: it must be above 0")
        if self.history < 1:
            raise OptionError(f"-{prefix}tao_lbfgs_history {self.history}: keep at least 1 pair")
        if not 0.0 < self.momentum <= 1.0:
            raise OptionError(f"-{prefix}tao_lbfgs_momentum {self.momentum:g}: it must be above 0 and at most 1")
        set_default(f"{prefix}tao_ls_max_funcs", 25)

    def solve(self, tao: PETSc.TAO) -> None:
        """Iterate until a test of TAO ends it. Collective."""
        if self.pairs is None:
            self.pairs = SecantPairs(self.history, self.curvature, tao.comm)
        descend(tao, self)

    def aim(self, gradient: PETSc.Vec, direction: PETSc.Vec) -> float:
        """The momentum-averaged direction. Collective."""
        self._fresh = not self._known.steps and self.velocity is None
        direction.setArray(self._direction(gradient.array_r))
        return 1.0

    def learn(self, step: PETSc.Vec, change: PETSc.Vec, before: PETSc.Vec, length: float) -> None:
        """Keep the pair. Collective."""
        self._known.add(step.array_r, change.array_r)

    def forget(self) -> bool:
        """Drop the pairs and the velocity; returns whether the last direction came of any."""
        self._known.clear()
        self.velocity = None
        return not self._fresh

    def _direction(self, g: Array) -> Array:
        """Of the line search, local. Collective."""
        pairs = self._known
        direction = pairs.direction(g)
        if not pairs.steps:
            direction = direction * min(1.0, self.first_step / np.sqrt(pairs.dot(g, g)))
        velocity = direction
        if self.velocity is not None and self.momentum < 1.0:
            velocity = (1.0 - self.momentum) * self.velocity + self.momentum * direction
            if pairs.dot(velocity, g) >= 0.0:
                velocity = direction
        self.velocity = velocity
        return velocity

    @property
    def _known(self) -> SecantPairs:
        assert self.pairs is not None
        return self.pairs

    def save(self, layout: ParameterLayout) -> Memory:
        """Pairs and velocity. Collective."""
        if self.velocity is None or self.pairs is None:
            return {}
        local = {"secant_steps": self.pairs.steps, "secant_changes": self.pairs.changes, "velocity": [self.velocity]}
        return {name: gathered(layout, arrays) for name, arrays in local.items()}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Collective."""
        own = slice(layout.start, layout.stop)
        self.pairs = SecantPairs(self.history, self.curvature, layout.comm)
        for step, change in zip(memory.get("secant_steps", []), memory.get("secant_changes", []), strict=True):
            self.pairs.add(step[own], change[own])
        for velocity in memory.get("velocity", []):
            self.velocity = velocity[own].copy()

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  L-BFGS: history={self.history} momentum={self.momentum:g}\n")


def gathered(layout: ParameterLayout, arrays: Sequence[Array]) -> list[Array]:
    """Local parts as whole vectors (n,) on all ranks."""
    vec, whole = layout.create_vec(), []
    for array in arrays:
        vec.setArray(array)
        whole.append(layout.gather(vec).copy())
    vec.destroy()
    return whole
