"""The Kronecker-factored preconditioner as a PC type: ``-pc_type kfac``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import eigh

from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.operators import gauss_newton_behind
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization
from pescitrain.evaluation.jacobian import KroneckerFactor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Layer:
    """G ⊗ A of one affine layer by its eigenvectors."""

    weight: slice
    bias: slice | None
    inputs: Array  # eigenvectors of A
    cotangents: Array  # eigenvectors of G
    products: Array  # (out, in [+ 1]): products of their eigenvalues

    def solve(self, right: Array, damping: float, out: Array) -> None:
        """(G ⊗ A + λI)⁻¹ on this layer's part of (n,) arrays."""
        rows, columns = self.products.shape
        matrix = np.empty((rows, columns))
        width = columns if self.bias is None else columns - 1
        matrix[:, :width] = right[self.weight].reshape(rows, width)
        if self.bias is not None:
            matrix[:, -1] = right[self.bias]
        scaled = (self.cotangents.T @ matrix @ self.inputs) / (self.products + damping)
        result = self.cotangents @ scaled @ self.inputs.T
        out[self.weight] = result[:, :width].ravel()
        if self.bias is not None:
            out[self.bias] = result[:, -1]


class KroneckerFactored:
    """(G ⊗ A + λI)⁻¹ for each affine layer, exactly, by the eigenvectors of G and A; the diagonal for the rest.

    A is the mean of a aᵀ over the inputs of the layer and G the sum of g gᵀ over its cotangents, over samples and
    components of the jets. Storage: in² + out² a layer instead of (in · out)² of its block.

    Source: Martens & Grosse, ICML 2015, arXiv:1503.05671, the exact inverse of eq. (28) in the place of factored
    damping; for derivatives in x: Dangel, Müller & Zeinhofer, arXiv:2405.15603.
    """

    def __init__(self) -> None:
        self._factored: Linearization | None = None
        self._layers: list[_Layer] = []
        self._layout: ParameterLayout | None = None
        self._diagonal = np.zeros(0)
        self._damping = 0.0

    def setUp(self, pc: PETSc.PC) -> None:
        """Factors of a new linearization; a new λ alone costs nothing. Collective.

        Raises
        ------
        OptionError     a residual or a network has no Taylor mode, hence no factors
        """
        source = gauss_newton_behind(pc, "kfac")
        if self._factored is not source.linearization:
            factors = source.linearization.kronecker_factors()
            if factors is None:
                raise OptionError(
                    "-pc_type kfac needs the inputs and cotangents of affine layers, which a network or residual "
                    "without Taylor mode does not have: use -pc_type nystrom or asm"
                )
            self._layers = [_eigenvectors(factor) for factor in factors]
            self._factored, self._layout = source.linearization, source.layout
        self._damping = source.shift_of_identity
        self._diagonal = source.diagonal + self._damping

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective: gathers x."""
        assert self._layout is not None
        right = self._layout.gather(x)
        result = right / self._diagonal
        for layer in self._layers:
            layer.solve(right, self._damping, result)
        self._layout.set(y, result)

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric."""
        self.apply(pc, x, y)

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """The sizes of the factors."""
        sizes = ", ".join(f"{len(layer.cotangents)} x {len(layer.inputs)}" for layer in self._layers)
        viewer.printfASCII(f"  Kronecker factors: {sizes}\n")


def _eigenvectors(factor: KroneckerFactor) -> _Layer:
    a, inputs = eigh(factor.inputs.numpy() / (float(factor.count) or 1.0))
    g, cotangents = eigh(factor.cotangents.numpy())
    products = np.outer(np.maximum(g, 0.0), np.maximum(a, 0.0))
    weight, bias = factor.weight, factor.bias
    return _Layer(
        slice(weight.start, weight.stop),
        None if bias is None else slice(bias.start, bias.stop),
        inputs,
        cotangents,
        products,
    )
