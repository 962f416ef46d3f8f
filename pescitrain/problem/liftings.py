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
from pescitrain.problem.facet_distance import FacetDistance
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


def from_boundary(
    pieces: Sequence[tuple[NDArray[np.float64], Callable[[Tensor], Tensor]]], conditions: Sequence[str]
) -> Lifting:
    """The lifting of one field from boundary facets of a mesh.

    factor = the joined distance of all facets; base = the transfinite interpolation of the boundary values,
    Σ_p g_p Π_{q≠p} d_q / Σ_p Π_{q≠p} d_q (Rvachev et al., Appl. Mech. Rev. 54 (2001), eq. (4)).

    ``pieces``: for each Dirichlet boundary its facets (F, vertices, d) and its value, a function (M, d) -> (M,).
    """
    distances = [FacetDistance(facets) for facets, _ in pieces]

    def factor(__x__: Tensor) -> Tensor:
        joined = torch.stack([1.0 / distance(__x__) for distance in distances])
        return 1.0 / joined.sum(0)

    def base(__x__: Tensor) -> Tensor:
        values = torch.stack([value(__x__) for _, value in pieces])
        apart = [distance(__x__) for distance in distances]
        others = [[d for q, d in enumerate(apart) if q != p] for p in range(len(pieces))]
        weights = torch.stack([math.prod(group, start=torch.ones_like(apart[0])) for group in others])
        total = weights.sum(0)
        # Where pieces meet, all weights vanish and the mean of their values stands for the limit.
        weights = torch.where(total == 0.0, torch.ones_like(weights), weights)
        return (weights * values).sum(0) / torch.where(total == 0.0, float(len(pieces)), total)

    return Lifting(base, factor, conditions)
