"""Points that move to where the residual is large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.samples import TermSamples, fill_chunks
from pescitrain.geometry import Box, Mesh, PointSet, Sampling
from pescitrain.geometry.sampling import generator

Array = NDArray[np.float64]

CANDIDATES = 4
"""Candidates for each point."""


@dataclass(frozen=True)
class ResidualResampling:
    """Residual-based adaptive distribution (RAD) of the interior points of every equation.

    From uniform candidates, N points are drawn without replacement with probabilities ∝ |r|^power / mean |r|^power +
    uniform, where |r| is the norm of a sample's residuals (Wu et al., Comput. Methods Appl. Mech. Engrg. 403 (2023)
    115671, k = power, c = uniform). Boundary terms and data keep their points. The draw depends on θ, the seed and the
    round, not on the number of ranks.
    """

    evaluator: Evaluator
    interval: int  # iterations between draws
    domain: Box | Mesh
    power: float
    uniform: float
    chunk_size: int
    seed: int

    def move(self, theta: Array, round: int) -> None:
        """New points for the parameters θ (n,); whoever holds a residual, a gradient or a Jacobian forgets it.

        Collective. Costs a pass over the candidates, which counts as the closures that it is worth.
        """
        evaluator = self.evaluator
        moved = [samples for samples in evaluator.samples if samples.term.place == "interior"]
        for samples in moved:
            count = len(samples.points)
            name = f"{samples.term.label} {round}"
            pool = self.domain.interior(samples.term.on, Sampling(CANDIDATES * count, "uniform"), self._seed(round))
            size = self._residual_size(theta, samples, pool)
            density = size**self.power
            density = density / max(density.mean(), np.finfo(float).tiny) + self.uniform
            # The largest u^(1/p) are a draw without replacement (Efraimidis & Spirakis, 2006); in logarithms.
            with np.errstate(divide="ignore"):  # a density of zero is drawn last
                keys = np.log(generator(self.seed, name).random(len(pool))) / density
            chosen = pool.take(np.sort(np.argsort(-keys, kind="stable")[:count]))
            weights = np.full(count, pool.measure / count)
            samples.points = PointSet(chosen.x, weights, chosen.normals, chosen.cells)
            samples.chunks.clear()
            comm = evaluator.comm
            fill_chunks(samples, evaluator.surrogate, comm.rank, comm.size, self.chunk_size)
        total = sum(len(samples.points) for samples in evaluator.samples)
        evaluator.counters.objective += CANDIDATES * sum(len(samples.points) for samples in moved) / total
        evaluator.forget()

    def _seed(self, round: int) -> int:
        return int(np.random.SeedSequence([self.seed, round]).generate_state(1)[0])

    def _residual_size(self, theta: Array, samples: TermSamples, pool: PointSet) -> Array:
        """‖r‖ (candidates,) on all ranks; each computes a share. Collective."""
        comm = self.evaluator.comm
        share = pool.slice(comm.rank, comm.size).x
        rows = self.evaluator.residual_at(theta, samples, share)
        size = np.concatenate(comm.allgather(np.linalg.norm(rows, axis=1)))
        return np.where(np.isfinite(size), size, 0.0)
