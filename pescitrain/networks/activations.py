"""Activation functions with as many derivatives as the Taylor mode asks for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Derivatives = Callable[[Tensor, int], list[Tensor]]
"""``(z, k) -> [σ(z), σ'(z), …, σ^(k)(z)]``, each of the shape and dtype of ``z``."""


def tanh(z: Tensor, count: int) -> list[Tensor]:
    """Hyperbolic tangent; every derivative is a polynomial in t = tanh z, with t' = 1 − t²."""
    t = torch.tanh(z)
    derivatives = [t]
    polynomial = [0.0, 1.0]
    if count >= 1:
        slope = 1.0 - t * t
        derivatives.append(slope)
        polynomial = _times_slope(polynomial)
    for _ in range(2, count + 1):
        polynomial = _times_slope(polynomial)
        derivatives.append(_polynomial_over_slope(polynomial, t) * derivatives[1])
    return derivatives


def _times_slope(polynomial: list[float]) -> list[float]:
    """Coefficients in t of (d/dt p)(1 − t²)."""
    slope = [k * c for k, c in enumerate(polynomial)][1:]
    result = slope + [0.0, 0.0]
    for k, c in enumerate(slope):
        result[k + 2] -= c
    return result


def _polynomial_over_slope(polynomial: list[float], t: Tensor) -> Tensor:
    """p(t) / (1 − t²) by Horner; p has the factor 1 − t² from the last chain-rule step."""
    quotient: list[float] = []
    for k, c in enumerate(polynomial[:-2]):
        quotient.append(c + (quotient[k - 2] if k >= 2 else 0.0))
    while len(quotient) > 1 and quotient[-1] == 0.0:
        quotient.pop()
    if len(quotient) == 1:
        return torch.full_like(t, quotient[0])
    value = quotient[-1] * t
    for c in reversed(quotient[1:-1]):
        value = (value + c) * t if c else value * t
    return value + quotient[0] if quotient[0] else value


def sin(z: Tensor, count: int) -> list[Tensor]:
    """Sine."""
    s, c = torch.sin(z), torch.cos(z)
    cycle = [s, c, -s, -c] if count >= 2 else [s, c]
    return [cycle[k % 4] for k in range(count + 1)]


def gelu(z: Tensor, count: int) -> list[Tensor]:
    """Gaussian error linear unit z Φ(z), exact form; σ^(k) = z Φ^(k) + k Φ^(k−1)."""
    cumulative = 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))
    derivatives = [z * cumulative]
    if count == 0:
        return derivatives
    density = torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    phi = [cumulative, density]  # Φ and its derivatives: Φ^(k+2) = −z Φ^(k+1) − k Φ^(k)
    for k in range(count - 1):
        phi.append(-z * phi[k + 1] - (k * phi[k] if k else 0.0))
    derivatives += [z * phi[k] + k * phi[k - 1] for k in range(1, count + 1)]
    return derivatives


def identity(z: Tensor, count: int) -> list[Tensor]:
    """No activation: a linear network, for tests."""
    return [z, torch.ones_like(z), *(torch.zeros_like(z) for _ in range(count - 1))][: count + 1]


ACTIVATIONS: dict[str, Derivatives] = {"tanh": tanh, "sin": sin, "gelu": gelu, "identity": identity}
"""By the name of ``-net_activation``."""
