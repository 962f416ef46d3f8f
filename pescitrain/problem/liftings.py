"""Hard conditions: u = base + factor · N, exact on the boundary whatever the network N is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.problem.field import ByName, Coordinates

Function = Callable[..., Any]


@dataclass(frozen=True)
class Lifting:
    """u = base(x) + factor(x) · N(x).

    Parameters
    ----------
    base, factor : function of coordinates by name -> (M,), or a tuple of one for each field
        the base meets the conditions; the factor vanishes where they hold. With ``outputs`` networks outputs the factor
        is a tuple over fields of tuples over outputs (u_f = b_f + Σ_o factor[f][o] N_o).
    conditions : sequence of str    the names (``on``) of the terms which it makes superfluous
    outputs : int or None           how many outputs the network has; None: one for each field
    """

    base: Function
    factor: Function
    conditions: Sequence[str]
    outputs: int | None = None

    def bind(self, coordinates: Sequence[str], fields: int) -> BoundLifting:
        """The lifting as tensor functions of x (M, d)."""
        return BoundLifting(self, Coordinates(coordinates), fields)


class BoundLifting(torch.nn.Module):
    """``base``: (M, d) -> (M, fields); ``factor``: (M, d) -> (M, fields) or (M, fields · outputs)."""

    def __init__(self, lifting: Lifting, coordinates: Coordinates, fields: int) -> None:
        super().__init__()
        self.names, self.fields, self.outputs = coordinates.names, fields, lifting.outputs
        self.conditions = tuple(lifting.conditions)
        self._base = ByName(lifting.base, "the base of the lifting")
        self._factor = ByName(lifting.factor, "the factor of the lifting")

    def _known(self, x: Tensor) -> dict[str, Tensor]:
        return {name: x[:, axis] for axis, name in enumerate(self.names)} | {"__x__": x}

    def _columns(self, values: Any, x: Tensor, count: int, what: str) -> Tensor:
        rows = list(values) if isinstance(values, tuple | list) else [values]
        flat = [v for row in rows for v in (row if isinstance(row, tuple | list) else (row,))]
        if len(flat) != count:
            raise ProblemError(f"the {what} of the lifting gives {len(flat)} functions where {count} are needed")
        columns = [v if isinstance(v, Tensor) else torch.full_like(x[:, 0], float(v)) for v in flat]
        return torch.stack([column.expand(x.shape[0]) for column in columns], dim=-1)

    def base(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, fields)."""
        return self._columns(self._base(self._known(x)), x, self.fields, "base")

    def factor(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, fields), or (M, fields · outputs) where the lifting mixes outputs."""
        count = self.fields * (self.outputs or 1)
        return self._columns(self._factor(self._known(x)), x, count, "factor")

    def forward(self, x: Tensor, network: Tensor) -> Tensor:
        """Fields (M, fields) from the outputs of the network (M, outputs)."""
        factor = self.factor(x)
        if self.outputs is None:
            return self.base(x) + factor * network
        mixed = factor.view(x.shape[0], self.fields, self.outputs) * network.unsqueeze(1)
        return self.base(x) + mixed.sum(-1)


class FacetDistance(torch.nn.Module):
    """A smooth function that is zero on given straight facets and positive elsewhere.

    The R-equivalence joining of the normalised distances of segments (2-D) or points (1-D),
    d = (Σ d_i^(−m))^(−1/m), after Sukumar & Srivastava, CMAME 389 (2022) 114333, eqs. (3.8), (3.14).
    Its second derivatives are unbounded at the end points of segments: quadrature points stay off them.
    """

    starts: Tensor
    ends: Tensor

    def __init__(self, facets: NDArray[np.float64], order: int = 1) -> None:
        super().__init__()
        if facets.ndim != 3 or facets.shape[2] > 2:
            raise ProblemError(
                "hard conditions from a mesh's boundary are there for meshes in one and two dimensions: "
                "use -bc_enforce soft"
            )
        self.order = order
        self.register_buffer("starts", torch.from_numpy(np.ascontiguousarray(facets[:, 0])))
        self.register_buffer("ends", torch.from_numpy(np.ascontiguousarray(facets[:, -1])))

    def each(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, facets): the normalised distance to each facet."""
        offset = x.unsqueeze(1) - self.starts
        if self.starts.shape[1] == 1:
            return offset.square().sum(-1).sqrt()
        tangent = self.ends - self.starts
        length = tangent.square().sum(-1).sqrt()
        normal_distance = (offset[..., 0] * tangent[:, 1] - offset[..., 1] * tangent[:, 0]) / length
        middle = x.unsqueeze(1) - 0.5 * (self.starts + self.ends)
        trimming = (0.25 * length**2 - middle.square().sum(-1)) / length
        blend = (trimming**2 + normal_distance**4).sqrt()
        return (normal_distance**2 + 0.25 * (blend - trimming) ** 2).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,)."""
        return self.each(x).pow(-self.order).sum(1).pow(-1.0 / self.order)


def from_boundary(
    pieces: Sequence[tuple[NDArray[np.float64], Callable[[Tensor], Tensor]]], conditions: Sequence[str], order: int = 1
) -> Lifting:
    """The lifting of one field from boundary facets of a mesh.

    factor = the joined distance of all facets; base = the transfinite interpolation of the boundary values,
    Σ_p g_p Π_{q≠p} d_q^m / Σ_p Π_{q≠p} d_q^m (Rvachev et al., Appl. Mech. Rev. 54 (2001), eq. (4)).

    ``pieces``: for each Dirichlet boundary its facets (F, vertices, d) and its value, a function (M, d) -> (M,).
    """
    distances = [FacetDistance(facets, order) for facets, _ in pieces]

    def factor(__x__: Tensor) -> Tensor:
        joined = torch.stack([distance(__x__).pow(-order) for distance in distances])
        return joined.sum(0).pow(-1.0 / order)

    def base(__x__: Tensor) -> Tensor:
        values = torch.stack([value(__x__) for _, value in pieces])
        powers = [distance(__x__).pow(order) for distance in distances]
        others = [[power for q, power in enumerate(powers) if q != p] for p in range(len(pieces))]
        weights = torch.stack([math.prod(group, start=torch.ones_like(powers[0])) for group in others])
        total = weights.sum(0)
        # Where pieces meet, all weights vanish and the mean of their values stands for the limit.
        weights = torch.where(total == 0.0, torch.ones_like(weights), weights)
        return (weights * values).sum(0) / torch.where(total == 0.0, float(len(pieces)), total)

    return Lifting(base, factor, conditions)
