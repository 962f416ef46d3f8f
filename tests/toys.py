"""Tiny problems for the tests of the numerical core, and their residual written once more with plain `torch.func`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.spatial import Delaunay
from torch import Tensor, nn

from pescitrain.algebra import Block, ParameterLayout, System, decompose
from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.chunks import TermSamples
from pescitrain.evaluation.refresh import Samples
from pescitrain.evaluation.samples import SamplingPlan, sample_terms
from pescitrain.geometry import Box, PointSet, Sampling
from pescitrain.networks import (
    MLP,
    FourierFeatures,
    Laplacian,
    Network,
    PeriodicFeatures,
    ResNet,
    ScaleToUnitBox,
    SubdomainNetwork,
)
from pescitrain.networks.bisection_windows import BisectionWindows
from pescitrain.networks.components import Component
from pescitrain.networks.device import HOST
from pescitrain.networks.parameters import FlatParameters
from pescitrain.networks.windows import BoxWindows, Levels
from pescitrain.problem import (
    Classes,
    Data,
    Dirichlet,
    Initial,
    Lifting,
    Neumann,
    Periodic,
    Problem,
    Quantities,
    Residual,
    Robin,
    Surrogate,
)
from pescitrain.problem.field import Coordinates, Field, Normal
from pescitrain.problem.problem import Unknown
from pescitrain.problem.surrogate import network_outputs
from pescitrain.problem.terms import Term

Array = NDArray[np.float64]

with warnings.catch_warnings():
    # The first forward derivative of a process loads torch's TorchScript, which warns that it is deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


class Opaque(nn.Module):
    """A network whose Taylor mode is hidden: what a user's own module looks like."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Toy(Problem):
    """A problem from its parts, so that a test shows all it depends on."""

    def __init__(
        self,
        terms: Sequence[Term],
        coordinates: Sequence[str] = ("x", "y"),
        fields: Sequence[str] = ("u",),
        unknowns: dict[str, Unknown] | None = None,
        networks: dict[str, Sequence[str]] | None = None,
        lifting: Lifting | None = None,
    ) -> None:
        self.coordinates, self.fields = coordinates, fields  # type: ignore[misc]
        self.unknowns, self.networks = unknowns or {}, networks or {}  # type: ignore[misc]
        self._terms, self._lifting = terms, lifting

    def domain(self) -> Box:
        lower = [0.0 if name == "t" else -1.0 for name in self.coordinates]
        return Box(self.coordinates, lower, [1.0] * len(lower))

    def terms(self) -> Sequence[Term]:
        return self._terms

    def lifting(self) -> Lifting | None:
        return self._lifting


# ----------------------------------------------------------------------------------------------------------- networks

Maker = Callable[[Box, int, int], nn.Module]
"""``(domain, outputs, seed) -> network``."""


def scaling(domain: Box) -> ScaleToUnitBox:
    return ScaleToUnitBox(domain.lower, domain.upper)


def mlp(width: int = 4, depth: int = 2, activation: str = "tanh", adaptive_slope: bool = False) -> Maker:
    def make(domain: Box, outputs: int, seed: int) -> MLP:
        generator = torch.Generator().manual_seed(seed)
        return MLP(
            scaling(domain), domain.dimension, outputs, width, depth, activation, adaptive_slope, generator=generator
        )

    return make


def resnet(width: int = 4, depth: int = 3, activation: str = "tanh", adaptive_slope: bool = False) -> Maker:
    def make(domain: Box, outputs: int, seed: int) -> ResNet:
        generator = torch.Generator().manual_seed(seed)
        return ResNet(
            scaling(domain),
            domain.dimension,
            outputs,
            width,
            depth,
            activation,
            adaptive_slope,
            final_time=1.5,
            generator=generator,
        )

    return make


def fourier(domain: Box, outputs: int, seed: int) -> MLP:
    generator = torch.Generator().manual_seed(seed)
    embedding = FourierFeatures(scaling(domain), 2, 0.3, generator)
    return MLP(embedding, embedding.outputs, outputs, 4, 1, generator=generator)


def periodic(domain: Box, outputs: int, seed: int) -> MLP:
    embedding = PeriodicFeatures(scaling(domain), 0, 2.0, 2)
    return MLP(embedding, embedding.outputs, outputs, 3, 2, "sin", generator=torch.Generator().manual_seed(seed))


