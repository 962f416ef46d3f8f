"""Problems that a host gives: its snapshots to learn from, or its equations to solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mpi4py import MPI

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box, axes_of, box_around
from pescitrain.problem.discrete import Discrete
from pescitrain.problem.operator import OperatorData, OperatorProblem
from pescitrain.problem.problem import Problem
from pescitrain.problem.terms import Term


class GivesOperatorData(Protocol):
    """What :class:`~pescitrain.Snapshots` is to a problem."""

    def data(self) -> OperatorData:
        """What was collected so far. Collective."""
        ...


class SnapshotProblem(OperatorProblem):
    """The map from parameters of a simulation to its field, learnt from snapshots by a branch and a trunk.

    Parameters
    ----------
    training, validation        Snapshots or OperatorData; without a validation no errors are measured
    factor : callable or None   of the coordinates by name, zero where every field is, for ``bc_enforce hard``
    """

    def __init__(
        self,
        training: OperatorData | GivesOperatorData,
        validation: OperatorData | GivesOperatorData | None = None,
        factor: Callable[..., Any] | None = None,
    ) -> None:
        self._training, self._validation = training, validation
        self.coordinates = axes_of(self.training().locations.shape[1])
        if factor is not None:
            self.factor = factor
        self.standardise(self.training())

    def domain(self) -> Box:
        return self.training().box(self.coordinates)

    def training(self) -> OperatorData:
        return _data(self._training)

    def validation(self) -> OperatorData | None:
        return None if self._validation is None else _data(self._validation)


class HostProblem(Problem):
    """The fields of a simulation at its nodes, by a network that is trained on the simulation's own equations.

    Parameters
    ----------
    equations : Discrete        from :func:`~pescitrain.PETScResidual`
    fields : sequence of str    names of the values at a node; None: u, or u_0, u_1, …
    terms : sequence of Term    further ones

    Raises
    ------
    ProblemError                numbers of fields that do not fit
    """

    def __init__(self, equations: Discrete, fields: Sequence[str] | None = None, terms: Sequence[Term] = ()) -> None:
        self._equations, self._further = equations, list(terms)
        host = equations.equations
        nodes, dimension = host.locations.shape
        comm = host.comm
        count = comm.allreduce(host.rows // nodes if nodes else 0, MPI.MAX)
        self.fields = tuple(fields or (("u",) if count == 1 else tuple(f"u_{k}" for k in range(count))))
        if len(self.fields) != count:
            raise ProblemError(f"HostProblem: {len(self.fields)} names of fields, {count} values at each node")
        self.coordinates = axes_of(dimension)
        self._box = box_around(self.coordinates, host.locations, comm)

    def domain(self) -> Box:
        return self._box

    def terms(self) -> Sequence[Term]:
        return [self._equations, *self._further]


def _data(source: OperatorData | GivesOperatorData) -> OperatorData:
    return source if isinstance(source, OperatorData) else source.data()
