"""A smooth function that behaves as the distance to the boundary of a mesh: what makes conditions exact on any mesh."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError

FACETS_AT_A_TIME = 128
"""Bounds the memory of an evaluation to this many numbers a point, times a few."""


class FacetDistance(torch.nn.Module):
    """φ(x) = π / Σ_f ω_f(x)/h_f(x): zero on the facets, positive elsewhere, of unit slope on both sides of them.

    ω_f is the angle (half the solid angle in 3-D) under which a point sees the facet f, and h_f its distance to the
    line or plane of f. ω_f/h_f is the exact integral of |x − y|^(−d) over f up to a constant, so that φ does not see
    where a flat boundary is cut into facets, and it is smooth off the boundary: the L^p distance with p = 1 of Belyaev,
    Fayolle & Pasko, Comput.-Aided Des. 45 (2013) 523-528. In 1-D, φ = 1 / Σ_f 1/|x − x_f|.

    At a corner, and at each vertex of a polygon that stands for a curve, second derivatives grow like the turn of the
    boundary over the distance: a strong residual near curved boundaries is better off with soft conditions.

    Parameters
    ----------
    facets : (F, vertices, d)       points, segments, triangles or quadrilaterals; a triangle among quadrilaterals
                                    repeats a vertex, a segment's inner points do not count
    """

    corners: Tensor

    def __init__(self, facets: NDArray[np.float64]) -> None:
        super().__init__()
        dimension = facets.shape[-1]
        if facets.ndim != 3 or dimension not in (1, 2, 3):
            raise ProblemError(f"the facets of a boundary are an array (F, vertices, d), not {facets.shape}")
        if dimension < 3:
            simplices = facets[:, [0]] if dimension == 1 else facets[:, [0, -1]]
        else:
            parts = [facets[:, [0, k, k + 1]] for k in range(1, facets.shape[1] - 1)]
            simplices = np.concatenate(parts)
            simplices = simplices[_double_area(simplices) > 0.0]
        self.register_buffer("corners", torch.from_numpy(np.ascontiguousarray(simplices)))

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,)."""
        pieces = torch.split(self.corners.to(x.device), FACETS_AT_A_TIME)
        inverse = sum((self._inverse(x, piece).sum(1) for piece in pieces), torch.zeros_like(x[:, 0]))
        return (1.0 if x.shape[1] == 1 else math.pi) / inverse

    def _inverse(self, x: Tensor, corners: Tensor) -> Tensor:
        """ω/h (M, F); infinite on the facet."""
        a, *others = ((x.unsqueeze(1) - corners[:, k]) for k in range(corners.shape[1]))
        if not others:
            return 1.0 / a.abs().squeeze(-1)
        if len(others) == 1:
            (b,) = others
            size = (b - a).square().sum(-1).sqrt()
            height = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]) / size
            return _angle_over_height(size, height, (a * b).sum(-1))
        b, c = others
        normal = torch.linalg.cross(b - a, c - a)
        size = normal.square().sum(-1).sqrt()
        height = (a * normal).sum(-1) / size
        length_a, length_b, length_c = (side.square().sum(-1).sqrt() for side in (a, b, c))
        # tan(ω) with half the solid angle ω, van Oosterom & Strackee, IEEE Trans. Biomed. Eng. 30 (1983) 125-126.
        dot = (
            length_a * length_b * length_c
            + (a * b).sum(-1) * length_c
            + (a * c).sum(-1) * length_b
            + (b * c).sum(-1) * length_a
        )
        return _angle_over_height(size, height, dot)


def _double_area(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = (triangles[:, k] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=-1)


def _angle_over_height(size: Tensor, height: Tensor, dot: Tensor) -> Tensor:
    """atan2(size · height, dot) / height, smooth where the height vanishes beside the facet, infinite on it."""
    beside = (size * height).abs() < 1e-2 * dot
    on = (height == 0.0) & ~beside
    safe_dot = torch.where(beside, dot, 1.0)
    z = torch.where(beside, size * height, 0.0) / safe_dot
    square = z * z
    series = 1.0 - square * (1 / 3 - square * (1 / 5 - square * (1 / 7 - square * (1 / 9))))
    safe_height = torch.where(beside | on, 1.0, height)
    far = torch.atan2(size * safe_height, torch.where(beside, 1.0, dot)) / safe_height
    return torch.where(beside, series * size / safe_dot, torch.where(on, torch.inf, far))
