"""Factorisations of a dense symmetric matrix with one shift after another, where the networks are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from torch import Tensor

from pescitrain.networks.device import HOST, on_device, on_host

Array = NDArray[np.float64]


class ShiftedCholesky:
    """(A + λI)⁻¹ b for a symmetric A (k, k), by Cholesky where A is; not collective."""

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix

    def factor(self, shift: float) -> Callable[[Array], Array]:
        """The solve b -> x, both (k,) of the host; raises LinAlgError where A + λI is not positive definite."""
        shifted = self._matrix.clone()
        shifted.diagonal().add_(shift)
        if shifted.device == HOST:
            factor = cho_factor(shifted.numpy().T, lower=True, overwrite_a=True)  # LAPACK's order: no copy
            return lambda b: cho_solve(factor, b, check_finite=False)
        lower, trouble = torch.linalg.cholesky_ex(shifted)
        if int(trouble):
            raise LinAlgError(f"the leading minor of order {int(trouble)} is not positive definite")
        return lambda b: on_host(torch.cholesky_solve(on_device(b, lower.device).unsqueeze(1), lower)[:, 0])
