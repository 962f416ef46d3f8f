"""What may change the objective between two segments of a solve: points, weights of samples, the equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pescitrain.evaluation.chunks import TermSamples
from pescitrain.evaluation.evaluator import Evaluator
from pescitrain.evaluation.samples import SamplingPlan, fill_chunks
from pescitrain.evaluation.shares import draw_share, order_by_subdomain, share_union
from pescitrain.geometry import Box, Mesh, PointSequence, PointSet, Sampling

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

    def place(self, samples: TermSamples, points: PointSequence) -> None:
        """Give a term other points, of which each rank draws its share. Collective."""
        draw_share(samples, points, self.evaluator.comm)
        self._arrange(samples)

    def place_union(
        self, samples: TermSamples, parts: Sequence[PointSet], measure: float, multipliers: Array | None = None
    ) -> None:
        """Give a term the union of sets of points and factors (N,) of r², of which each rank has a part. Collective.

        As :func:`~pescitrain.evaluation.shares.share_union`; ``measure``: the sum of all weights.
        """
        share_union(samples, parts, multipliers, self.evaluator.comm)
        samples.measure = measure
        self._arrange(samples)

    def _arrange(self, samples: TermSamples) -> None:
        order_by_subdomain(samples, self.evaluator.surrogate, self.evaluator.comm)
        self.refill(samples)

    def refill(self, samples: TermSamples) -> None:
        """Compute anew what is constant on the samples of a term; what was known of the old ones is forgotten.

        Not collective.
        """
        comm = self.evaluator.comm
        fill_chunks(samples, self.evaluator.surrogate, comm.rank, comm.size, self.chunk_size)
        self.evaluator.forget()

    def candidates(self, samples: TermSamples, count: int, round: int) -> PointSequence:
        """Uniform points of the domain for an equation that wants ``count`` of them."""
        kind = Sampling(CANDIDATES * count, "uniform")
        return self.domain.interior_sequence(samples.term.on, kind, self.seed(round))

    def residual_size(self, theta: Array, samples: TermSamples, x: Array) -> Array:
        """‖r‖ (N,) at points (N, d) of this rank, the norm of the rows of each; 0 where it is not finite.

        Collective. Counted as the part of a closure that it is.
        """
        evaluator = self.evaluator
        size = np.linalg.norm(evaluator.residual_at(theta, samples, x), axis=1)
        evaluator.counters.objective += evaluator.comm.allreduce(len(x)) / sum(s.count for s in evaluator.samples)
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
