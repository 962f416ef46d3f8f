"""From settings to the system that a solver solves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from torch import Tensor, nn

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.algebra.decomposition import PartitionType
from pescitrain.errors import OptionError, ProblemError
from pescitrain.evaluation import Evaluator, SamplingPlan, sample_terms
from pescitrain.evaluation.batches import Batches
from pescitrain.evaluation.metrics import ClassificationMetric, ErrorMetric, OperatorErrorMetric, RegressionMetric
from pescitrain.geometry import Box, Mesh, ReferenceField, Sampling
from pescitrain.networks import (
    MLP,
    FourierFeatures,
    Network,
    PeriodicFeatures,
    ProductNetwork,
    ResNet,
    ScaleToUnitBox,
)
from pescitrain.networks.device import find_device
from pescitrain.networks.fixed_basis import FixedBasis
from pescitrain.networks.network import ExtraFeatures
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import (
    ClassificationProblem,
    Dirichlet,
    Lifting,
    OperatorData,
    OperatorProblem,
    OperatorSurrogate,
    Problem,
    RegressionProblem,
    Surrogate,
)
from pescitrain.problem.field import ByName
from pescitrain.problem.liftings import from_boundary
from pescitrain.problem.operator import BRANCH, TRUNK
from pescitrain.problem.pod import leading_modes
from pescitrain.problem.surrogate import network_outputs
from pescitrain.run.agreement import together
from pescitrain.run.loading import find_file
from pescitrain.run.options import Settings

Array = NDArray[np.float64]
Metric = ErrorMetric | OperatorErrorMetric | ClassificationMetric | RegressionMetric


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
    weights, chunk_size = term_weights(settings), samples_at_a_time(settings)
    machine = mpi_comm.Split_type(MPI.COMM_TYPE_SHARED)
    rank_on_machine = machine.rank
    machine.Free()
    with together(mpi_comm, settings.problem):
        device = find_device(settings.device, rank_on_machine)
        surrogate = create_surrogate(problem, settings, domain, lifting, network).to(device)
        parameters = FlatParameters(surrogate.networks, list(unknowns.items()))
        plan = sampling_plan(settings, isinstance(domain, Mesh))
        samples = sample_terms(problem, surrogate, domain, plan, comm.rank, comm.size, chunk_size, weights)
    evaluator = Evaluator(problem, surrogate, parameters, samples, mpi_comm)
    if settings.sample_batch:
        evaluator.batches = Batches(samples, mpi_comm, settings.sample_batch, settings.seed)
    layout = ParameterLayout(parameters, comm, "even" if settings.part_owner == "even" else "blocks")
    blocks = decompose(parameters.layers, _partition(settings.part_type), settings.part_blocks, settings.part_overlap)
    system = System(evaluator, layout, blocks, bounds_of(problem, parameters))
    metric = error_metric(problem, settings, domain, surrogate, mpi_comm)
    return Setup(problem, domain, surrogate, system, metric, _test_metric(problem, settings, surrogate, mpi_comm))


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


def _test_metric(
    problem: Problem, settings: Settings, surrogate: Surrogate, comm: MPI.Intracomm
) -> OperatorErrorMetric | None:
    """The error on data that are looked at once; None without them. Collective."""
    if not isinstance(problem, OperatorProblem):
        return None
    with together(comm, settings.problem):
        data = problem.test()
        return None if data is None else OperatorErrorMetric(surrogate, data, comm)


def samples_at_a_time(settings: Settings) -> int:
    """``-sample_chunk``, or what fits the cache of a core, or what fills a GPU."""
    return settings.sample_chunk or (1000 if settings.device == "cpu" else 16384)


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


def bounding_box(problem: Problem, domain: Box | Mesh) -> tuple[list[float], list[float]]:
    """Lower and upper corner of the domain."""
    if isinstance(domain, Box):
        return list(domain.lower), list(domain.upper)
    return domain.nodes.min(0).tolist(), domain.nodes.max(0).tolist()


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


def create_surrogate(
    problem: Problem, settings: Settings, domain: Box | Mesh, lifting: Lifting | None, network: int
) -> Surrogate:
    """The surrogate of a problem with new networks, the same on all ranks for a seed."""
    if isinstance(problem, OperatorProblem):
        data = problem.training()
        networks = create_operator_networks(problem, settings, domain, data, network)
        return OperatorSurrogate(problem, networks, data.inputs.shape[1], settings.bc_enforce == "hard")
    if settings.net_trunk != "network":
        raise OptionError(
            f"-net_trunk {settings.net_trunk}: problem {problem.name} learns no operator and has no trunk"
        )
    return Surrogate(problem, create_networks(problem, settings, domain, lifting, network), lifting)


def create_operator_networks(
    problem: OperatorProblem, settings: Settings, domain: Box | Mesh, data: OperatorData, network: int = 0
) -> dict[str, nn.Module]:
    """Branch and trunk with ``-net_basis`` outputs each; the branch sees the inputs as of mean zero and deviation one.

    The trunk is a network, or the leading modes of the outputs.
    """
    generator = torch.Generator().manual_seed(settings.seed + network)
    outputs, inputs = settings.net_basis or settings.net_width, data.inputs
    mean, deviation = inputs.mean(0), inputs.std(0)
    deviation = np.where(deviation > 0.0, deviation, 1.0)
    standard = ScaleToUnitBox((mean - deviation).tolist(), (mean + deviation).tolist())
    fixed = None
    if settings.net_trunk == "pod":
        if settings.bc_enforce == "hard":
            raise OptionError(
                "-net_trunk pod has the conditions of the data that it is made from; use -bc_enforce soft"
            )
        locations, mean, modes = leading_modes(data, outputs)
        fixed, outputs = FixedBasis(locations, mean, modes / problem.scale), modes.shape[1]
    networks: dict[str, nn.Module] = {}
    for name in (BRANCH, TRUNK):
        own = problem.build_network(name) if fixed is None or name == BRANCH else fixed
        if own is None and name == BRANCH and settings.net_products:
            own = _product(problem, settings, standard, outputs, generator)
        elif own is None and name == BRANCH:
            own = _chain(settings, standard, standard.outputs, outputs, generator)
        networks[name] = own or _network(problem, settings, domain, outputs, generator)
        if not isinstance(networks[name], Network):
            raise ProblemError(f"problem {problem.name}: build_network({name!r}) must give a pescitrain Network")
    return networks


def _product(
    problem: OperatorProblem, settings: Settings, standard: ScaleToUnitBox, outputs: int, generator: torch.Generator
) -> ProductNetwork:
    """The branch of ``-net_products``."""
    gains = problem.nonlinear_inputs
    if gains is None or not 0 < gains < standard.outputs:
        raise OptionError(
            f"-net_products {settings.net_products}: problem {problem.name} does not say in which inputs it is linear "
            "(nonlinear_inputs); leave it out"
        )
    sizes = (standard.outputs, outputs, settings.net_width, settings.net_depth, gains, settings.net_products)
    return ProductNetwork(standard, *sizes, settings.net_activation, generator)


def create_networks(
    problem: Problem, settings: Settings, domain: Box | Mesh, lifting: Lifting | None, network: int = 0
) -> dict[str, nn.Module]:
    """One network for each entry of the problem's mapping, the same on all ranks for a seed."""
    generator = torch.Generator().manual_seed(settings.seed + network)
    networks: dict[str, nn.Module] = {}
    for name, fields in problem.networks_of_fields().items():
        own = problem.build_network(name)
        outputs = network_outputs(fields, lifting)
        networks[name] = own if own is not None else _network(problem, settings, domain, outputs, generator)
    return networks


