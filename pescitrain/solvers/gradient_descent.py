"""Gradient descent with momentum as a TAO type: ``-tao_type sgd``, stochastic with ``-sample_batch``."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import Memory
from pescitrain.solvers.stochastic import Stochastic


class GradientDescent(Stochastic):
    """s = −lr v with v ← μ v + g, as ``torch.optim.SGD``.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_sgd_lr 1e-2, -tao_sgd_momentum 0.9     μ
    -tao_sgd_decay 1.0      factor of the learning rate at every iteration
    """

    def __init__(self) -> None:
        self.learning_rate, self.momentum, self.decay = 1e-2, 0.9, 1.0
        self.velocity: np.ndarray | None = None

    def create(self, tao: PETSc.TAO) -> None:
        """It takes its step as it is."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_sgd_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self.learning_rate = options.getReal("tao_sgd_lr", self.learning_rate)
        self.momentum = options.getReal("tao_sgd_momentum", self.momentum)
        self.decay = options.getReal("tao_sgd_decay", self.decay)
        if not 0.0 <= self.momentum < 1.0:
            raise OptionError(f"-{prefix}tao_sgd_momentum {self.momentum:g}: it must be at least 0 and below 1")

    def step(self, _: PETSc.TAO, __: PETSc.Vec, gradient: PETSc.Vec, step: PETSc.Vec) -> None:
        """The step from the gradient; local arithmetic only."""
        g = gradient.array_r
        self.velocity = g.copy() if self.velocity is None else self.momentum * self.velocity + g
        step.setArray(-self.learning_rate * self.decay**self.steps * self.velocity)
        self.steps += 1
        self.next_batch()

    def save(self, layout: ParameterLayout) -> Memory:
        """The velocity and the number of steps. Collective."""
        if self.velocity is None:
            return {}
        vec = layout.create_vec()
        vec.setArray(self.velocity)
        memory = {"velocity": [layout.gather(vec).copy()], "steps": [np.array([float(self.steps)])]}
        vec.destroy()
        return memory

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self.steps = int(memory["steps"][0][0])
        self.velocity = memory["velocity"][0][layout.start : layout.stop].copy()

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  Gradient descent: lr={self.learning_rate:g} momentum={self.momentum:g}\n")
