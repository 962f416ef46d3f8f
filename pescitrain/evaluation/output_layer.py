"""The output layer of the branch of an operator, in which the residual is linear, by least squares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from pescitrain.evaluation.chunks import OperatorChunk, TermSamples
from pescitrain.evaluation.residuals import Residuals
from pescitrain.networks.device import on_host
from pescitrain.networks.network import Network
from pescitrain.networks.parameters import Entry, Parameters
from pescitrain.networks.tape import Recorder, Tape
from pescitrain.problem.operator import BRANCH, TRUNK, Operator

Array = NDArray[np.float64]

RIDGE = 1e-8
"""Of the least squares, relative to the largest eigenvalue: directions that the data leave open stay as they are."""


class OutputLayer:
    """V (h, p), bias included, that minimises ‖w (H V Tᵀ − s)‖².

    H (N, h) are the inputs of the layer, T (K, p) the functions that the trunk gives. The change of V solves the normal
    equations (Hᵀw²H) δV (TᵀT) = Hᵀ w² (s − H V Tᵀ) T, with a ridge, by the eigenvectors of two small matrices. Made by
    :meth:`find`.

    Source: variable projection, Golub & Pereyra, Inverse Problems 19 (2003) R1–R26.
    """

    def __init__(self, residuals: Residuals, samples: TermSamples, weight: Entry, bias: Entry | None) -> None:
        self._residuals, self._samples, self._weight, self._bias = residuals, samples, weight, bias
        self._outputs, inputs = weight.parameter.shape
        self._inputs = inputs + (bias is not None)

    @classmethod
    def find(cls, residuals: Residuals, samples: Sequence[TermSamples], parameters: Parameters) -> OutputLayer | None:
        """None where the data are not those of one operator, or the layer is not trained or not affine."""
        if len(samples) != 1 or not isinstance(samples[0].term, Operator):
            return None
        network = residuals.surrogate.networks[BRANCH]
        layer = network.output_layer() if isinstance(network, Network) else None
        weight = None if layer is None else parameters.find(layer.weight)
        if layer is None or weight is None:
            return None
        return cls(residuals, samples[0], weight, None if layer.bias is None else parameters.find(layer.bias))

    @property
    def numbers(self) -> int:
        """How many :meth:`add` makes: Hᵀw²H, Hᵀw²s T, TᵀT and N, as many times as ranks have it."""
        return self._inputs * (self._inputs + self._outputs) + self._outputs**2 + 1

    def add(self, buffer: Array) -> None:
        """The sums over this rank's samples, of the parameters in the modules. Not collective."""
        total = self._samples.count
        for chunk in self._samples.chunks:
            assert isinstance(chunk, OperatorChunk)
            assert chunk.data is not None
            inputs, basis = self._factors(chunk)
            weighted = chunk.scale.unsqueeze(1) * inputs
            right = (chunk.scale.unsqueeze(1) * weighted).t() @ (chunk.data @ basis)
            share = chunk.samples / total  # every chunk of a rank has the same functions T
            parts = (weighted.t() @ weighted, right, share * (basis.t() @ basis), right.new_full((1,), chunk.samples))
            buffer += on_host(torch.cat([part.reshape(-1) for part in parts]))

    def _factors(self, chunk: OperatorChunk) -> tuple[Tensor, Tensor]:
        """H (N, h) and T (K, p)."""
        recorder = Recorder()
        with torch.no_grad():
            self._residuals.operator_outputs(self._samples, chunk, BRANCH, recorder)
            inputs = recorder.affine_records[-1].inputs[0].t()
            if self._bias is not None:
                inputs = torch.cat((inputs, torch.ones_like(inputs[:, :1])), dim=1)
            return inputs, self._residuals.operator_outputs(self._samples, chunk, TRUNK, Tape())

    def solve(self, sums: Array, theta: Array) -> Array:
        """θ (n,) with the layer solved for, from the sums over all ranks."""
        h, p = self._inputs, self._outputs
        gram, right, functions, count = np.split(sums, np.cumsum((h * h, h * p, p * p)))
        gram = gram * (self._samples.count / count)  # where ranks share locations, each has all functions
        gram, right, functions = gram.reshape(h, h), right.reshape(h, p), functions.reshape(p, p)
        weight = slice(self._weight.start, self._weight.stop)
        bias = None if self._bias is None else slice(self._bias.start, self._bias.stop)
        now = theta[weight].reshape(p, -1).T
        if bias is not None:
            now = np.vstack((now, theta[bias]))
        (a, of_inputs), (b, of_outputs) = eigh(gram), eigh(functions)
        products = np.outer(np.maximum(a, 0.0), np.maximum(b, 0.0))
        change = of_inputs.T @ (right - gram @ now @ functions) @ of_outputs
        new = now + of_inputs @ (change / (products + RIDGE * products.max() + np.finfo(float).tiny)) @ of_outputs.T
        result = theta.copy()
        result[weight] = (new if bias is None else new[:-1]).T.ravel()
        if bias is not None:
            result[bias] = new[-1]
        return result
