"""The residual of one chunk of one term, for the parameters in the modules or for any others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pescitrain.evaluation.chunks import Chunk, DiscreteChunk, DiscreteOperatorChunk, OperatorChunk, TermSamples
from pescitrain.evaluation.samples import gather_known, stack_rows
from pescitrain.networks.components import Component
from pescitrain.networks.jets import jet_of_function, multiply
from pescitrain.networks.network import Network
from pescitrain.networks.tape import Tape
from pescitrain.problem.discrete import Discrete, DiscreteOperator
from pescitrain.problem.field import Coordinates, Field
from pescitrain.problem.operator import BRANCH, TRUNK, OperatorSurrogate, basis_functions
from pescitrain.problem.problem import Problem
from pescitrain.problem.surrogate import Surrogate


class Residuals:
    """The outputs of the terms of a problem, and what they cost; local to this rank.

    Rows are those of the loss of a term (:mod:`~pescitrain.problem.losses`), scaled so that ∇φ = Jᵀr; of squares they
    are the residual, and φ = ½ Σ rows².

    ``first_layers``: network -> the layer where its sweeps begin, for chunks that hold the jets before it.
    """

    def __init__(
        self,
        problem: Problem,
        surrogate: Surrogate,
        unknowns: Mapping[str, nn.Parameter],
        first_layers: Mapping[str, int] | None = None,
    ) -> None:
        self.problem, self.surrogate, self.unknowns = problem, surrogate, unknowns
        self.first_layers = first_layers or {}
        self._coordinates = Coordinates(problem.coordinates)

    def has_taylor_mode(self, samples: TermSamples) -> bool:
        """Whether all networks of a term have a Taylor mode, so that its Jacobian has factors."""
        return all(isinstance(self.surrogate.networks[name], Network) for name in samples.networks)

    def rows(self, samples: TermSamples, chunk: Chunk, tape: Tape) -> Tensor:
        """(N, k) for the parameters in the modules, as ``tape`` hands them out; differentiable."""
        return self.rows_and_objective(samples, chunk, tape)[0]

    def rows_and_objective(self, samples: TermSamples, chunk: Chunk, tape: Tape) -> tuple[Tensor, Tensor]:
        """As :meth:`rows`, and their part of φ (); both are differentiable."""
        loss, outputs = samples.term.loss, self._outputs(samples, chunk, tape)
        rows = loss.rows(outputs, chunk.data) * chunk.scale.unsqueeze(1)
        if loss.quadratic:
            return rows, 0.5 * rows.square().sum()
        return rows, chunk.scale.square() @ loss.values(outputs, chunk.data)

    def _outputs(self, samples: TermSamples, chunk: Chunk, tape: Tape) -> Tensor:
        if isinstance(chunk, DiscreteOperatorChunk):
            assert isinstance(samples.term, DiscreteOperator)
            return samples.term.rows_of_all(self._operator_values(samples, chunk, tape).unsqueeze(2))
        if isinstance(chunk, OperatorChunk):
            assert chunk.data is not None
            return self._operator_sum(samples, chunk, tape) - chunk.data
        if isinstance(chunk, DiscreteChunk):
            assert isinstance(samples.term, Discrete)
            return samples.term.rows_at(self.values_at_nodes(samples, chunk, tape)).unsqueeze(0)
        jets = self._jets(samples, chunk, tape)
        unknowns = {name: _vector(tape.parameter(u, chunk.samples)) for name, u in self.unknowns.items()}
        return self._from_jets(samples, chunk, jets, unknowns)

    def _jets(self, samples: TermSamples, chunk: Chunk, tape: Tape) -> list[Tensor]:
        """Of the outputs of each network that the term uses."""
        jets = []
        for name in samples.networks:
            network = self.surrogate.networks[name]
            if isinstance(network, Network):
                first = self.first_layers.get(name, 0)
                jets.append(network.forward_jet(chunk.embedded[name], samples.components, tape, first))
            else:
                jets.append(jet_of_function(network, chunk.x, samples.components))
        return jets

    def values_at_nodes(self, samples: TermSamples, chunk: DiscreteChunk, tape: Tape) -> Tensor:
        """The fields (K, k) at the nodes of a simulation."""
        return self._lift(samples, chunk, torch.cat(self._jets(samples, chunk, tape), dim=1))[0].t()

    def operator_outputs(self, samples: TermSamples, chunk: OperatorChunk, name: str, tape: Tape) -> Tensor:
        """Of an operator: what its branch gives (N, p), or the functions (K, p) that its trunk gives."""
        network = self.surrogate.networks[name]
        assert isinstance(network, Network)
        first = self.first_layers.get(name, 0)
        outputs = network.forward_jet(chunk.embedded[name], samples.components, tape, first)[0].t()
        return outputs if name == BRANCH else basis_functions(network, outputs, chunk.basis_factor)

    def operator_offset(self, chunk: OperatorChunk) -> Tensor | float:
        """What an operator adds to its sum: a number, or (K,)."""
        assert isinstance(self.surrogate, OperatorSurrogate)
        return self.surrogate.offset_at(chunk.locations)

    def _operator_values(self, samples: TermSamples, chunk: OperatorChunk, tape: Tape) -> Tensor:
        """What an operator maps its inputs to, at the locations: (N, K)."""
        assert isinstance(self.surrogate, OperatorSurrogate)
        return self.operator_offset(chunk) + self.surrogate.scale * self._operator_sum(samples, chunk, tape)

    def _operator_sum(self, samples: TermSamples, chunk: OperatorChunk, tape: Tape) -> Tensor:
        branch, basis = (self.operator_outputs(samples, chunk, name, tape) for name in (BRANCH, TRUNK))
        return branch @ basis.t()

    def rows_of(self, samples: TermSamples, chunk: Chunk, parameters: Mapping[str, Tensor]) -> Tensor:
        """(N, k) as a pure function of parameters by their names in θ, for `torch.func`."""
        jets = []
        for name in samples.networks:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): value for key, value in parameters.items() if key.startswith(prefix)}
            network = self.surrogate.networks[name]

            def call(x: Tensor, network: nn.Module = network, own: dict[str, Tensor] = own) -> Tensor:
                return torch.func.functional_call(network, own, (x,))

            jets.append(jet_of_function(call, chunk.x, samples.components))
        outputs = self._from_jets(samples, chunk, jets, {name: parameters[name] for name in self.unknowns})
        return samples.term.loss.rows(outputs, chunk.data) * chunk.scale.unsqueeze(1)

    def _from_jets(self, samples: TermSamples, chunk: Chunk, jets: list[Tensor], unknowns: dict[str, Tensor]) -> Tensor:
        jet = self._lift(samples, chunk, jets[0] if len(jets) == 1 else torch.cat(jets, dim=1))
        count, index = chunk.samples, samples.components.index

        def lookup(side: int, column: int) -> Callable[[Component], Tensor]:
            return lambda component: jet[index[component], column, side * count : (side + 1) * count]

        normal = None if chunk.normal is None else chunk.normal[:count]
        fields: dict[str, Field] = {}
        for name, column in samples.columns.items():
            other = Field(name, self._coordinates, lookup(1, column), normal) if samples.sides == 2 else None
            fields[name] = Field(name, self._coordinates, lookup(0, column), normal, other)
        known = gather_known(self.problem, chunk.x[:count], fields, unknowns, normal, chunk.data)
        return stack_rows(samples.term, samples.term.residual(known), count)

    def _lift(self, samples: TermSamples, chunk: Chunk, jet: Tensor) -> Tensor:
        """The jet of the fields (C, fields used, M) from the jet of the networks (C, outputs, M)."""
        if chunk.base is None or chunk.factor is None:
            return jet
        fields = chunk.base.shape[1]
        if chunk.factor.shape[1] == fields:
            return chunk.base + multiply(chunk.factor, jet, samples.components)
        mixed = multiply(chunk.factor, jet.repeat(1, fields, 1), samples.components)
        return chunk.base + mixed.unflatten(1, (fields, -1)).sum(2)


def _vector(copies: Tensor) -> Tensor:
    """(1,) stays as it is, (1, N) becomes (N,)."""
    return copies if copies.ndim == 1 else copies[0]
