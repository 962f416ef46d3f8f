"""A random subspace of half the dimension in which every parameter has the same share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.networks.device import on_device
from pescitrain.solvers.outcome import Array


@dataclass(frozen=True)
class PairHash:
    """Orthonormal S (n, ⌈n/2⌉): parameters in random pairs with random signs, each pair one coordinate.

    A balanced CountSketch (Clarkson & Woodruff, J. ACM 63 (2017) 54) of the columns of J; the last parameter of an odd
    number stays alone.
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    alone: NDArray[np.intp]
    signs: Array  # (2, ⌊n/2⌋), ±1/√2

    @classmethod
    def draw(cls, size: int, seed: int) -> PairHash:
        """The pairs of a seed; the same on all ranks."""
        random = np.random.default_rng([size, seed])
        order, half = random.permutation(size), size // 2
        signs = random.choice([-1.0, 1.0], (2, half)) / np.sqrt(2.0)
        return cls(order[:half], order[half : 2 * half], order[2 * half :], signs)

    def restrict(self, vector: Array) -> Array:
        """Sᵀ v: (n,) -> (⌈n/2⌉,)."""
        pairs = self.signs[0] * vector[self.first] + self.signs[1] * vector[self.second]
        return np.concatenate([pairs, vector[self.alone]])

    def prolong(self, coordinates: Array) -> Array:
        """S y: (⌈n/2⌉,) -> (n,)."""
        half = len(self.first)
        vector = np.empty(2 * half + len(self.alone))
        vector[self.first] = self.signs[0] * coordinates[:half]
        vector[self.second] = self.signs[1] * coordinates[:half]
        vector[self.alone] = coordinates[half:]
        return vector

    def restrict_rows(self, transposed: Tensor) -> Tensor:
        """SᵀJᵀ: (n, m) -> (⌈n/2⌉, m)."""
        device = transposed.device
        first, second = on_device(self.signs, device).unsqueeze(2)
        half = transposed.index_select(0, on_device(self.first, device)).mul_(first)
        half.addcmul_(transposed.index_select(0, on_device(self.second, device)), second)
        if not len(self.alone):
            return half
        return torch.cat((half, transposed.index_select(0, on_device(self.alone, device))))