def subdomains(shapes: Sequence[tuple[int, ...]] = ((3, 2),), overlap: float = 0.4, width: int = 3) -> Maker:
    def make(domain: Box, outputs: int, seed: int) -> SubdomainNetwork:
        levels = [BoxWindows(domain.lower, domain.upper, shape, overlap) for shape in shapes]
        windows = levels[0] if len(levels) == 1 else Levels(levels)
        return SubdomainNetwork(windows, outputs, width, 1, generator=torch.Generator().manual_seed(seed))

    return make


def frozen(make: Maker) -> Maker:
    """With hidden layers that are not trained."""

    def made(domain: Box, outputs: int, seed: int) -> nn.Module:
        network = make(domain, outputs, seed)
        assert isinstance(network, Network)
        network.freeze_hidden()
        return network

    return made


def parts(sizes: Sequence[int] = (5,), overlap: float = 0.4) -> Maker:
    """Of a mesh of triangles in the domain, which are small near one corner."""

    def make(domain: Box, outputs: int, seed: int) -> SubdomainNetwork:
        x, y = np.meshgrid(np.linspace(0.0, 1.0, 6) ** 2, np.linspace(0.0, 1.0, 6) ** 2)
        lower, upper = np.array(domain.lower), np.array(domain.upper)
        nodes = lower + np.stack([x.ravel(), y.ravel()], axis=1) * (upper - lower)
        cells = [Delaunay(nodes).simplices.astype(np.int64)]
        levels = [BisectionWindows(nodes, cells, size, overlap) for size in sizes]
        windows = levels[0] if len(levels) == 1 else Levels(levels)
        return SubdomainNetwork(windows, outputs, 3, 1, generator=torch.Generator().manual_seed(seed))

    return make


def opaque(make: Maker) -> Maker:
    return lambda domain, outputs, seed: Opaque(make(domain, outputs, seed))


# ---------------------------------------------------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """A problem and the networks for it; ``build`` gives a new evaluator."""

    problem: Callable[[], Toy]
    network: Maker = field(default_factory=mlp)

    def build(
        self,
        comm: MPI.Intracomm = MPI.COMM_SELF,
        chunk_size: int = 100,
        interior: int = 9,
        boundary: int = 5,
        wrap: Callable[[Maker], Maker] = lambda make: make,
        device: torch.device = HOST,
    ) -> Evaluator:
        problem = self.problem()
        domain, make = problem.domain(), wrap(self.network)
        lifting = problem.lifting()
        networks = {
            name: make(domain, network_outputs(fields, lifting), 3 + i)
            for i, (name, fields) in enumerate(problem.networks_of_fields().items())
        }
        surrogate = Surrogate(problem, networks, lifting).to(device)
        unknowns = [(name, unknown.initial) for name, unknown in problem.unknowns.items()]
        parameters = FlatParameters(surrogate.networks, unknowns)
        # Biases start at zero, where derivatives of odd activations vanish and would hide errors.
        random = np.random.default_rng(5).standard_normal(parameters.size)
        parameters.put(parameters.current() + 0.1 * random)
        plan = SamplingPlan(Sampling(interior, "hammersley"), Sampling(boundary, "hammersley"), 0)
        samples = sample_terms(problem, surrogate, domain, plan, comm, chunk_size)
        return Evaluator(problem, surrogate, parameters, samples, comm)


def _poisson() -> Toy:
    return Toy(
        [
            Residual(lambda u, x, y: u.laplacian + u * u.x - torch.sin(x * y), weight=2.0),
            Dirichlet(lambda y: y**2, on="x_min", weight=3.0),
            Neumann(lambda u, y: u * y, on="x_max", coefficient=2.0),
            Robin(0.5, lambda x: x, on=("y_min", "y_max"), coefficient=lambda u: 1 + u * u),
        ]
    )


def _two_terms() -> Toy:
    return Toy(
        [
            Residual(lambda u, x, y: u.laplacian + u * u.x - torch.sin(x * y), weight=2.0),
            Dirichlet(lambda y: y**2, on="x_min", weight=3.0),
        ]
    )


