"""Heat conduction in two materials: −div(k ∇T) = q in (−1,1)².

k = 10, q = 8 in ``inclusion`` (disc of centre (−0.1, 0.2), radius 0.45); k = 1, q = 0 in ``matrix``; T and k ∂T/∂n are
continuous across ``interface``. Data: T = 1 on ``left``, T = 0 on ``right``, ∂T/∂n = 0 on ``insulated`` (y = ±1).
T has a kink on the interface: each material has a network of its own.
Reference: polynomials + Laurent series outside, polynomials inside, 1e-13 at the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pescitrain.problem import Dirichlet, Lifting, Neumann, Problem, Residual, Term
from pescitrain.problem.field import Field

CENTER, RADIUS = (-0.1, 0.2), 0.45


@dataclass
class HeatTwoMaterials(Problem):
    """``conductivity``: k of the inclusion; ``source``: q in it."""

    conductivity: float = 10.0
    source: float = 8.0

    fields = ("T_inclusion", "T_matrix")
    networks: ClassVar = {"inclusion": ("T_inclusion",), "matrix": ("T_matrix",)}
    outputs = ("T",)
    mesh = "two_materials.msh"
    reference_file = "two_materials_ref.vtu"
    defaults: ClassVar = {
        "bc_enforce": "hard",
        "sample_boundary_order": 1,  # one point a facet: only in the middle of a chord its normal is that of the circle
        "tao_max_it": 400,
    }

    def in_inclusion(self, T_inclusion: Field) -> Tensor:
        return -T_inclusion.laplacian - self.source / self.conductivity

    def in_matrix(self, T_matrix: Field) -> Tensor:
        return -T_matrix.laplacian

    def temperature(self, T_inclusion: Field, T_matrix: Field) -> Tensor:
        return T_inclusion - T_matrix

    def flux(self, T_inclusion: Field, T_matrix: Field) -> Tensor:
        return self.conductivity * T_inclusion.n - T_matrix.n

    def terms(self) -> list[Term]:
        return [
            Residual(self.in_inclusion, on="inclusion", name="inclusion"),
            Residual(self.in_matrix, on="matrix", name="matrix"),
            Residual(self.temperature, boundary=True, on="interface", name="interface_temperature"),
            Residual(self.flux, boundary=True, on="interface", name="interface_flux"),
            Dirichlet(1.0, "T_matrix", on="left"),
            Dirichlet(0.0, "T_matrix", on="right"),
            Neumann(0.0, "T_matrix", on="insulated"),
        ]

    def lifting(self) -> Lifting:
        return Lifting(
            base=lambda x: ((1 - x) / 2, (1 - x) / 2),
            factor=lambda x: (1 - x**2, 1 - x**2),
            conditions=("left", "right"),
        )

    def solution(self, x: Tensor, y: Tensor, T_inclusion: Tensor, T_matrix: Tensor) -> Tensor:
        inside = (x - CENTER[0]) ** 2 + (y - CENTER[1]) ** 2 < RADIUS**2
        return torch.where(inside, T_inclusion, T_matrix)
