"""From settings to the system that a solver solves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from torch import Tensor

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.algebra.decomposition import PartitionType
from pescitrain.algebra.least_squares_start import least_squares_start
from pescitrain.errors import OptionError, ProblemError
from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.batches import Batches
from pescitrain.evaluation.couplings import find_couplings
from pescitrain.evaluation.metrics import OperatorErrorMetric
from pescitrain.geometry import Box, Mesh
from pescitrain.networks.device import find_device
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import (
    Dirichlet,
    Lifting,
    OperatorProblem,
    Problem,
    RegressionProblem,
    Surrogate,
)
from pescitrain.problem.field import ByName
from pescitrain.problem.liftings import from_boundary
from pescitrain.run.agreement import together
from pescitrain.run.loading import find_file
from pescitrain.run.metric import Metric, error_metric, test_metric
from pescitrain.run.networks import create_surrogate
from pescitrain.run.options import Settings
from pescitrain.run.sampling import sample

Array = NDArray[np.float64]


@dataclass
class Setup:
    """Everything that a run works on."""

    problem: Problem
    domain: Box | Mesh
    surrogate: Surrogate
    system: System
    metric: Metric | None
    test: OperatorErrorMetric | None = None  # of what is looked at once, at the end

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator of the system."""
        return self.system.evaluator

    def destroy(self) -> None:
        """Collective."""
        self.system.destroy()


def build(problem: Problem, settings: Settings, comm: PETSc.Comm) -> Setup:
    """The system of a problem for these settings. Collective.

    Raises
    ------
    OptionError, MeshError, ProblemError        on all ranks, one sentence
    """
    mpi_comm: MPI.Intracomm = comm.tompi4py()
    domain = create_domain(problem, settings, mpi_comm)
    with together(mpi_comm, settings.problem):
        lifting = create_lifting(problem, settings, domain)
    unknowns = {name: unknown.initial for name, unknown in problem.unknowns.items()}
    return build_in(domain, problem, settings, comm, lifting, unknowns)


def build_in(
    domain: Box | Mesh,
    problem: Problem,
    settings: Settings,
    comm: PETSc.Comm,
    lifting: Lifting | None,
    unknowns: Mapping[str, float],
    network: int = 0,
) -> Setup:
    """As :func:`build`, in a domain, with an ansatz and values of the unknowns that are given. Collective.

    ``network``: 0, 1, … for networks of one run that start differently.
    """
    mpi_comm: MPI.Intracomm = comm.tompi4py()
    machine = mpi_comm.Split_type(MPI.COMM_TYPE_SHARED)
    rank_on_machine = machine.rank
    machine.Free()
    with together(mpi_comm, settings.problem):
        device = find_device(settings.device, rank_on_machine)
        surrogate = create_surrogate(problem, settings, domain, lifting, network).to(device)
        parameters = FlatParameters(surrogate.networks, list(unknowns.items()))
    samples = sample(problem, settings, domain, surrogate, mpi_comm)
    evaluator = Evaluator(problem, surrogate, parameters, samples, mpi_comm)
    if settings.sample_batch:
        evaluator.batches = Batches(samples, mpi_comm, settings.sample_batch, settings.seed)
    layout = ParameterLayout(parameters, comm, "even" if settings.part_owner == "even" else "blocks")
    couplings = find_couplings(surrogate, parameters.layers, samples, mpi_comm)
    blocks = decompose(
        parameters.layers,
        _partition(settings.part_type),
        settings.part_blocks,
        settings.part_overlap,
        None if couplings is None else couplings.neighbours,
    )
    system = System(evaluator, layout, blocks, bounds_of(problem, parameters), couplings)
    if settings.net_start == "least_squares" or (settings.net_start == "auto" and couplings is not None):
        parameters.put(least_squares_start(system))
    metric = error_metric(problem, settings, domain, surrogate, mpi_comm)
    return Setup(problem, domain, surrogate, system, metric, test_metric(problem, settings, surrogate, mpi_comm))


def _partition(name: str) -> PartitionType:
    return "layer" if name == "layer" else "balanced" if name == "balanced" else "network"


def create_domain(problem: Problem, settings: Settings, comm: MPI.Intracomm) -> Box | Mesh:
    """The mesh of ``-mesh`` or of the problem, or the box of the problem. Collective."""
    with together(comm, settings.problem):
        box = problem.domain()
    if box is not None:
        if settings.mesh is not None:
            raise OptionError(f"-mesh {settings.mesh}: problem {problem.name} lives in a box and takes no mesh")
        return box
    name = settings.mesh or problem.mesh
    if name is None:
        raise OptionError(f"problem {problem.name} lives on a mesh: give one by -mesh file.msh")
    mesh = Mesh.read(str(find_file(name, "-mesh")), comm)
    with together(comm, settings.problem):
        problem.on_mesh(mesh)
    if mesh.dimension != len(problem.coordinates):
        raise ProblemError(
            f"-mesh {name} has {mesh.dimension} dimensions, problem {problem.name} has the coordinates "
            f"{', '.join(problem.coordinates)}"
        )
    return mesh


def create_lifting(problem: Problem, settings: Settings, domain: Box | Mesh) -> Lifting | None:
    """The ansatz of ``-bc_enforce hard``: the problem's own, or one from the boundary of the mesh; of a regression its
    scaling."""
    if settings.bc_enforce == "soft" or isinstance(problem, OperatorProblem):
        return problem.scaling() if isinstance(problem, RegressionProblem) else None
    lifting = problem.lifting()
    if lifting is not None:
        return lifting
    if isinstance(domain, Box):
        raise OptionError(f"-bc_enforce hard: problem {problem.name} has no lifting; use -bc_enforce soft")
    if len(problem.fields) != 1:
        raise OptionError("-bc_enforce hard from the mesh's boundary is for one field; give the problem a lifting()")
    pieces, places = [], []
    for term in problem.terms():
        if isinstance(term, Dirichlet):
            names = (term.on,) if isinstance(term.on, str) else tuple(term.on)
            for name in names:
                if domain.is_curved(name):
                    raise OptionError(
                        f"-bc_enforce hard: the boundary '{name}' of {domain.source} is curved, and the distance to "
                        "it is made from straight edges; use -bc_enforce soft, or give the problem a lifting()"
                    )
                vertices = domain.boundary_facets(name)
                vertices = np.where(vertices < 0, vertices[:, :1], vertices)  # a triangle among quadrilaterals
                pieces.append((domain.nodes[vertices], _boundary_value(term, problem)))
            places += names
    if not pieces:
        raise OptionError(f"-bc_enforce hard: problem {problem.name} has no Dirichlet term to make exact")
    return from_boundary(pieces, places)


def _boundary_value(term: Dirichlet, problem: Problem):
    def value(x: Tensor) -> Tensor:
        if not callable(term.value):
            return torch.full_like(x[:, 0], float(term.value))
        known = {name: x[:, axis] for axis, name in enumerate(problem.coordinates)}
        return ByName(term.value, f"the value of term {term.label!r}")(known)

    return value


def bounds_of(problem: Problem, parameters: FlatParameters) -> tuple[Array, Array] | None:
    """Lower and upper bounds of θ, or None where no unknown has any."""
    if all(np.isinf(u.lower) and np.isinf(u.upper) for u in problem.unknowns.values()):
        return None
    lower, upper = np.full(parameters.size, -np.inf), np.full(parameters.size, np.inf)
    for name, unknown in problem.unknowns.items():
        place = parameters.slice(parameters.unknowns[name])
        lower[place], upper[place] = unknown.lower, unknown.upper
    return lower, upper
