"""``-check_derivatives``: is the derivative of the objective its derivative?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from pescitrain.evaluation import Evaluator


@dataclass(frozen=True)
class Check:
    """One property with the number that was measured and the bound it must meet."""

    name: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether it holds; NaN never does."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        verdict = "passed" if self.passed else "FAILED"
        return f"  {self.name:<48} {self.measured:10.3e}   ({relation} {self.bound:g})   {verdict}"


def check_derivatives(evaluator: Evaluator, theta: np.ndarray, seed: int = 0) -> list[Check]:
    """Taylor tests of φ and r, the adjoint identity, ∇φ = Jᵀr and the symmetry of JᵀJ at θ. Collective.

    The remainder of a first-order Taylor expansion falls like h²: the measured rate must be near 2. r has none where a
    loss is not a square.
    """
    random = np.random.default_rng([seed, 17])
    size = len(theta)
    theta = theta.copy()
    v, u = (random.standard_normal(size) / np.sqrt(size) for _ in range(2))
    value, gradient = evaluator.objective_gradient(theta)
    gradient = gradient.copy()
    linearization = evaluator.linearize(theta)
    residual = linearization.residual.copy()
    comm = evaluator.comm

    def dot(a: np.ndarray, b: np.ndarray) -> float:
        return comm.allreduce(float(a @ b), MPI.SUM)

    steps = 1e-3 * 0.5 ** np.arange(5)
    first = np.array([evaluator.objective(theta + h * v).objective - value.objective for h in steps])
    remainder = np.abs(first - steps * float(gradient @ v))
    change = linearization.times(v)
    residuals = []
    for h in steps if evaluator.quadratic else ():
        difference = evaluator.residual(theta + h * v) - residual - h * change
        residuals.append(np.sqrt(dot(difference, difference)))
    w = residual + change
    right = linearization.transpose_times(w)
    forward, backward = dot(change, w), float(v @ right)
    symmetric = float(u @ linearization.gauss_newton_times(v)), float(v @ linearization.gauss_newton_times(u))
    from_residual = linearization.transpose_times(residual)
    scale = np.sqrt(dot(change, change) * dot(w, w))
    checks = [Check("objective: Taylor remainder, order in h", _rate(steps, remainder), 1.9, at_least=True)]
    if residuals:
        rate = _rate(steps, np.array(residuals))
        checks.append(Check("residual: Taylor remainder, order in h", rate, 1.9, at_least=True))
    return [
        *checks,
        Check("adjoint identity |<Jv,w> - <v,J'w>| / (|Jv||w|)", abs(forward - backward) / scale, 1e-10),
        Check("|grad - J'r| / |grad|", _relative(gradient - from_residual, gradient), 1e-10),
        Check("Gauss-Newton symmetry", abs(symmetric[0] - symmetric[1]) / max(abs(symmetric[0]), 1e-300), 1e-8),
    ]


def _rate(steps: np.ndarray, remainder: np.ndarray) -> float:
    """Slope of log remainder over log h; a remainder at rounding level (a quadratic objective) counts as exact."""
    if (remainder < 1e-15).all():
        return 2.0
    return float(np.polyfit(np.log(steps), np.log(np.maximum(remainder, 1e-300)), 1)[0])


def _relative(difference: np.ndarray, of: np.ndarray) -> float:
    return float(np.linalg.norm(difference) / max(np.linalg.norm(of), 1e-300))
