"""Points that are added where the residual is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pescitrain.evaluation.refresh import Array, Refresh
from pescitrain.evaluation.selection import select_largest
from pescitrain.geometry import PointSet


@dataclass
class ResidualRefinement(Refresh):
    """Residual-based adaptive refinement (RAR) of the interior points of every equation.

    Each round adds the ``count`` uniform candidates with the largest |r| until an equation has ``limit`` points (Lu et
    al., SIAM Review 63 (2021) 208–228, procedure 2.2). A new point weighs as much as the mean of those that are there,
    so that the objective remains a mean square. Boundary terms and data keep their points.
    """

    name: ClassVar[str] = "rar"
    count: int
    limit: int

    def refresh(self, theta: Array, round: int) -> None:
        comm = self.samples.evaluator.comm
        for samples in self.samples.interior:
            old, count, measure = samples.points, samples.count, samples.measure
            wanted = min(self.count, self.limit - count)
            if wanted <= 0:
                continue
            pool = self.samples.candidates(samples, self.limit, round).slice(comm.rank, comm.size)
            size = self.samples.residual_size(theta, samples, pool.x)
            new = pool.take(select_largest(comm, size, wanted))
            weights = np.full(len(new), measure / (count + wanted))
            parts = [
                PointSet(old.x, old.weights * (count / (count + wanted)), old.normals, old.cells),
                PointSet(new.x, weights, new.normals, new.cells),
            ]
            multipliers = None if samples.multipliers is None else np.append(samples.multipliers, np.ones(len(new)))
            self.samples.place_union(samples, parts, measure, multipliers)
