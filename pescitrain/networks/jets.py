"""Taylor mode: the value and the wanted derivatives of a field pass through a network in one sweep.

A *jet* is a tensor ``(C, width, M)``: C components (:class:`~pescitrain.networks.components.Components`) of M samples,
the samples side by side in memory, which is how narrow matrix products are fast. Linear layers act on every component
alike, activations by the chain rule. Both are `torch.autograd.Function`s with the backward pass written out, which
keeps the number of elementwise passes over the data low.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pescitrain.networks.activations import Derivatives
from pescitrain.networks.components import Components, Laplacian


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, components: Components, activation: Derivatives) -> Tensor:
        needs_backward = ctx.needs_input_grad[0]
        derivatives = activation(z[0], components.max_order + int(needs_backward))
        out = torch.empty_like(z)
        out[0] = derivatives[0]
        if len(components) > 1:
            torch.mul(z[1:], derivatives[1], out=out[1:])
            for member, terms in enumerate(components.compositions):
                for term in terms:
                    product = z[term.factors[0]] * z[term.factors[1]]
                    for factor in term.factors[2:]:
                        product.mul_(z[factor])
                    out[member].addcmul_(derivatives[term.order], product, value=term.coefficient)
        if needs_backward:
            ctx.save_for_backward(z, *derivatives)
            ctx.components = components
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None, None]:
        (grad,) = grads
        z, *derivatives = ctx.saved_tensors
        components: Components = ctx.components
        grad_z = grad * derivatives[1]
        if len(components) > 1:
            grad_value = grad_z[0].addcmul_((grad[1:] * z[1:]).sum(0), derivatives[2])
            for member, terms in enumerate(components.compositions):
                for term in terms:
                    weighted = grad[member] * z[term.factors[0]]
                    if len(term.factors) == 2 and term.factors[0] == term.factors[1]:
                        grad_z[term.factors[0]].addcmul_(weighted, derivatives[term.order], value=2 * term.coefficient)
                        weighted.mul_(z[term.factors[0]])
                    else:
                        weighted = _chain_factors(grad_z, grad[member], z, derivatives[term.order], term)
                    grad_value.addcmul_(weighted, derivatives[term.order + 1], value=term.coefficient)
        return grad_z, None, None


def _chain_factors(grad_z: Tensor, grad: Tensor, z: Tensor, derivative: Tensor, term: Any) -> Tensor:
    """Add the part of each factor to ``grad_z``; return ``grad · Π z[factors]``."""
    for position, factor in enumerate(term.factors):
        others = grad
        for k, other in enumerate(term.factors):
            if k != position:
                others = others * z[other]
        grad_z[factor].addcmul_(others, derivative, value=term.coefficient)
    product = grad
    for factor in term.factors:
        product = product * z[factor]
    return product


def activate(z: Tensor, components: Components, activation: Derivatives) -> Tensor:
    """``σ(z)`` for a jet ``z`` (C, width, M); differentiable once."""
    result = _Activate.apply(z, components, activation)
    assert isinstance(result, Tensor)
    return result


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(h, weight)
        z = torch.bmm(weight.expand(len(h), *weight.shape), h)
        if bias is not None:
            z[0] += bias.unsqueeze(1)
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,) = grads
        h, weight = ctx.saved_tensors
        grad_h = torch.bmm(weight.t().expand(len(h), *weight.t().shape), grad) if ctx.needs_input_grad[0] else None
        grad_weight = torch.bmm(grad, h.mT).sum(0) if ctx.needs_input_grad[1] else None
        grad_bias = grad[0].sum(1) if ctx.needs_input_grad[2] else None
        return grad_h, grad_weight, grad_bias


def affine(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``W h + b`` for a jet ``h`` (C, in, M): the bias enters the value only; differentiable once."""
    result = _Affine.apply(h, weight, bias)
    assert isinstance(result, Tensor)
    return result


class _BatchedAffine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
        ctx.save_for_backward(h, weights)
        z = torch.matmul(weights, h)
        z[0] += biases.unsqueeze(2)
        return z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,) = grads
        h, weights = ctx.saved_tensors
        grad_h = torch.matmul(weights.mT, grad) if ctx.needs_input_grad[0] else None
        grad_weights = torch.matmul(grad, h.mT).sum(0) if ctx.needs_input_grad[1] else None
        grad_biases = grad[0].sum(2) if ctx.needs_input_grad[2] else None
        return grad_h, grad_weights, grad_biases


