"""Adam as a TAO type: ``-tao_type adam``."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.solvers.outcome import Memory
from pescitrain.solvers.stochastic import Stochastic


class Adam(Stochastic):
    """Adaptive moment estimation, on all samples or with ``-sample_batch``.

    s = −lr · m̂ / (√v̂ + ε) with bias-corrected moments of the gradient (Kingma & Ba, ICLR 2015, algorithm 1).

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_adam_lr 1e-3, -tao_adam_beta1 0.9, -tao_adam_beta2 0.999, -tao_adam_eps 1e-8
    -tao_adam_decay 1.0     factor of the learning rate at every iteration
    """

    def __init__(self) -> None:
        self.learning_rate, self.beta1, self.beta2, self.epsilon, self.decay = 1e-3, 0.9, 0.999, 1e-8, 1.0
        self.first: np.ndarray | None = None
        self.second: np.ndarray | None = None

    def create(self, tao: PETSc.TAO) -> None:
        """Adam takes its step as it is."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_adam_*``."""
        options = PETSc.Options(tao)
        self.learning_rate = options.getReal("tao_adam_lr", self.learning_rate)
        self.beta1 = options.getReal("tao_adam_beta1", self.beta1)
        self.beta2 = options.getReal("tao_adam_beta2", self.beta2)
        self.epsilon = options.getReal("tao_adam_eps", self.epsilon)
        self.decay = options.getReal("tao_adam_decay", self.decay)

    def step(self, _: PETSc.TAO, __: PETSc.Vec, gradient: PETSc.Vec, step: PETSc.Vec) -> None:
        """The step from the gradient; local arithmetic only."""
        g = gradient.array_r
        if self.first is None or self.second is None:
            self.first, self.second = np.zeros_like(g), np.zeros_like(g)
        self.steps += 1
        self.first = self.beta1 * self.first + (1.0 - self.beta1) * g
        self.second = self.beta2 * self.second + (1.0 - self.beta2) * g * g
        mean = self.first / (1.0 - self.beta1**self.steps)
        deviation = np.sqrt(self.second / (1.0 - self.beta2**self.steps)) + self.epsilon
        rate = self.learning_rate * self.decay ** (self.steps - 1)
        step.setArray(-rate * mean / deviation)
        self.next_batch()

    def save(self, layout: ParameterLayout) -> Memory:
        """Both moments and the number of steps. Collective."""
        if self.first is None or self.second is None:
            return {}
        vec, memory = layout.create_vec(), {"steps": [np.array([float(self.steps)])]}
        for name, local in (("first", self.first), ("second", self.second)):
            vec.setArray(local)
            memory[name] = [layout.gather(vec).copy()]
        vec.destroy()
        return memory

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self.steps = int(memory["steps"][0][0])
        own = slice(layout.start, layout.stop)
        self.first, self.second = memory["first"][0][own].copy(), memory["second"][0][own].copy()

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(
            f"  Adam: lr={self.learning_rate:g} beta1={self.beta1:g} beta2={self.beta2:g} eps={self.epsilon:g}\n"
        )
