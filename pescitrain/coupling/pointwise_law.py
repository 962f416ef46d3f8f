"""A trained map at points, with its derivative: a material law, or what a host's equations leave out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc
from torch import nn

from pescitrain.networks.device import device_of, on_device, on_host
from pescitrain.run.model import load_model

Array = NDArray[np.float64]


class PointwiseLaw:
    """(N, s) -> (N, k) at N points that do not know each other, such as strains -> stresses at quadrature points.

    Parameters
    ----------
    model : path or module      of tensors (N, s) -> (N, k)
    """

    def __init__(self, model: str | Path | nn.Module) -> None:
        self._module = load_model(model) if isinstance(model, str | Path) else model

    def __call__(self, inputs: ArrayLike) -> Array:
        """The values (N, k). Not collective."""
        with torch.no_grad():
            return on_host(self._module(self._tensor(inputs))).copy()

    def with_tangent(self, inputs: ArrayLike) -> tuple[Array, Array]:
        """The values (N, k), and their derivatives (N, k, s) by the inputs, exact. Not collective.

        Cost: k reverse sweeps.
        """
        x = self._tensor(inputs).requires_grad_()
        with torch.enable_grad():
            values = self._module(x)
            rows = [
                torch.autograd.grad(values[:, column].sum(), x, retain_graph=True)[0]
                for column in range(values.shape[1])
            ]
        return on_host(values).copy(), on_host(torch.stack(rows, dim=1))

    def _tensor(self, inputs: ArrayLike) -> torch.Tensor:
        return on_device(np.array(inputs, dtype=np.float64, ndmin=2), device_of(self._module))


Function = Callable[[PETSc.TS, float, PETSc.Vec, PETSc.Vec], object]


class AddedTendency:
    """A law (values at a node) -> (their tendencies), added to the right-hand side of a host's TS.

    ``ts.setRHSFunction(AddedTendency(law, host.rhs, fields), f)``; with an implicit TS give ``add_jacobian`` the matrix
    that the host has filled.

    Parameters
    ----------
    law : PointwiseLaw          of ``fields`` inputs and outputs
    function : callable         (ts, t, u, f) of the host, or None where the law is all there is
    fields : int                values at a node, one after the other in the Vec
    """

    def __init__(self, law: PointwiseLaw, function: Function | None, fields: int = 1) -> None:
        self._law, self._function, self._fields = law, function, fields

    def __call__(self, ts: PETSc.TS, t: float, u: PETSc.Vec, f: PETSc.Vec) -> None:
        """f = host(u) + law(u). Collective where the host's function is."""
        if self._function is None:
            f.set(0.0)
        else:
            self._function(ts, t, u, f)
        f.setArray(f.array_r + self._law(u.array_r.reshape(-1, self._fields)).reshape(-1))

    def add_jacobian(self, u: PETSc.Vec, matrix: PETSc.Mat, scale: float = 1.0) -> None:
        """matrix += scale ∂law/∂u, a block of ``fields``² at each node; its entries must be there. Collective."""
        _, tangent = self._law.with_tangent(u.array_r.reshape(-1, self._fields))
        first = u.getOwnershipRange()[0]
        for node, block in enumerate(tangent):
            rows = np.arange(self._fields, dtype=PETSc.IntType) + first + node * self._fields
            matrix.setValues(rows, rows, scale * block, addv=True)
        matrix.assemble()
