"""Which form the Jacobian of a chunk takes: by the kind of its samples, and by what its networks can do."""

from __future__ import annotations

import torch
from torch import Tensor

from pescitrain.evaluation.block_sparse_jacobian import BlockSparseJacobian
from pescitrain.evaluation.chunks import Chunk, DiscreteChunk, DiscreteOperatorChunk, OperatorChunk, TermSamples
from pescitrain.evaluation.discrete_jacobian import DiscreteJacobian, DiscreteOperatorJacobian, of_values
from pescitrain.evaluation.jacobian import ChunkJacobian, FactoredJacobian, FunctionalJacobian
from pescitrain.evaluation.operator_jacobian import OperatorJacobian
from pescitrain.evaluation.residuals import Residuals
from pescitrain.networks.parameters import Parameters
from pescitrain.networks.subdomain import SubdomainJets, SubdomainNetwork
from pescitrain.networks.tape import Recorder, Tape
from pescitrain.problem.discrete import Discrete, DiscreteOperator


def linearize_chunk(
    residuals: Residuals, samples: TermSamples, chunk: Chunk, parameters: Parameters
) -> tuple[ChunkJacobian, Tensor, Tensor]:
    """J, the rows (N, k) and their part of φ () at the θ in the modules; a host's equations are collective."""
    if isinstance(chunk, DiscreteOperatorChunk):
        assert isinstance(samples.term, DiscreteOperator)
        operator = OperatorJacobian(residuals, samples, of_values(chunk, residuals.surrogate), parameters)
        values = residuals.operator_offset(chunk) + operator.outputs()
        jacobian = DiscreteOperatorJacobian(samples.term, chunk, values, operator)
        rows = chunk.scale.unsqueeze(1) * samples.term.rows_of_all(values.unsqueeze(2))
    elif isinstance(chunk, OperatorChunk):
        jacobian = OperatorJacobian(residuals, samples, chunk, parameters)
        rows = jacobian.residual()
    elif isinstance(chunk, DiscreteChunk):
        assert isinstance(samples.term, Discrete)
        recorder = Recorder()
        values = residuals.values_at_nodes(samples, chunk, recorder)
        rows = chunk.scale * samples.term.rows_at(values.detach())
        fields = _of_sweep(values, recorder, residuals, samples, chunk, parameters)
        jacobian = DiscreteJacobian(samples.term, chunk, values, fields, parameters)
    elif residuals.has_taylor_mode(samples) and not _mixed(residuals, samples):
        recorder = Recorder()
        rows, objective = residuals.rows_and_objective(samples, chunk, recorder)
        return _of_sweep(rows, recorder, residuals, samples, chunk, parameters), rows, objective
    else:
        with torch.no_grad():
            rows, objective = residuals.rows_and_objective(samples, chunk, Tape())
        return FunctionalJacobian(residuals, samples, chunk, parameters), rows, objective
    return jacobian, rows, 0.5 * rows.square().sum()


def _of_sweep(
    rows: Tensor, recorder: Recorder, residuals: Residuals, samples: TermSamples, chunk: Chunk, parameters: Parameters
) -> ChunkJacobian:
    """Of rows (N, k) from a sweep that ``recorder`` has recorded; its graph is consumed."""
    jets: dict[SubdomainNetwork, SubdomainJets] = {}
    for name in samples.networks:
        network, jet = residuals.surrogate.networks[name], chunk.embedded[name]
        if isinstance(network, SubdomainNetwork) and isinstance(jet, SubdomainJets):
            jets[network] = jet
    if jets:
        return BlockSparseJacobian.from_sweep(rows, recorder, jets, samples.sides, parameters)
    return FactoredJacobian(rows, recorder, samples.sides, parameters)


def _mixed(residuals: Residuals, samples: TermSamples) -> bool:
    """Whether some but not all networks of a term live in subdomains: neither form of the Jacobian has both."""
    return len({isinstance(residuals.surrogate.networks[name], SubdomainNetwork) for name in samples.networks}) > 1
