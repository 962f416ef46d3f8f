"""A term with its samples, and the chunks of them that fit the cache."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.geometry import PointSet
from pescitrain.networks.components import Components
from pescitrain.networks.subdomain import SubdomainJets
from pescitrain.problem.operator import BRANCH, TRUNK
from pescitrain.problem.terms import Term


@dataclass(frozen=True)
class Chunk:
    """Up to ``samples`` samples of one term on this rank, with everything that does not depend on θ.

    Shapes: S sides (2 for periodic terms), N samples, M = S N points, C components.
    """

    x: Tensor  # (M, d)
    scale: Tensor  # (N,): √(weight · measure share · multiplier)
    normal: Tensor | None  # (M, d)
    data: Tensor | None  # (N,), (N, k) of several quantities, or (N, K) of an operator
    embedded: dict[str, Tensor | SubdomainJets]  # network -> (C, e, M), or where those of subdomains see the points
    base: Tensor | None  # (C, fields used, M)
    factor: Tensor | None  # (C, fields used, M), or (C, fields · outputs, M)

    @property
    def samples(self) -> int:
        """N."""
        return self.scale.numel()

    def subset(self, samples: Tensor, scale: float, sides: int) -> Chunk:
        """Some of its samples, their residuals times a factor."""

        def of_points(points: Tensor | None, dim: int) -> Tensor | None:
            if points is None:
                return None
            return points.unflatten(dim, (sides, self.samples)).index_select(dim + 1, samples).flatten(dim, dim + 1)

        def of_network(jet: Tensor | SubdomainJets) -> Tensor | SubdomainJets:
            if isinstance(jet, SubdomainJets):
                return jet.at(torch.cat([samples + side * self.samples for side in range(sides)]))
            return jet.unflatten(2, (sides, self.samples)).index_select(3, samples).flatten(2, 3)

        return Chunk(
            self.x.unflatten(0, (sides, self.samples))[:, samples].flatten(0, 1),
            scale * self.scale[samples],
            of_points(self.normal, 0),
            None if self.data is None else self.data[samples],
            {name: of_network(jet) for name, jet in self.embedded.items()},
            of_points(self.base, 2),
            of_points(self.factor, 2),
        )


@dataclass(frozen=True)
class OperatorChunk(Chunk):
    """Up to N input functions, x (N, s), with the K locations that all of them share; C = 1."""

    locations: Tensor  # (K, d)
    basis_factor: Tensor | None  # (K,)

    def subset(self, samples: Tensor, scale: float, sides: int) -> OperatorChunk:
        data = None if self.data is None else self.data[samples]
        inputs = self.embedded[BRANCH]
        assert isinstance(inputs, Tensor)
        embedded = {BRANCH: inputs.index_select(2, samples), TRUNK: self.embedded[TRUNK]}
        return replace(self, x=self.x[samples], scale=scale * self.scale[samples], data=data, embedded=embedded)


@dataclass(frozen=True)
class DiscreteChunk(Chunk):
    """The one sample of a simulation's equations: x (K, d) are this rank's nodes, ``scale`` (1,); S = 1, C = 1."""


@dataclass(frozen=True)
class DiscreteOperatorChunk(OperatorChunk):
    """As :class:`DiscreteChunk`, of an operator: x (N, s) are its inputs, of which each has equations of its own."""


@dataclass
class TermSamples:
    """A term with the points of this rank, and the chunks of them; no rank has the points of the others."""

    term: Term
    points: PointSet  # the share of this rank; all of them where the term is resident
    count: int  # samples over all ranks
    measure: float  # the sum of their weights over all ranks
    components: Components
    networks: tuple[str, ...]
    columns: dict[str, int]
    rows: int
    shift: NDArray[np.float64] | None = None  # (d,): from the points to their partners
    multipliers: NDArray[np.float64] | None = None  # of the points: factors of r² beside the term's weight; None: 1
    numbers: NDArray[np.int64] | None = None  # of the points among the data of the term; None: they follow each other
    resident: bool = False  # every rank has all samples, and rows of each that are its own
    total_rows: int = 0  # of a sample over all ranks; 0: ``rows``
    chunk_size: int = 1000
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def partners(self) -> NDArray[np.float64] | None:
        """The points (N, d) that this rank's points are compared with, if there are any."""
        return None if self.shift is None else self.points.x + self.shift

    @property
    def sides(self) -> int:
        """1, or 2 where each residual looks at a point and its partner."""
        return 1 if self.shift is None else 2

    @property
    def residual_count(self) -> int:
        """Residual rows over all ranks."""
        return self.count * (self.total_rows or self.rows)

    def begin(self, rank: int, size: int) -> int:
        """The number of the first sample of a rank."""
        return 0 if self.resident else self.count * rank // size
