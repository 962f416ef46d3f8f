"""What the outputs of a term cost: half their square, or the cross-entropy of classes.

Every loss is convex in the outputs z of a sample, and gives rows r with

    rᵀ ∂r = ∂ℓ,    ∂rᵀ ∂r = ∂²ℓ(z) along ∂z,

so that with J = ∂r/∂θ the gradient of φ is Jᵀr and JᵀJ its generalized Gauss–Newton matrix (Schraudolph, Neural
Computation 14 (2002) 1723–1738), whatever the loss; ½‖r‖² is φ for squares alone.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

SMALLEST_LOG_PROBABILITY = -600.0
"""Below it a row would overflow when it is squared."""


class Loss(Protocol):
    """A convex function of the outputs of a sample."""

    @property
    def quadratic(self) -> bool:
        """Whether the rows are the outputs."""
        ...

    def values(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        """ℓ of each sample: outputs (N, k), data (N,) -> (N,)."""
        ...

    def rows(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        """r of each sample: (N, k) -> (N, k); differentiable once."""
        ...


class Squares:
    """½ Σ z²."""

    quadratic = True

    def values(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        return 0.5 * outputs.square().sum(1)

    def rows(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        return outputs


class SoftmaxCrossEntropy:
    """−log pᵧ of the class y in ``data``, with p = softmax(z).

    ∂ℓ = p − e_y and ∂²ℓ = diag(p) − p pᵀ = B Bᵀ with B = diag(√p) − p √pᵀ; as p − e_y is in the range of B, the rows
    are r = (p − e_y) / √p, with the derivative ∂r = Bᵀ ∂z at these p.
    """

    quadratic = False

    def values(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        return outputs.logsumexp(1) - (outputs * _indicator(outputs, data)).sum(1)

    def rows(self, outputs: Tensor, data: Tensor | None) -> Tensor:
        here = outputs.detach()
        root = (0.5 * here.log_softmax(1).clamp_min(SMALLEST_LOG_PROBABILITY)).exp()
        change = outputs - here  # zero, with the derivative of the outputs
        mean = (root.square() * change).sum(1, keepdim=True)
        return root - _indicator(outputs, data) / root + root * (change - mean)


def _indicator(outputs: Tensor, data: Tensor | None) -> Tensor:
    """(N, k): 1 for the class of each sample, 0 for the others."""
    assert data is not None
    classes = torch.arange(outputs.shape[1], device=outputs.device)
    return (data.unsqueeze(1) == classes).to(outputs.dtype)
