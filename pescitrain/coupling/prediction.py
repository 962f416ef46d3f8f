"""What a trained network says, however it comes: a Solver, a torch module, or the file of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc
from torch import nn

from pescitrain.coupling.locations import locations_of
from pescitrain.networks.device import evaluate
from pescitrain.run.model import load_model

Array = NDArray[np.float64]
Model = str | Path | nn.Module | Callable[..., Array]
"""A file, a module of tensors, or a function of arrays such as a Solver."""


def function_of(model: Model) -> Callable[..., Array]:
    """The model as a function of arrays. Not collective.

    Raises
    ------
    PescitrainError     there is no such file, or it is broken
    """
    module = load_model(model) if isinstance(model, str | Path) else model
    if isinstance(module, nn.Module):
        return lambda *arguments: evaluate(module, *(np.asarray(a, dtype=np.float64) for a in arguments))
    return module


def nodes_of(where: PETSc.DM | ArrayLike) -> Array:
    """Coordinates (K, d) of this rank's nodes: of a DM, or as they are given. Collective."""
    return locations_of(where)[0] if isinstance(where, PETSc.DM) else np.asarray(where, dtype=np.float64)
