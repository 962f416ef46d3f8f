"""Weights of samples that follow their residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from mpi4py import MPI

from pescitrain.evaluation.refresh import Array, Refresh


@dataclass
class ResidualAttention(Refresh):
    """Residual-based attention (RBA): the rows of sample i of an equation are multiplied by λ_i.

    λ_i ← decay · λ_i + rate · |r_i| / max |r|, from λ_i = 1 (Anagnostopoulos et al., Comput. Methods Appl. Mech. Engrg.
    421 (2024) 116805); |r| is the norm of a sample's residuals. With decay + rate = 1 no λ exceeds 1. Points must
    stay, or be added. A refresh costs a pass over the interior points.
    """

    name: ClassVar[str] = "residual"
    decay: float
    rate: float

    def refresh(self, theta: Array, round: int) -> None:
        for samples in self.samples.interior:
            size = self.samples.residual_size(theta, samples, samples.points.x)
            largest = self.samples.evaluator.comm.allreduce(float(size.max(initial=0.0)), MPI.MAX)
            before = np.ones(len(size)) if samples.multipliers is None else np.sqrt(samples.multipliers)
            weights = self.decay * before + self.rate * size / max(largest, np.finfo(float).tiny)
            samples.multipliers = weights**2
            self.samples.refill(samples)
