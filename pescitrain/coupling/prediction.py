"""What a trained network says, however it comes: a Solver, a torch module, or the file of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

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
