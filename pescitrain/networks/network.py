"""The base of the networks that have a Taylor mode, and how they look at their inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pescitrain.networks.activations import ACTIVATIONS
from pescitrain.networks.components import Components
from pescitrain.networks.jets import activate, jet_of_fixed_function, seed
from pescitrain.networks.tape import Tape


class Network(nn.Module):
    """A network of affine layers and activations, with a plain forward pass and a Taylor mode.

    ``forward(x)``: (M, inputs) -> (M, outputs). ``forward_jet`` does the same for jets of the embedded coordinates.
    A subclass gives ``forward``, :meth:`layer_jet` and :meth:`layers`; a plain `torch.nn.Module` without them works as
    well, more slowly.

    Parameters
    ----------
    embedding : Module      (M, d) -> (M, e), without parameters: scaling of the box, Fourier or periodic features
    activation : str        a key of :data:`~pescitrain.networks.activations.ACTIVATIONS`
    adaptive_slope : bool   one trainable slope a per hidden layer, σ(10 a z) with a = 0.1 at the start
    """

    def __init__(self, embedding: nn.Module, activation: str, adaptive_slope: bool) -> None:
        super().__init__()
        self.embedding = embedding
        self.activation_name, self.activation = activation, ACTIVATIONS[activation]
        self.adaptive_slope = adaptive_slope
        self.trains_output_only = False

    def embed_jet(self, x: Tensor, components: Components) -> Tensor:
        """The jet (C, e, M) of the embedded coordinates x (M, d): constant as long as the points are."""
        if isinstance(self.embedding, ScaleToUnitBox):
            return self.embedding.jet(x, components)
        return jet_of_fixed_function(self.embedding, x, components)

    def forward_jet(
        self, jet: Tensor, components: Components, tape: Tape, first: int = 0, last: int | None = None
    ) -> Tensor:
        """The jet (C, outputs, M) of the network from the jet (C, e, M) of :meth:`embed_jet`.

        Or of its layers ``first`` … ``last`` − 1 alone, from the jet of the layer before.
        """
        for index in range(first, len(self.layers()) if last is None else last):
            jet = self.layer_jet(index, jet, components, tape)
        return jet

    def layer_jet(self, index: int, jet: Tensor, components: Components, tape: Tape) -> Tensor:
        """The jet (C, out, M) after one of :meth:`layers` from the jet (C, in, M) before it."""
        raise NotImplementedError

    def layers(self) -> list[tuple[str, list[str]]]:
        """Feed-forward order: (name of the layer, names of its parameters); every parameter once."""
        raise NotImplementedError

    def output_layer(self) -> nn.Linear | None:
        """The layer whose affine map is the last thing that the network does, or None where there is none."""
        return None

    def output_parts(self) -> dict[str, slice]:
        """Name of a parameter -> which of its numbers, counted in one dimension, the outputs are linear in."""
        layer = self.output_layer()
        known = [] if layer is None else [layer.weight, layer.bias]
        return {name: slice(None) for name, own in self.named_parameters() if any(own is one for one in known)}

    def freeze_hidden(self) -> None:
        """Keep what comes before the output as it is: the outputs are linear in what is left of the parameters.

        Before the parameters become part of θ. Source: extreme learning machines, Huang, Zhu & Siew, Neurocomputing 70
        (2006) 489.
        """
        self.trains_output_only = True
        trained = self.output_parts()
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in trained)

    def frozen(self) -> dict[str, Tensor]:
        """Name -> value of the parameters that :meth:`freeze_hidden` has frozen."""
        if not self.trains_output_only:
            return {}
        trained = self.output_parts()
        return {name: own.detach() for name, own in self.named_parameters() if name not in trained}

    def trained_layers(self) -> list[tuple[str, list[str]]]:
        """Those of :meth:`layers` that are not frozen."""
        frozen = self.frozen()
        kept = [(layer, [name for name in names if name not in frozen]) for layer, names in self.layers()]
        return [(layer, names) for layer, names in kept if names]

    def resized(self, width: int, depth: int) -> Network:
        """A new network of this kind on the same embedding, with ``depth`` hidden layers of ``width`` neurons."""
        raise NotImplementedError

    def new_slope(self) -> nn.Parameter | None:
        """The trainable slope of one hidden layer, or None."""
        return nn.Parameter(torch.full((1,), 0.1, dtype=torch.float64)) if self.adaptive_slope else None

    def _activate(self, z: Tensor, slope: Tensor | None) -> Tensor:
        return self.activation(z if slope is None else 10.0 * slope * z, 0)[0]

    def _activate_jet(self, z: Tensor, slope: Tensor | None, components: Components, tape: Tape) -> Tensor:
        if slope is not None:
            z = 10.0 * tape.parameter(slope, z.shape[2]) * z
        return activate(z, components, self.activation)


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """An affine layer in double precision: Glorot-uniform weights, zero bias (Glorot & Bengio 2010, eq. 16)."""
    with torch.random.fork_rng(devices=()):  # PyTorch's own initial values are not used, nor its generator
        layer = nn.Linear(inputs, outputs, dtype=torch.float64, device="cpu")
    bound = math.sqrt(6.0 / (inputs + outputs))
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.zero_()
    return layer


class ScaleToUnitBox(nn.Module):
    """Maps the box [lower, upper] onto [−1, 1]^d, so that networks see inputs of size one."""

    center: Tensor
    scale: Tensor

    def __init__(self, lower: Sequence[float], upper: Sequence[float]) -> None:
        super().__init__()
        low, high = torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)
        self.register_buffer("center", 0.5 * (low + high))
        self.register_buffer("scale", 2.0 / (high - low))
        self.outputs = len(lower)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) * self.scale

    def jet(self, x: Tensor, components: Components) -> Tensor:
        """(C, d, M) for x (M, d), exactly and without differentiation: the map is affine."""
        jet = seed(x, components) * self.scale.unsqueeze(1)
        jet[0] = self(x).t()
        return jet


class FourierFeatures(nn.Module):
    """[x, sin(2π B x), cos(2π B x)] with B ~ N(0, scale²) fixed at construction (Tancik et al. 2020), after scaling."""

    frequencies: Tensor

    def __init__(self, scaling: ScaleToUnitBox, count: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.scaling = scaling
        frequencies = scale * torch.randn(scaling.outputs, count, dtype=torch.float64, generator=generator)
        self.register_buffer("frequencies", frequencies)
        self.outputs = scaling.outputs + 2 * count

    def forward(self, x: Tensor) -> Tensor:
        y = self.scaling(x)
        phase = 2.0 * math.pi * y @ self.frequencies
        return torch.cat((y, torch.sin(phase), torch.cos(phase)), dim=-1)


class PeriodicFeatures(nn.Module):
    """Replaces one coordinate of period P by sin and cos of 2πk x / P, k = 1…modes: exactly periodic fields."""

    def __init__(self, scaling: ScaleToUnitBox, axis: int, period: float, modes: int) -> None:
        super().__init__()
        self.scaling, self.axis, self.period, self.modes = scaling, axis, period, modes
        self.outputs = scaling.outputs - 1 + 2 * modes

    def forward(self, x: Tensor) -> Tensor:
        y = self.scaling(x)
        others = torch.cat((y[:, : self.axis], y[:, self.axis + 1 :]), dim=-1)
        orders = torch.arange(1, self.modes + 1, dtype=x.dtype, device=x.device)
        phase = (2.0 * math.pi / self.period) * x[:, self.axis : self.axis + 1] * orders
        return torch.cat((torch.sin(phase), torch.cos(phase), others), dim=-1)


class ExtraFeatures(nn.Module):
    """Appends declared features g(x) (M, k) to an embedding: singular or kink functions that a problem names."""

    def __init__(self, embedding: nn.Module, function: Callable[[Tensor], Tensor], count: int) -> None:
        super().__init__()
        self.embedding, self.function = embedding, function
        self.outputs = int(getattr(embedding, "outputs")) + count  # noqa: B009 - modules type attributes as tensors

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.embedding(x), self.function(x)), dim=-1)
