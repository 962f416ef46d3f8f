"""How the error of a problem is measured."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import ProblemError
from pescitrain.evaluation.metrics import ClassificationMetric, ErrorMetric, OperatorErrorMetric, RegressionMetric
from pescitrain.geometry import Box, Mesh, ReferenceField
from pescitrain.problem import (
    ClassificationProblem,
    OperatorProblem,
    Problem,
    RegressionProblem,
    Surrogate,
)
from pescitrain.problem.field import ByName
from pescitrain.run.agreement import together
from pescitrain.run.loading import find_file
from pescitrain.run.options import Settings

Array = NDArray[np.float64]


Metric = ErrorMetric | OperatorErrorMetric | ClassificationMetric | RegressionMetric


def error_metric(
    problem: Problem, settings: Settings, domain: Box | Mesh, surrogate: Surrogate, comm: MPI.Intracomm
) -> Metric | None:
    """The error on data that are not trained on, or against a solution; None without either. Collective."""
    if isinstance(problem, OperatorProblem):
        with together(comm, settings.problem):
            data = problem.validation()
            return None if data is None else OperatorErrorMetric(surrogate, data, comm)
    if isinstance(problem, ClassificationProblem):
        with together(comm, settings.problem):
            return ClassificationMetric(surrogate, problem.validation(), comm)
    if isinstance(problem, RegressionProblem):
        with together(comm, settings.problem):
            return RegressionMetric(surrogate, problem.validation(), comm)
    return create_metric(problem, settings, domain, surrogate, comm)


def test_metric(
    problem: Problem, settings: Settings, surrogate: Surrogate, comm: MPI.Intracomm
) -> OperatorErrorMetric | None:
    """The error on data that are looked at once; None without them. Collective."""
    if not isinstance(problem, OperatorProblem):
        return None
    with together(comm, settings.problem):
        data = problem.test()
        return None if data is None else OperatorErrorMetric(surrogate, data, comm)


def evaluation_grid(problem: Problem, box: Box) -> tuple[int, ...]:
    """Points along each coordinate of the grid for errors and pictures."""
    if problem.grid:
        return tuple(problem.grid)
    return {1: (401,), 2: (101, 101), 3: (33, 33, 33)}.get(box.dimension, (7,) * box.dimension)


def create_metric(
    problem: Problem, settings: Settings, domain: Box | Mesh, surrogate: Surrogate, comm: MPI.Intracomm
) -> ErrorMetric | None:
    """The error against the reference: by the lumped mass of a mesh, or the trapezoidal rule in a box. Collective."""
    outputs = surrogate.outputs
    file = settings.ref_file
    if file is None and (settings.mesh is None or settings.mesh == problem.mesh):
        file = problem.reference()
    if file is not None:
        path = str(find_file(file, "-ref_file"))
        mesh = domain if isinstance(domain, Mesh) else None
        field = ReferenceField.read(path, mesh, outputs, comm)
    else:
        field = None
    if field is None and problem.exact is None:
        return None
    if isinstance(domain, Mesh):
        x, weights = domain.nodes, domain.nodal_weights()
    else:
        shape = evaluation_grid(problem, domain)
        x, weights = domain.grid(shape), domain.grid_weights(shape)
    if field is not None:
        reference = field(x)
    else:
        assert problem.exact is not None
        known = {name: x[:, axis] for axis, name in enumerate(problem.coordinates)}
        with together(comm, settings.problem):
            values = ByName(problem.exact, f"the exact solution of problem {problem.name}")(known)
            columns = [np.asarray(c) for c in (values if isinstance(values, tuple | list) else [values])]
            for column in columns:
                if column.shape not in ((), (1,), (len(x),)):
                    raise ProblemError(
                        f"the exact solution of problem {problem.name} must give one number a point ({len(x)},), or a "
                        f"tuple of such; it gave {column.shape}"
                    )
            reference = np.stack([np.broadcast_to(c, (len(x),)) for c in columns], axis=-1)
            lost = np.flatnonzero(~np.isfinite(reference).all(axis=1))
            if len(lost):
                raise ProblemError(
                    f"the exact solution of problem {problem.name} is not finite at {len(lost)} of {len(x)} points, "
                    f"the first of them ({', '.join(f'{c:g}' for c in x[lost[0]])})"
                )
    if reference.shape[1] != len(outputs):
        raise ProblemError(f"the reference has {reference.shape[1]} fields, problem {problem.name} has {len(outputs)}")
    return ErrorMetric(surrogate, x, weights, reference, comm)
