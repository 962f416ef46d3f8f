"""Poisson's equation on the L-shape: −Δu = 1 in (−1,1)² ∖ [0,1]×[−1,0], u = 0 on the boundary.

At the re-entrant corner u ~ r^(2/3) sin(2θ/3), θ from the positive x-axis on: its gradient is infinite there. A network
with soft data stalls at 3e-2; hard data, ℓ = (1−x²)(1−y²)(y − x + r), reach 8e-4; with r^(2/3) sin(2θ/3), the declared
aid, in place of the last factor, 8e-5 (4 × 20 tanh, 600 closures).
Reference: corner functions + polynomials in z and z^(2/3), 2e-14 at the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pescitrain.problem import Dirichlet, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field


@dataclass
class PoissonLShape(Problem):
    """``singular``: the lifting holds the singular function of the corner, a declared aid; without it, only zeros."""

    singular: bool = True

    mesh = "lshape.msh"
    reference_file = "lshape_ref.vtu"
    defaults: ClassVar = {"bc_enforce": "hard", "tao_max_it": 500}

    def equation(self, u: Field) -> Tensor:
        return -u.laplacian - 1

    def terms(self) -> list[Term]:
        return [Residual(self.equation), Dirichlet(0.0, on="boundary", weight=100.0)]

    def lifting(self) -> Lifting:
        return Lifting(lambda x: 0 * x, self.vanishing, conditions=("boundary",))

    def vanishing(self, x: Tensor, y: Tensor) -> Tensor:
        """ℓ: positive inside, zero exactly on the boundary."""
        at_corner = corner_function(x, y) if self.singular else y - x + torch.hypot(x, y)
        return (1 - x**2) * (1 - y**2) * at_corner


def corner_function(x: Tensor, y: Tensor) -> Tensor:
    """r^(2/3) sin(2θ/3), 0 ≤ θ ≤ 3π/2: harmonic, zero on both sides of the corner; infinite derivatives at r = 0."""
    from_bisector = torch.atan2(-(x + y), y - x)  # θ − 3π/4: the cut lies in the quadrant that is not there
    return (x**2 + y**2) ** (1 / 3) * torch.cos(2 / 3 * from_bisector)