def _network(
    problem: Problem, settings: Settings, domain: Box | Mesh, outputs: int, generator: torch.Generator
) -> Network:
    scaling = ScaleToUnitBox(*bounding_box(problem, domain))
    embedding: ScaleToUnitBox | FourierFeatures | PeriodicFeatures | ExtraFeatures = scaling
    if problem.periodic:
        if len(problem.periodic) > 1 or settings.net_fourier:
            raise OptionError("a periodic coordinate goes with one period and without -net_fourier")
        ((coordinate, period),) = problem.periodic.items()
        axis = list(problem.coordinates).index(coordinate)
        embedding = PeriodicFeatures(scaling, axis, period, settings.net_periodic_modes)
    elif settings.net_fourier:
        embedding = FourierFeatures(scaling, settings.net_fourier, settings.net_fourier_scale, generator)
    if problem.features is not None:
        embedding = ExtraFeatures(embedding, *_features(problem))
    return _chain(settings, embedding, embedding.outputs, outputs, generator)


def _chain(
    settings: Settings, embedding: nn.Module, inputs: int, outputs: int, generator: torch.Generator
) -> MLP | ResNet:
    """What ``-net_type`` names."""
    common = (embedding, inputs, outputs, settings.net_width, settings.net_depth)
    if settings.net_type == "resnet":
        return ResNet(*common, settings.net_activation, settings.net_adaptive_slope, settings.net_final_time, generator)
    return MLP(*common, settings.net_activation, settings.net_adaptive_slope, generator)


