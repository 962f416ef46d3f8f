"""How a forward sweep touches the parameters of a network: to differentiate them, or to record what they need.

Networks never read their parameters directly in :meth:`Network.forward_jet`; they ask a tape. The plain :class:`Tape`
hands them out. The :class:`Recorder` keeps, for every affine layer, its input and its pre-activation, from which one
reverse pass gives the whole Jacobian ("linearize once, apply often").
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pescitrain.networks.jets import affine, batched_affine


class Tape:
    """Hands out the parameters, so that autograd differentiates through them."""

    def affine(self, layer: nn.Linear, h: Tensor) -> Tensor:
        """``W h + b`` for a jet h (C, in, M)."""
        return affine(h, layer.weight, layer.bias)

    def batched_affine(self, owner: nn.Module, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        """``W_a h_a + b_a`` of A networks of one shape: (A, out, in), (A, out), a jet (C, A, in, P)."""
        return batched_affine(h, weight, bias)

    def parameter(self, parameter: Tensor, samples: int) -> Tensor:
        """A small parameter of shape (k,) that enters elementwise: (k,) here, (k, samples) in a recorder."""
        return parameter


@dataclass(frozen=True)
class AffineRecord:
    """Input (C, in, M) and pre-activation (C, out, M) of one affine layer."""

    layer: nn.Linear
    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class BatchedRecord:
    """Input (C, A, in, P) and pre-activation (C, A, out, P) of one layer of A networks of a module."""

    owner: nn.Module
    inputs: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class ParameterRecord:
    """A small parameter and its copies (k, M), one for each sample."""

    parameter: Tensor
    copies: Tensor


class Recorder(Tape):
    """Keeps what the per-sample derivatives need; the parameters themselves are constants here."""

    def __init__(self) -> None:
        self.affine_records: list[AffineRecord] = []
        self.batched_records: list[BatchedRecord] = []
        self.parameter_records: list[ParameterRecord] = []

    def affine(self, layer: nn.Linear, h: Tensor) -> Tensor:
        bias = None if layer.bias is None else layer.bias.detach()
        z = affine(h, layer.weight.detach(), bias)
        if not z.requires_grad:
            z.requires_grad_()
        self.affine_records.append(AffineRecord(layer, h.detach(), z))
        return z

    def batched_affine(self, owner: nn.Module, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        z = super().batched_affine(owner, weight.detach(), bias.detach(), h)
        if not z.requires_grad:
            z.requires_grad_()
        self.batched_records.append(BatchedRecord(owner, h.detach(), z))
        return z

    def parameter(self, parameter: Tensor, samples: int) -> Tensor:
        copies = parameter.detach().unsqueeze(1).expand(-1, samples).clone().requires_grad_()
        self.parameter_records.append(ParameterRecord(parameter, copies))
        return copies

    def leaves(self) -> list[Tensor]:
        """What to differentiate with respect to: pre-activations first, then the copies."""
        affine, batched = [r.outputs for r in self.affine_records], [r.outputs for r in self.batched_records]
        return affine + batched + [r.copies for r in self.parameter_records]
