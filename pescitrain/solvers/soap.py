"""SOAP as a TAO type: ``-tao_type soap``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System
from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import Array, Memory
from pescitrain.solvers.stochastic import Stochastic

SHIFT = 1e-8
"""Of a factor, relative to its mean eigenvalue: bases are those of a matrix of full rank, for any number of ranks."""


class Soap(Stochastic):
    """Adam, whole or with ``-sample_batch``, in the eigenbasis of Shampoo's preconditioner of every weight matrix.

    With the gradient G of a matrix, L and R the moving averages of G Gᵀ and GᵀG and Q_L and Q_R their eigenvectors, the
    moments of Adam are those of Q_LᵀG Q_R, and its step is turned back (Vyas et al., arXiv:2409.11321, algorithm 3).
    Bases start as I, so that the first steps are Adam's, and are refreshed by one power iteration and a QR
    decomposition (algorithm 4). Vectors (biases, slopes, unknowns) are Adam's. All ranks do the same arithmetic.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_soap_lr 3e-3, -tao_soap_beta1 0.95, -tao_soap_beta2 0.95, -tao_soap_eps 1e-8
    -tao_soap_shampoo_beta 0.95     of L and R
    -tao_soap_interval 10           iterations between refreshes of the bases
    -tao_soap_decay 1.0             factor of the learning rate at every iteration
    """

    def __init__(self) -> None:
        self.learning_rate, self.beta1, self.beta2, self.epsilon, self.decay = 3e-3, 0.95, 0.95, 1e-8, 1.0
        self.shampoo_beta, self.interval = 0.95, 10
        self.first = self.second = np.zeros(0)
        self._layout: ParameterLayout | None = None
        self._matrices: list[_WeightMatrix] = []

    def create(self, tao: PETSc.TAO) -> None:
        """SOAP takes its step as it is."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_soap_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self.learning_rate = options.getReal("tao_soap_lr", self.learning_rate)
        self.beta1 = options.getReal("tao_soap_beta1", self.beta1)
        self.beta2 = options.getReal("tao_soap_beta2", self.beta2)
        self.shampoo_beta = options.getReal("tao_soap_shampoo_beta", self.shampoo_beta)
        self.epsilon = options.getReal("tao_soap_eps", self.epsilon)
        self.decay = options.getReal("tao_soap_decay", self.decay)
        self.interval = options.getInt("tao_soap_interval", self.interval)
        if self.interval < 1:
            raise OptionError(f"-{prefix}tao_soap_interval {self.interval}: it must be 1 or more")

    def connect(self, system: System) -> None:
        """The layout, which knows the weight matrices in θ."""
        self._layout = system.layout
        self.first, self.second = np.zeros(system.layout.size), np.zeros(system.layout.size)
        self._matrices = [
            _WeightMatrix.at(entry.start, *entry.parameter.shape)
            for entry in system.layout.parameters.entries
            if entry.parameter.ndim == 2
        ]

    def step(self, _: PETSc.TAO, __: PETSc.Vec, gradient: PETSc.Vec, step: PETSc.Vec) -> None:
        """The step from the gradient, and the bases of the next one. Collective."""
        if self._layout is None:
            raise OptionError(
                "-tao_type soap needs the weight matrices of a pescitrain system; use it through pescitrain"
            )
        g = self._layout.gather(gradient)
        self.steps += 1
        self.first = self.beta1 * self.first + (1.0 - self.beta1) * g
        self.second = self.beta2 * self.second + (1.0 - self.beta2) * self._turned(g) ** 2
        mean = self._turned(self.first) / (1.0 - self.beta1**self.steps)
        deviation = np.sqrt(self.second / (1.0 - self.beta2**self.steps)) + self.epsilon
        rate = self.learning_rate * self.decay ** (self.steps - 1)
        self._layout.set(step, self._turned(-rate * mean / deviation, back=True))
        for matrix in self._matrices:
            matrix.learn(g, self.shampoo_beta)
            if self.steps % self.interval == 0:
                matrix.refresh()
        self.next_batch()

    def _turned(self, vector: Array, back: bool = False) -> Array:
        """A vector (n,) with every matrix in it as Q_Lᵀ G Q_R, or back as Q_L G Q_Rᵀ."""
        result = vector.copy()
        for matrix in self._matrices:
            matrix.turn(result, back)
        return result

    def save(self, layout: ParameterLayout) -> Memory:
        """Moments, factors and bases. Not collective: all ranks have them."""
        if self.steps == 0:
            return {}
        state = [array.reshape(-1).copy() for matrix in self._matrices for array in matrix]
        return {
            "steps": [np.array([float(self.steps)])],
            "moments": [self.first.copy(), self.second.copy()],
            "matrices": state,
        }

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self.steps = int(memory["steps"][0][0])
        self.first, self.second = (moment.copy() for moment in memory["moments"])
        state = iter(memory["matrices"])
        for matrix in self._matrices:
            for array in matrix:
                array[:] = next(state).reshape(array.shape)

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(
            f"  SOAP: lr={self.learning_rate:g} beta1={self.beta1:g} beta2={self.beta2:g} "
            f"shampoo_beta={self.shampoo_beta:g} eps={self.epsilon:g} interval={self.interval}\n"
        )


@dataclass
class _WeightMatrix:
    """A matrix G (p, q) in θ, with its factors L (p, p) and R (q, q) and their bases."""

    place: slice
    left: Array
    right: Array
    left_basis: Array
    right_basis: Array

    @classmethod
    def at(cls, start: int, p: int, q: int) -> _WeightMatrix:
        """Without a gradient yet."""
        return cls(slice(start, start + p * q), np.zeros((p, p)), np.zeros((q, q)), np.eye(p), np.eye(q))

    def __iter__(self) -> Iterator[Array]:
        yield from (self.left, self.right, self.left_basis, self.right_basis)

    def _of(self, vector: Array) -> Array:
        return vector[self.place].reshape(len(self.left), len(self.right))

    def turn(self, vector: Array, back: bool) -> None:
        """Its part of a vector (n,) into the bases, or back."""
        g, p, q = self._of(vector), self.left_basis, self.right_basis
        g[:] = p @ g @ q.T if back else p.T @ g @ q

    def learn(self, gradient: Array, beta: float) -> None:
        """L and R with one more gradient (n,)."""
        g = self._of(gradient)
        self.left[:] = beta * self.left + (1.0 - beta) * (g @ g.T)
        self.right[:] = beta * self.right + (1.0 - beta) * (g.T @ g)

    def refresh(self) -> None:
        """One power iteration of each basis."""
        for factor, basis in ((self.left, self.left_basis), (self.right, self.right_basis)):
            shift = SHIFT * np.trace(factor) / len(factor)
            basis[:] = np.linalg.qr(factor @ basis + shift * basis)[0]
