"""Central differences of order eight, to check that reference solutions satisfy their equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FIRST = {1: 4 / 5, 2: -1 / 5, 3: 4 / 105, 4: -1 / 280}
SECOND = {1: 8 / 5, 2: -1 / 5, 3: 8 / 315, 4: -1 / 560}


def first(function: Callable[[Array], Array], x: Array, axis: int, step: float) -> Array:
    """∂ function/∂x_axis at the points x (N, d); function maps (N, d) to (N, …)."""
    shift = step * np.eye(x.shape[1])[axis]
    total = sum(c * (function(x + k * shift) - function(x - k * shift)) for k, c in FIRST.items())
    return np.asarray(total) / step


def second(function: Callable[[Array], Array], x: Array, axis: int, step: float) -> Array:
    """∂² function/∂x_axis² at the points x (N, d)."""
    shift = step * np.eye(x.shape[1])[axis]
    total = sum(c * (function(x + k * shift) + function(x - k * shift)) for k, c in SECOND.items())
    return (np.asarray(total) - 205 / 72 * function(x)) / step**2