def _two_rows(networks: dict[str, Sequence[str]] | None = None) -> Toy:
    return Toy(
        [
            Residual(lambda u, v, x: (u.xx + v.y * u - x, u.xy * v - v.laplacian)),
            Dirichlet(1.0, "v", on="x_min", weight=0.3),
        ],
        fields=("u", "v"),
        networks=networks,
    )


def _wave() -> Toy:
    return Toy(
        [
            Residual(lambda u, x: u.tt - u.xx + u**3 * x),
            Initial(lambda x: torch.sin(x), rate=lambda x: x),
            Periodic(on=("x_min", "x_max")),
        ],
        coordinates=("x", "t"),
    )


def _beam() -> Toy:
    return Toy([Residual(lambda u, x: u.xxxx * u - u.xxx * u.x + x), Dirichlet(0.0, on="boundary")], coordinates=("x",))


def _inverse() -> Toy:
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (6, 2))
    return Toy(
        [
            Residual(lambda u, nu, k, x: u.t - nu * u.xx + k * k * u * x, weight=0.7),
            Data(points * [1.0, 0.5] + [0.0, 0.5], np.sin(points.sum(1)), weight=5.0),
            Residual(lambda u, nu: nu * u.n, on="x_max", boundary=True, name="flux"),
        ],
        coordinates=("x", "t"),
        unknowns={"nu": Unknown(0.3, 0.0, 1.0), "k": Unknown(1.5)},
    )


def _lifted() -> Toy:
    lifting = Lifting(lambda x, y: torch.cos(x + y), lambda x, y: (1 - x * x) * torch.exp(0.3 * y), ("x_min", "x_max"))
    return Toy(
        [
            Residual(lambda u, x: u.laplacian + u.xy * u - x),
            Dirichlet(lambda x, y: torch.cos(x + y), on=("x_min", "x_max")),
            Neumann(0.0, on="y_min"),
        ],
        lifting=lifting,
    )


def _mixed_outputs() -> Toy:
    """Two fields from three outputs."""
    lifting = Lifting(
        lambda x: (x, 0.0), lambda x, y: ((1 - x * x, y, 0.5), (0.0, x * y, 1 - x)), ("x_min",), outputs=3
    )
    return Toy([Residual(lambda u, v, y: (u.xx + v.y, v.laplacian * u - y))], fields=("u", "v"), lifting=lifting)


def _second_field_only() -> Toy:
    """A lifting of two fields, of which the first term needs the second one alone."""
    lifting = Lifting(lambda x, y: (x, y), lambda x, y: (1 - x * x, 1 + y * y), ())
    return Toy(
        [Residual(lambda v, x: v.xx - x, name="second"), Residual(lambda u, v: u.y * v)],
        fields=("u", "v"),
        networks={"first": ("u",), "second": ("v",)},
        lifting=lifting,
    )


def _one_point() -> Toy:
    return Toy([Data(np.array([[0.3, -0.4]]), np.array([0.7]))])


def _classes() -> Toy:
    random = np.random.default_rng(2)
    points = random.uniform(-1.0, 1.0, (11, 2))
    return Toy([Classes(points, random.integers(0, 3, 11), weight=2.0)], fields=("a", "b", "c"))


def _quantities() -> Toy:
    random = np.random.default_rng(3)
    points, values = random.uniform(-1.0, 1.0, (11, 2)), random.standard_normal((11, 3)) * [1.0, 10.0, 0.1]
    scaling = Lifting(lambda: [1.0, -2.0, 0.3], lambda: [1.0, 10.0, 0.1], ())
    term = Quantities(points, values, units=[1.0, 10.0, 0.1], weight=2.0)
    return Toy([term], fields=("a", "b", "c"), lifting=scaling)


