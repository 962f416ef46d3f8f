"""Points that are added where the residual is large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pescitrain.evaluation.refresh import Array, Refresh
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
        for samples in self.samples.interior:
            old = samples.points
            wanted = min(self.count, self.limit - len(old))
            if wanted <= 0:
                continue
            pool = self.samples.candidates(samples, self.limit, round)
            size = self.samples.residual_size(theta, samples, pool)
            chosen = pool.take(np.sort(np.argsort(-size, kind="stable")[:wanted]))
            weights = np.append(old.weights, np.full(wanted, old.weights.mean()))
            points = PointSet.concatenate([old, chosen])
            points = PointSet(points.x, weights * old.measure / weights.sum(), points.normals, points.cells)
            multipliers = None if samples.multipliers is None else np.append(samples.multipliers, np.ones(wanted))
            self.samples.place(samples, points, multipliers=multipliers)
