"""Poisson's equation on any mesh: −Δu = f.

Data: f = 1; u = 0 on the boundaries named by ``dirichlet``, ∂u/∂n = 0 on all other named boundaries.
Default mesh: (−1,1)² minus the disc of centre (0.2, −0.15), radius 0.4; u = 0 on ``hole``, no flux through ``outer``.
Reference: polynomial + Laurent series + logarithm, 5e-14 at the nodes of the default mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pescitrain.errors import MeshError
from pescitrain.geometry import Mesh
from pescitrain.geometry.domain import split_names
from pescitrain.problem import Dirichlet, Neumann, Problem, Residual, Term
from pescitrain.problem.field import Field

HOLE_CENTER, HOLE_RADIUS = (0.2, -0.15), 0.4


@dataclass
class Poisson(Problem):
    """``source``: f. ``dirichlet``: names joined by ``+``; empty: ``hole`` if there is one, else the whole boundary."""

    source: float = 1.0
    dirichlet: str = ""

    mesh = "plate_with_hole.msh"
    reference_file = "plate_with_hole_ref.vtu"
    defaults: ClassVar = {"tao_max_it": 400}

    def __post_init__(self) -> None:
        self.fixed: tuple[str, ...] = ("hole",)
        self.insulated: tuple[str, ...] = ("outer",)

    def on_mesh(self, mesh: Mesh) -> None:
        known = mesh.names()["boundary"]
        asked = self.dirichlet or ("hole" if "hole" in known else "boundary")
        self.fixed = tuple(split_names(asked, known, "boundary of the mesh", MeshError))
        fixed, outer = (set(mesh.facet_indices(name).tolist()) for name in (self.fixed, None))

        def takes_flux(name: str) -> bool:
            facets = set(mesh.facet_indices(name).tolist())
            return facets <= outer and not facets <= fixed  # neither an interface nor a part of a fixed boundary

        self.insulated = tuple(name for name in known if name != "boundary" and takes_flux(name))
        self.coordinates = ("x", "y", "z")[: mesh.dimension]

    def equation(self, u: Field) -> Tensor:
        return -u.laplacian - self.source

    def terms(self) -> list[Term]:
        conditions: list[Term] = [Dirichlet(0.0, on=self.fixed, weight=10.0)]
        if self.insulated:
            conditions.append(Neumann(0.0, on=self.insulated))
        return [Residual(self.equation), *conditions]