def batched_affine(h: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """``W_a h_a + b_a`` for a jet (C, A, in, P), weights (A, out, in) and biases (A, out); differentiable once."""
    result = _BatchedAffine.apply(h, weights, biases)
    assert isinstance(result, Tensor)
    return result


def multiply(a: Tensor, z: Tensor, components: Components) -> Tensor:
    """The jet of the product of two jets (C, k, M) by the product rule."""
    rows = []
    for terms in components.products:
        row = terms[0].coefficient * a[terms[0].left] * z[terms[0].right]
        for term in terms[1:]:
            row = row + term.coefficient * a[term.left] * z[term.right]
        rows.append(row)
    return torch.stack(rows)


def divide(z: Tensor, a: Tensor, components: Components) -> Tensor:
    """The jet q of the quotient of two jets (C, k, M), z = a q by the product rule, component after component."""
    rows: list[Tensor] = []
    for member, terms in enumerate(components.products):
        row = z[member]
        for term in terms:
            if term.right != member:  # of lower order
                row = row - term.coefficient * a[term.left] * rows[term.right]
        rows.append(row / a[0])
    return torch.stack(rows)


def seed(x: Tensor, components: Components) -> Tensor:
    """The jet of the coordinates themselves: x (M, d) -> (C, d, M)."""
    jet = x.new_zeros(len(components), *x.t().shape)
    jet[0] = x.t()
    for component, position in components.index.items():
        if not isinstance(component, Laplacian) and len(component) == 1:
            jet[position, component[0]] = 1.0
    return jet


def jet_of_function(function: Callable[[Tensor], Tensor], x: Tensor, components: Components) -> Tensor:
    """The jet (C, k, M) of any function (M, d) -> (M, k) whose rows are independent, by nested forward differentiation.

    The way for a user's module, which has no Taylor mode of its own. Differentiable by autograd and by `torch.func` as
    often as ``function`` is.
    """
    known: dict[tuple[int, ...], Callable[[Tensor], Tensor]] = {(): function}

    def derivative(axes: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        if axes not in known:
            inner, axis = derivative(axes[:-1]), axes[-1]

            def outer(y: Tensor) -> Tensor:
                direction = torch.zeros_like(y)
                direction[:, axis] = 1.0
                return torch.func.jvp(inner, (y,), (direction,))[1]

            known[axes] = outer
        return known[axes]

    rows = []
    for component in components:
        if isinstance(component, Laplacian):
            rows.append(torch.stack([derivative((axis, axis))(x) for axis in component.axes]).sum(0))
        else:
            rows.append(derivative(component)(x))
    return torch.stack(rows).mT.contiguous()


def jet_of_fixed_function(function: Callable[[Tensor], Tensor], x: Tensor, components: Components) -> Tensor:
    """The jet (C, k, M), detached, of a function (M, d) -> (M, k) without parameters whose rows are independent.

    For input features and analytic liftings. A derivative along an axis is that of the pull-back, which is linear in
    its cotangents, so that k backward passes are none: a third of the time of nested forward differentiation, whose
    first call also loads torch._dynamo for more than a second. That is the way where a derivative is not finite, as
    behind a `torch.where`, where reverse mode multiplies zero and infinity.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        known = {(): function(x)}

        def derivative(axes: tuple[int, ...]) -> Tensor:
            if axes not in known:
                inner, axis = derivative(axes[:-1]), axes[-1]
                known[axes] = _along(inner, x, axis) if inner.requires_grad else torch.zeros_like(inner)
            return known[axes]

        rows = [
            torch.stack([derivative((axis, axis)) for axis in component.axes]).sum(0)
            if isinstance(component, Laplacian)
            else derivative(component)
            for component in components
        ]
    jet = torch.stack(rows).detach().mT.contiguous()
    return jet if torch.isfinite(jet).all() else jet_of_function(function, x.detach(), components)


def _along(y: Tensor, x: Tensor, axis: int) -> Tensor:
    """∂y/∂x_axis (M, k) of y (M, k), whose rows depend on those of x (M, d)."""
    cotangents = torch.zeros_like(y, requires_grad=True)
    (pulled,) = torch.autograd.grad((y * cotangents).sum(), x, create_graph=True)
    (result,) = torch.autograd.grad(pulled[:, axis].sum(), cotangents, create_graph=True)
    return result
