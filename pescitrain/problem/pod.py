"""Proper orthogonal decomposition of the outputs of an operator: the basis in which few functions describe most.

Source: Lu et al., Comput. Methods Appl. Mech. Engrg. 393 (2022) 114778, § 3.1.3 (POD-DeepONet).
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.problem.operator import OperatorData

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-7
"""Singular values below, relative to the largest, are noise: they are square roots of eigenvalues."""


def leading_modes(data: OperatorData, count: int) -> tuple[Array, Array, Array]:
    """Locations (K, d), mean (K,) and up to ``count`` modes (K, p), at all locations on all ranks. Collective.

    A mode has the size of its part of the outputs, so that its coefficients have mean zero and deviation one. There are
    fewer than ``count`` where the outputs have no more.
    """
    mean = data.values.mean(0)
    centred = data.values - mean
    products = centred @ centred.T
    if data.comm is not None:
        data.comm.Allreduce(MPI.IN_PLACE, products)
    eigenvalues, vectors = np.linalg.eigh(products)
    order = np.argsort(eigenvalues)[::-1]
    singular = np.sqrt(np.maximum(eigenvalues[order], 0.0))
    keep = order[: max(1, min(count, int((singular > NEGLIGIBLE * singular[0]).sum())))]
    own = np.column_stack((data.locations, mean, centred.T @ vectors[:, keep] / np.sqrt(len(data))))
    whole = own if data.comm is None else np.concatenate(data.comm.allgather(own))
    dimension = data.locations.shape[1]
    return whole[:, :dimension], whole[:, dimension], whole[:, dimension + 1 :]
