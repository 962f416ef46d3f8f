"""Where the networks are: on the host, as everything of PETSc and MPI, or on a GPU with θ and residuals copied over."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pescitrain.errors import OptionError

Array = NDArray[np.float64]

HOST = torch.device("cpu")


def find_device(name: str, rank: int) -> torch.device:
    """``cpu``, or for ``cuda`` the GPU that the rank of this number on its machine takes, in turn. Not collective.

    Raises
    ------
    OptionError     there is no GPU that torch can use
    """
    if name == "cpu":
        return HOST
    if not torch.cuda.is_available():
        why = "finds none" if torch.version.cuda else "is built without CUDA"
        raise OptionError(f"-device {name} needs a GPU, and PyTorch {torch.__version__} {why}: use -device cpu")
    return torch.device("cuda", rank % torch.cuda.device_count())


def describe(device: torch.device) -> str:
    """For people: ``cpu``, or the name of the GPU."""
    return "cpu" if device == HOST else f"{device} ({torch.cuda.get_device_name(device)})"


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of a module are."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), HOST)


def on_device(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """An array of the host as a tensor there; on the host it shares memory, unless the array is read-only."""
    contiguous = np.ascontiguousarray(array)
    return torch.from_numpy(contiguous if contiguous.flags.writeable else contiguous.copy()).to(device)


def on_host(tensor: Tensor) -> NDArray:
    """A tensor as an array of the host; a tensor of the host shares memory."""
    return tensor.detach().cpu().numpy()


def at_home(device: torch.device) -> AbstractContextManager[object]:
    """Inside, what a user's function makes without naming a device is made there."""
    return nullcontext() if device == HOST else device


AT_A_TIME = 1024
"""Points at which a module is evaluated together."""


def evaluate(module: nn.Module, *arguments: Array) -> Array:
    """A module at points of the host, wherever it is itself: (N, d) -> (N, k), or of several arguments.

    The first argument is taken in parts, so that memory does not grow with N but for the result.
    """
    device, (points, *others) = device_of(module), arguments
    with torch.no_grad(), at_home(device):
        rest = [on_device(argument, device) for argument in others]
        parts = np.array_split(points, max(1, -(-len(points) // AT_A_TIME)))
        values = [on_host(module(on_device(part, device), *rest)) for part in parts]
    return values[0] if len(values) == 1 else np.concatenate(values)