CASES = {
    "poisson": Case(_poisson),
    "poisson, gelu": Case(_poisson, mlp(activation="gelu")),
    "poisson, adaptive slopes": Case(_poisson, mlp(adaptive_slope=True)),
    "poisson, residual network": Case(_poisson, resnet(adaptive_slope=True)),
    "poisson, Fourier features": Case(_poisson, fourier),
    "poisson, affine network": Case(_poisson, mlp(depth=0)),
    "two rows": Case(_two_rows),
    "two networks": Case(lambda: _two_rows({"first": ("u",), "second": ("v",)}), mlp(adaptive_slope=True)),
    "wave, periodic term": Case(_wave, mlp(adaptive_slope=True)),
    "wave, periodic features": Case(_wave, periodic),
    "beam of order four": Case(_beam),
    "inverse": Case(_inverse),
    "lifted": Case(_lifted),
    "mixed outputs": Case(_mixed_outputs),
    "second field only": Case(_second_field_only),
    "data at one point": Case(_one_point),
    "classes": Case(_classes),
    "quantities": Case(_quantities),
    "subdomains": Case(_poisson, subdomains()),
    "subdomains, two levels": Case(
        lambda: _two_rows({"first": ("u",), "second": ("v",)}), subdomains(((1, 1), (2, 2)))
    ),
    "subdomains, periodic term": Case(_wave, subdomains(((3, 2),))),
    "subdomains, inverse": Case(_inverse, subdomains(((2, 2),))),
    "subdomains in parts of a mesh": Case(_two_rows, parts((1, 5))),
}

TWO_TERMS = Case(_two_terms)
"""For tests of methods, which see φ and not the terms that it is a sum of: an evaluation costs half of "poisson"."""

RANDOM_FEATURES = {
    "output layer": Case(_poisson, frozen(mlp(adaptive_slope=True))),
    "output layers of two networks": Case(
        lambda: _two_rows({"first": ("u",), "second": ("v",)}), frozen(resnet(adaptive_slope=True))
    ),
    "subdomains, output layers": Case(_poisson, frozen(subdomains())),
    "subdomains, output layers of two levels": Case(_inverse, frozen(subdomains(((1, 1), (2, 2))))),
    "subdomains, output layers, periodic term": Case(_wave, frozen(subdomains())),
}
"""Where the output layers alone are trained."""


# ------------------------------------------------------------------------------------------- the residual, once more


def derivative(function: Callable[[Tensor], Tensor], component: Component) -> Callable[[Tensor], Tensor]:
    """A derivative of a function (d,) -> (k,) of one point, by nested reverse mode."""
    if isinstance(component, Laplacian):
        parts = [derivative(function, (axis, axis)) for axis in component.axes]
        return lambda x: sum((part(x) for part in parts), torch.zeros(()))
    for axis in component:
        function = _partial(function, axis)
    return function


def _partial(function: Callable[[Tensor], Tensor], axis: int) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.func.jacrev(function)(x)[..., axis]


def residual_by_torch(evaluator: Evaluator, theta: Tensor) -> Tensor:
    """All rows (m,) of a serial evaluator: no jets, no chunks, no tapes; to be differentiated by `torch.func`."""
    problem, surrogate = evaluator.problem, evaluator.surrogate
    values = {e.name: theta[e.start : e.stop].view(e.parameter.shape) for e in evaluator.parameters.entries}
    coordinates = Coordinates(problem.coordinates)

    def fields_at(point: Tensor) -> Tensor:
        outputs = []
        for name, network in surrogate.networks.items():
            own = {k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(f"{name}.")}
            outputs.append(torch.func.functional_call(network, own, (point[None],)))
        joined = torch.cat(outputs, dim=-1)
        return (joined if surrogate.lifting is None else surrogate.lifting(point[None], joined))[0]

    rows = []
    for samples in evaluator.samples:
        x = torch.from_numpy(samples.points.x)
        normal = None if samples.points.normals is None else torch.from_numpy(samples.points.normals)

        def lookup(points: Tensor, column: int) -> Callable[[Component], Tensor]:
            return lambda component: torch.func.vmap(derivative(fields_at, component))(points)[:, column]

        known: dict = {name: x[:, axis] for axis, name in enumerate(problem.coordinates)}
        fields = {}
        for column, name in enumerate(surrogate.field_names):
            other = None
            if samples.partners is not None:
                other = Field(name, coordinates, lookup(torch.from_numpy(samples.partners), column), normal)
            fields[name] = Field(name, coordinates, lookup(x, column), normal, other)
        known |= fields | {name: values[name] for name in problem.unknowns} | {"__fields__": fields}
        if normal is not None:
            known["n"] = Normal(coordinates, normal)
        if isinstance(samples.term, Data):
            known["__data__"] = torch.from_numpy(samples.term.data)
        given = samples.term.residual(known)
        parts = given if isinstance(given, tuple | list) else [given]
        share = torch.from_numpy(samples.points.weights / samples.points.weights.sum())
        scale = (samples.term.weight * share).sqrt()
        outputs = samples.term.loss.rows(torch.stack(list(parts), dim=1), known.get("__data__"))
        rows.append((outputs * scale[:, None]).reshape(-1))
    return torch.cat(rows)


