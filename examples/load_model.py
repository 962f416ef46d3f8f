"""A trained model in use: its values on a grid of your own, and its derivatives by torch.

python -m pescitrain -problem heat1d -out_dir runs/heat1d
python examples/load_model.py runs/heat1d
"""

import sys
from math import pi
from pathlib import Path

import torch

from pescitrain import load_model

DIFFUSIVITY = 0.25  # of -problem heat1d, whose solution is exp(−π² t/4) sin πx


def errors(folder: str | Path) -> tuple[float, float]:
    """Relative errors of the temperature on a grid of 201 × 51, and of the heat flux −u_x/4 there."""
    u = load_model(folder)
    grid = torch.cartesian_prod(torch.linspace(0, 1, 201), torch.linspace(0, 1, 51)).double().requires_grad_()
    values = u(grid)
    (slope,) = torch.autograd.grad(values.sum(), grid)  # row i: ∂u/∂x and ∂u/∂t at point i
    flux = -DIFFUSIVITY * slope[:, 0]

    x, t = grid.detach().T
    decay = torch.exp(-(pi**2) * DIFFUSIVITY * t)
    return relative(values.detach()[:, 0], decay * torch.sin(pi * x)), relative(
        flux, -DIFFUSIVITY * pi * decay * torch.cos(pi * x)
    )


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    """‖found − exact‖ / ‖exact‖."""
    return float(torch.linalg.vector_norm(found - exact) / torch.linalg.vector_norm(exact))


if __name__ == "__main__":
    print("relative error of the temperature {:.1e}, of the heat flux {:.1e}".format(*errors(sys.argv[1])))
