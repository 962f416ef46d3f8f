"""Plane stress: div σ = 0, σ = E/(1−ν²) ((1−ν) ε + ν tr(ε) I), in the quarter (0,1)² of a plate with a round hole.

The hole has radius 0.4 about the origin. Data: σn = (1, 0) on ``traction`` (x = 1), σn = 0 on ``free`` (y = 1) and
``hole``; u_x = 0 on ``symmetry_x`` (x = 0), u_y = 0 on ``symmetry_y`` (y = 0), no shear on both. E = 1, ν = 0.3.
Reference: Goursat's potentials, 5e-14 in the displacement at the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pescitrain.problem import Dirichlet, Lifting, Problem, Residual, Term
from pescitrain.problem.field import Field, Normal

SIDES = ("symmetry_x", "symmetry_y", "traction", "free")


@dataclass
class Elasticity(Problem):
    """``young``: E; ``poisson``: ν; ``load``: the traction."""

    young: float = 1.0
    poisson: float = 0.3
    load: float = 1.0

    fields = ("ux", "uy")
    mesh = "elastic_plate.msh"
    reference_file = "elastic_plate_ref.vtu"
    defaults: ClassVar = {
        "bc_enforce": "hard",
        "sample_boundary_order": 1,  # one point a facet: only in the middle of a chord its normal is that of the circle
        "tao_max_it": 600,
    }

    def stress(self, ux: Field, uy: Field) -> tuple[Tensor, Tensor, Tensor]:
        """σ_xx, σ_yy, σ_xy."""
        E, nu = self.young, self.poisson
        plane = E / (1 - nu**2)
        return plane * (ux.x + nu * uy.y), plane * (uy.y + nu * ux.x), E / (1 + nu) / 2 * (ux.y + uy.x)

    def equilibrium(self, ux: Field, uy: Field) -> tuple[Tensor, Tensor]:
        nu = self.poisson
        along_x = ux.xx + (1 - nu) / 2 * ux.yy + (1 + nu) / 2 * uy.xy
        along_y = uy.yy + (1 - nu) / 2 * uy.xx + (1 + nu) / 2 * ux.xy
        plane = self.young / (1 - nu**2)
        return plane * along_x, plane * along_y

    def shear(self, ux: Field, uy: Field) -> Tensor:
        return self.stress(ux, uy)[2]

    def pull(self, ux: Field, uy: Field) -> Tensor:
        return self.stress(ux, uy)[0] - self.load

    def no_pull(self, ux: Field, uy: Field) -> Tensor:
        return self.stress(ux, uy)[1]

    def traction(self, ux: Field, uy: Field, n: Normal) -> tuple[Tensor, Tensor]:
        xx, yy, xy = self.stress(ux, uy)
        return xx * n.x + xy * n.y, xy * n.x + yy * n.y

    def terms(self) -> list[Term]:
        return [
            Residual(self.equilibrium, name="equilibrium"),
            Dirichlet(0.0, "ux", on="symmetry_x", weight=10.0),
            Dirichlet(0.0, "uy", on="symmetry_y", weight=10.0),
            Residual(self.shear, boundary=True, on=SIDES, name="shear", weight=10.0),
            Residual(self.pull, boundary=True, on="traction", name="traction", weight=10.0),
            Residual(self.no_pull, boundary=True, on="free", name="free", weight=10.0),
            Residual(self.traction, boundary=True, on="hole", name="hole", weight=10.0),
        ]

    def lifting(self) -> Lifting:
        return Lifting(
            base=lambda x: (0 * x, 0 * x), factor=lambda x, y: (x, y), conditions=("symmetry_x", "symmetry_y")
        )