def jacobian_by_torch(evaluator: Evaluator, theta: Array) -> Array:
    """The whole J (m, n) of a serial evaluator."""
    return torch.func.jacrev(lambda t: residual_by_torch(evaluator, t))(torch.from_numpy(theta)).numpy()


def gather_points(samples: TermSamples, comm: MPI.Intracomm) -> tuple[PointSet, Array | None]:
    """All points of a term and the multipliers of all, on every rank. Collective."""

    def gathered(rows: Any) -> Any:
        return None if rows is None else np.concatenate(comm.allgather(rows))

    points = samples.points
    parts = (gathered(rows) for rows in (points.x, points.weights, points.normals, points.cells))
    return PointSet(*parts), gathered(samples.multipliers)


def points_of(evaluator: Evaluator, term: int = 0) -> PointSet:
    """All points of a term, on every rank. Collective."""
    return gather_points(evaluator.samples[term], evaluator.comm)[0]


def start(evaluator: Evaluator) -> Array:
    """A copy of θ as the evaluator was built."""
    return evaluator.parameters.current()


def samples_of(evaluator: Evaluator, seed: int = 0, chunk_size: int = 50, interior: int = 9) -> Samples:
    """The samples of an evaluator as what refreshes sees them."""
    plan = SamplingPlan(Sampling(interior, "hammersley"), Sampling(5, "hammersley"), seed)
    domain = evaluator.problem.domain()
    assert domain is not None
    return Samples(evaluator, domain, plan, chunk_size)


def random_vector(size: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(size)


# ------------------------------------------------------------------------------------------------ with PETSc around it


@dataclass
class Setting:
    """An evaluator over the ranks of ``comm``, and a serial one of the same problem on this rank alone."""

    evaluator: Evaluator
    serial: Evaluator
    layout: ParameterLayout
    blocks: list[Block]
    theta: Array

    def dense_gauss_newton(self) -> Array:
        """JᵀJ (n, n) from the serial evaluator, by `torch.func`."""
        jacobian = jacobian_by_torch(self.serial, self.theta)
        return jacobian.T @ jacobian


def setting(
    comm: MPI.Intracomm,
    name: str = "two rows",
    ownership: str = "blocks",
    blocks: int | None = None,
    overlap: int = 0,
) -> Setting:
    evaluator, serial = CASES[name].build(comm), CASES[name].build()
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm), ownership)  # type: ignore[arg-type]
    return Setting(evaluator, serial, layout, decompose(layout.layers, "layer", blocks, overlap), start(evaluator))


def system_of(evaluator: Evaluator, blocks: int | None = None, overlap: int = 0) -> System:
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(evaluator.comm))
    return System(evaluator, layout, decompose(layout.layers, "layer", blocks, overlap), None)


# ------------------------------------------------------------------------------------------------ a known minimum


def _linear() -> Toy:
    """Linear least squares: two affine networks and a coefficient, with a residual that cannot vanish."""
    points = np.random.default_rng(3).uniform(-1.0, 1.0, (8, 2))
    return Toy(
        [
            Residual(lambda u, v, k, x, y: (u.x + 0.5 * v - x * y, v.y - u + k + y), weight=2.0),
            Data(points, np.cos(points.sum(1)), field="u"),
            Dirichlet(lambda y: y, field="v", on="x_min"),
        ],
        fields=("u", "v"),
        unknowns={"k": Unknown(0.2)},
        networks={"first": ("u",), "second": ("v",)},
    )


LINEAR = Case(_linear, mlp(depth=0))


@cache
def least_squares_minimum() -> Array:
    """θ* of LINEAR."""
    evaluator = LINEAR.build()
    theta = start(evaluator)
    jacobian = jacobian_by_torch(evaluator, theta)
    best = theta - np.linalg.lstsq(jacobian, evaluator.residual(theta), rcond=None)[0]
    best.setflags(write=False)  # of all tests
    return best


def sentence_of(error: BaseException) -> str:
    """What is behind an error that came through PETSc."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)
