"""A trunk that is not trained: functions that are known at given locations."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor, nn

from pescitrain.networks.components import Components
from pescitrain.networks.device import on_device, on_host
from pescitrain.networks.network import Network
from pescitrain.networks.tape import Tape

Array = NDArray[np.float64]


class FixedBasis(Network):
    """Modes and a mean function (M, d) -> (M, p) and (M,); between the locations they are those of the nearest one.

    Parameters
    ----------
    locations : (K, d)
    mean : (K,)
    modes : (K, p)
    """

    def __init__(self, locations: Array, mean: Array, modes: Array) -> None:
        super().__init__(_Nearest(locations, np.column_stack((mean, modes))), "tanh", adaptive_slope=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x)[:, 1:]

    def mean(self, x: Tensor) -> Tensor:
        """(M, d) -> (M,)."""
        return self.embedding(x)[:, 0]

    def embed_jet(self, x: Tensor, components: Components) -> Tensor:
        return self(x).t().unsqueeze(0)

    def layer_jet(self, index: int, jet: Tensor, components: Components, tape: Tape) -> Tensor:
        raise IndexError(f"a fixed basis has no layer {index}")

    def layers(self) -> list[tuple[str, list[str]]]:
        return []

    def resized(self, width: int, depth: int) -> FixedBasis:
        return self


class _Nearest(nn.Module):
    """(M, d) -> (M, q): the values (K, q) at the nearest of the locations (K, d)."""

    locations: Tensor
    values: Tensor

    def __init__(self, locations: Array, values: Array) -> None:
        super().__init__()
        self.register_buffer("locations", torch.from_numpy(np.ascontiguousarray(locations)))
        self.register_buffer("values", torch.from_numpy(np.ascontiguousarray(values)))
        self._tree = KDTree(locations)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # an exported model has tensors alone
            parts = [(x[:, k, None] - self.locations[:, k]).square() for k in range(self.locations.shape[1])]
            return self.values[torch.stack(parts).sum(0).argmin(1)]
        return self.values[on_device(np.asarray(self._tree.query(on_host(x))[1]), x.device)]
