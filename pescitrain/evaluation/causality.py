"""Weights of samples that let time pass: late samples count once the early ones are solved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from mpi4py import MPI

from pescitrain.evaluation.refresh import Array, Refresh

SATISFIED = 0.99
"""All weights above this: the next tolerance."""


@dataclass
class CausalWeights(Refresh):
    """The squared residual of a sample in time slice i is multiplied by exp(−ε Σ_{k<i} L_k).

    L_k is the part of the objective's mean squares of the equations, weights of terms included, that slice k of
    ``slices`` equal ones has, per share of time (Wang, Sankaran & Perdikaris, Comput. Methods Appl. Mech. Engrg. 421
    (2024) 116813). ε is the first of the increasing ``tolerances`` which keeps some weight below 0.99, or the last. A
    refresh costs a pass over the interior points.
    """

    name: ClassVar[str] = "causal"
    axis: int  # of time
    start: float
    end: float
    slices: int
    tolerances: tuple[float, ...]

    def begin(self, theta: Array) -> None:
        self.refresh(theta, 0)

    def refresh(self, theta: Array, round: int) -> None:
        comm = self.samples.evaluator.comm
        places, losses = [], np.zeros(self.slices)
        for samples in self.samples.interior:
            points = samples.points
            size = self.samples.residual_size(theta, samples, points.x)
            time = (points.x[:, self.axis] - self.start) / (self.end - self.start)
            place = np.clip((time * self.slices).astype(int), 0, self.slices - 1)
            shares, sums = sum_over_ranks = np.stack(
                [np.bincount(place, values, self.slices) for values in (points.weights, points.weights * size**2)]
            )
            comm.Allreduce(MPI.IN_PLACE, sum_over_ranks)
            losses += samples.term.weight * sums / np.maximum(shares, np.finfo(float).tiny)
            places.append(place)
        before = np.cumsum(losses) - losses
        candidates = [np.exp(-tolerance * before) for tolerance in self.tolerances]
        weights = next((w for w in candidates if w.min() <= SATISFIED), candidates[-1])
        for samples, place in zip(self.samples.interior, places, strict=True):
            samples.multipliers = weights[place]
            self.samples.refill(samples)