def _features(problem: Problem):
    assert problem.features is not None
    by_name = ByName(problem.features, f"the features of problem {problem.name}")

    def features(x: Tensor) -> Tensor:
        values = by_name({name: x[:, axis] for axis, name in enumerate(problem.coordinates)})
        return torch.stack(list(values) if isinstance(values, tuple | list) else [values], dim=-1)

    return features, features(torch.ones(1, len(problem.coordinates), dtype=torch.float64)).shape[1]


def sampling_plan(settings: Settings, on_mesh: bool) -> SamplingPlan:
    """The points that ``-sample_*`` ask for."""
    kind = settings.sample_type
    if kind == "auto":
        kind = "quadrature" if on_mesh else "hammersley"
    if kind == "quadrature" and not on_mesh:
        raise OptionError(
            "-sample_type quadrature needs a mesh; for a box choose hammersley, sobol, halton, uniform, …"
        )
    if kind == "grid" and on_mesh:
        raise OptionError("-sample_type grid needs a box; for a mesh choose quadrature, sobol, halton, uniform, …")
    return SamplingPlan(
        Sampling(settings.sample_points, kind, settings.sample_order),
        Sampling(settings.sample_boundary_points, kind, settings.sample_boundary_order),
        settings.seed,
    )


def numbers_by_name(option: str, words: Sequence[str]) -> dict[str, float]:
    """The value of an option that gives numbers to names, ``a=1,b=2``.

    Raises
    ------
    OptionError
    """
    numbers = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            numbers[name.strip()] = float(text)
        except ValueError:
            raise OptionError(f"-{option} {word}: give a number to a name, as name=1.5") from None
    return numbers


def term_weights(settings: Settings) -> dict[str, float]:
    """What ``-loss_term_weights`` asks for, by label.

    Raises
    ------
    OptionError
    """
    weights = numbers_by_name("loss_term_weights", settings.loss_term_weights)
    for label, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            raise OptionError(f"-loss_term_weights {label}={weight:g}: a weight is a number of 0 or more")
    return weights


def bounds_of(problem: Problem, parameters: FlatParameters) -> tuple[Array, Array] | None:
    """Lower and upper bounds of θ, or None where no unknown has any."""
    if all(np.isinf(u.lower) and np.isinf(u.upper) for u in problem.unknowns.values()):
        return None
    lower, upper = np.full(parameters.size, -np.inf), np.full(parameters.size, np.inf)
    for name, unknown in problem.unknowns.items():
        place = parameters.slice(parameters.unknowns[name])
        lower[place], upper[place] = unknown.lower, unknown.upper
    return lower, upper


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
            columns = list(values) if isinstance(values, tuple | list) else [values]
            reference = np.stack([np.broadcast_to(np.asarray(c), (len(x),)) for c in columns], axis=-1)
    if reference.shape[1] != len(outputs):
        raise ProblemError(f"the reference has {reference.shape[1]} fields, problem {problem.name} has {len(outputs)}")
    return ErrorMetric(surrogate, x, weights, reference, comm)
