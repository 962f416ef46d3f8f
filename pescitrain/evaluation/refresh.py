"""What may change the objective between two segments of a solve: points, weights of samples, the equations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pescitrain.evaluation.chunks import TermSamples
from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.samples import SamplingPlan, fill_chunks
from pescitrain.geometry import Box, Mesh, PointSet, Sampling

Array = NDArray[np.float64]

CANDIDATES = 4
"""Candidates for each point."""


@dataclass
class Samples:
    """The samples of an evaluator and where new ones may come from; everything that refreshes works on one of these.

    Parameters
    ----------
    evaluator : Evaluator
    whole : Box or Mesh     the domain of the problem; :attr:`domain` is what a time window leaves of it
    plan : SamplingPlan     that the samples were made from
    chunk_size : int        samples that are evaluated at a time
    weights : dict          of terms by label, which replace those of the problem
    """

    evaluator: Evaluator
    whole: Box | Mesh
    plan: SamplingPlan
    chunk_size: int
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.domain = self.whole

    @property
    def interior(self) -> list[TermSamples]:
        """The equations: what has points that may move and weights that may change."""
        return [samples for samples in self.evaluator.samples if samples.term.place == "interior"]

    def place(
        self, samples: TermSamples, points: PointSet, partners: Array | None = None, multipliers: Array | None = None
    ) -> None:
        """Give a term these points (N, d) and factors (N,) of r²; what was known of the old ones is forgotten."""
        samples.points, samples.partners, samples.multipliers = points, partners, multipliers
        samples.draw = None
        self.refill(samples)

    def refill(self, samples: TermSamples) -> None:
        """Compute anew what is constant on the samples of a term. Not collective."""
        comm = self.evaluator.comm
        fill_chunks(samples, self.evaluator.surrogate, comm.rank, comm.size, self.chunk_size)
        self.evaluator.forget()

    def candidates(self, samples: TermSamples, count: int, round: int) -> PointSet:
        """Uniform points of the domain for an equation that wants ``count`` of them, the same on all ranks."""
        kind = Sampling(CANDIDATES * count, "uniform")
        return self.domain.interior(samples.term.on, kind, self.seed(round))

    def residual_size(self, theta: Array, samples: TermSamples, points: PointSet) -> Array:
        """‖r‖ (N,) at points, the norm of the rows of each, on all ranks; 0 where it is not finite.

        Collective; each rank computes a share. Counted as the part of a closure that it is.
        """
        evaluator, comm = self.evaluator, self.evaluator.comm
        share = points.slice(comm.rank, comm.size).x
        rows = evaluator.residual_at(theta, samples, share)
        size = np.concatenate(comm.allgather(np.linalg.norm(rows, axis=1)))
        evaluator.counters.objective += len(points) / sum(len(other.points) for other in evaluator.samples)
        return np.where(np.isfinite(size), size, 0.0)

    def seed(self, round: int) -> int:
        """A seed of its own for each round."""
        return int(np.random.SeedSequence([self.plan.seed, round]).generate_state(1)[0])


@dataclass
class Refresh:
    """Something that changes at declared points of a method: every ``interval`` iterations, and never between.

    After :meth:`refresh` the method forgets residuals, gradients and Jacobians. What a refresh does depends on θ, the
    seed, the round (1, 2, …) and the samples, not on the number of ranks; the samples are kept in the checkpoint.
    """

    name: ClassVar[str]
    samples: Samples
    interval: int

    @property
    def last_round(self) -> int | None:
        """After which nothing changes any more; None where there is no such round."""
        return None

    def begin(self, theta: Array) -> None:
        """Before the first iteration of a run, for its parameters θ (n,). Collective."""

    def resume(self, round: int) -> None:
        """After a restart, with this round behind it; samples come from the checkpoint. Collective."""

    def refresh(self, theta: Array, round: int) -> None:
        """Change what is to change at the parameters θ (n,). Collective."""
        raise NotImplementedError
