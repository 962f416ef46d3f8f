"""The points of every term, and what is constant on them: this rank's share, cut into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.evaluation.chunks import Chunk, DiscreteChunk, DiscreteOperatorChunk, OperatorChunk, TermSamples
from pescitrain.evaluation.shares import draw_share, order_by_subdomain
from pescitrain.geometry import Box, Domain, PointSequence, PointSet, Sampling
from pescitrain.networks.components import VALUE, Component, Components
from pescitrain.networks.device import at_home, device_of, on_device
from pescitrain.networks.jets import jet_of_fixed_function
from pescitrain.networks.network import Network
from pescitrain.problem.discrete import Discrete, DiscreteOperator
from pescitrain.problem.field import Coordinates, Field, Normal
from pescitrain.problem.operator import BRANCH, TRUNK, Operator, OperatorSurrogate
from pescitrain.problem.problem import Problem
from pescitrain.problem.surrogate import Surrogate
from pescitrain.problem.terms import Data, Periodic, Term


@dataclass(frozen=True)
class SamplingPlan:
    """How many points of which kind, and the seed that fixes them for any number of ranks."""

    interior: Sampling
    boundary: Sampling
    seed: int


def weighted_terms(problem: Problem, weights: Mapping[str, float]) -> list[Term]:
    """The terms of a problem, with the weights that are given by label in place of their own.

    Raises
    ------
    ProblemError        a label that no term has, or no list of terms
    """
    given: Any = problem.terms()  # of a user's function
    terms: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    if not isinstance(given, Iterable) or not all(isinstance(term, Term) for term in terms):
        kinds = ", ".join(type(term).__name__ for term in terms)
        raise ProblemError(f"problem {problem.name}: terms() must return a list of terms; it returned {kinds}")
    labels = [term.label for term in terms]
    for label, weight in weights.items():
        if label not in labels:
            near = get_close_matches(label, labels, n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (there are {', '.join(labels)})"
            raise ProblemError(f"problem {problem.name} has no term {label}{hint}")
        terms[labels.index(label)].weight = weight
    return terms


def sequence_of_points(term: Term, domain: Domain, plan: SamplingPlan) -> PointSequence:
    """The points of a term, to be drawn in parts; those of data are at hand. Not collective."""
    if isinstance(term, Operator):
        count = len(term.data)
        return PointSequence.of(PointSet(term.data.inputs, np.ones(count) / count))
    if isinstance(term, DiscreteOperator):
        return PointSequence.of(PointSet(term.inputs, np.full(len(term.inputs), 1.0 / len(term.inputs))))
    if isinstance(term, Discrete):
        return PointSequence.of(PointSet(np.zeros((1, domain.dimension)), np.ones(1)))
    if isinstance(term, Data):
        if term.coordinates.shape[1] != domain.dimension:
            raise ProblemError(
                f"term {term.label!r}: its points have {term.coordinates.shape[1]} coordinates, the domain has "
                f"{domain.dimension}"
            )
        weights = np.ones(len(term.coordinates)) / len(term.coordinates)
        return PointSequence.of(PointSet(term.coordinates, weights))
    sampling = plan.interior if term.place == "interior" else plan.boundary
    if term.points is not None:
        kind = "hammersley" if sampling.kind == "quadrature" else sampling.kind
        sampling = replace(sampling, count=term.points, kind=kind)
    if isinstance(term, Periodic):
        return domain.boundary_sequence(term.on[0], sampling, plan.seed)
    of_place = domain.interior_sequence if term.place == "interior" else domain.boundary_sequence
    return of_place(term.on, sampling, plan.seed)


def _shift(term: Term, domain: Domain) -> NDArray[np.float64] | None:
    """The vector from the points of a periodic term to their partners."""
    if not isinstance(term, Periodic):
        return None
    return _translation(term, domain) if term.shift is None else np.asarray(term.shift, dtype=np.float64)


def _translation(term: Periodic, domain: Domain) -> NDArray[np.float64]:
    """The vector from the centre of the first boundary to that of the second."""
    probe = Sampling(count=256, kind="grid") if isinstance(domain, Box) else Sampling(kind="quadrature", order=1)
    first, second = (domain.boundary(place, probe) for place in term.on)
    if not np.isclose(first.measure, second.measure, rtol=1e-6):
        raise ProblemError(f"term {term.label!r}: {term.on[0]!r} and {term.on[1]!r} are not translates of each other")
    centres = [(points.weights[:, None] * points.x).sum(0) / points.measure for points in (first, second)]
    return centres[1] - centres[0]


class _Trace:
    """Runs a residual on a few points to learn which derivatives of which fields it asks for."""

    def __init__(self, problem: Problem, term: Term, surrogate: Surrogate) -> None:
        self.problem, self.term, self.surrogate = problem, term, surrogate
        self.wanted: dict[str, dict[Component, None]] = {}

    def rows(self, x: Tensor, normal: Tensor | None, partners: bool) -> int:
        """How many residuals a sample gives."""
        samples = x.shape[0]
        generator = torch.Generator(x.device).manual_seed(1)

        def probe(name: str) -> Any:
            def lookup(component: Component) -> Tensor:
                self.wanted.setdefault(name, {})[component] = None
                return 0.5 + torch.rand(samples, dtype=x.dtype, device=x.device, generator=generator)

            return lookup

        names = self.surrogate.field_names
        coordinates = Coordinates(self.problem.coordinates)
        other = {name: Field(name, coordinates, probe(name), normal) for name in names if partners}
        fields = {name: Field(name, coordinates, probe(name), normal, other.get(name)) for name in names}
        unknowns = {name: x.new_full((1,), u.initial) for name, u in self.problem.unknowns.items()}
        columns = self.term.data.shape[1:] if isinstance(self.term, Data) else ()
        data = x.new_zeros((samples, *columns))
        known = gather_known(self.problem, x, fields, unknowns, normal, data)
        with at_home(x.device):
            rows = stack_rows(self.term, self.term.residual(known), samples)
        if not self.wanted:
            raise ProblemError(f"term {self.term.label!r}: its residual uses no field ({', '.join(names)})")
        return rows.shape[1]


def gather_known(
    problem: Problem,
    x: Tensor,
    fields: dict[str, Field],
    unknowns: dict[str, Tensor],
    normal: Tensor | None,
    data: Tensor | None,
) -> dict[str, Any]:
    """Everything that a residual may ask for by name."""
    coordinates = Coordinates(problem.coordinates)
    known: dict[str, Any] = {name: x[:, axis] for axis, name in enumerate(coordinates.names)}
    known |= fields | unknowns | {"__fields__": fields, "__data__": data}
    if normal is not None:
        known["n"] = Normal(coordinates, normal)
    return known


def stack_rows(term: Term, rows: Any, samples: int) -> Tensor:
    """The residual of a term as (N, rows); refuses what is not a vector over the samples."""
    parts = list(rows) if isinstance(rows, tuple | list) else [rows]
    for part in parts:
        value = part.value if isinstance(part, Field) else part
        if not isinstance(value, Tensor) or value.ndim != 1 or value.shape[0] != samples:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ProblemError(
                f"term {term.label!r}: the residual must give one number a sample ({samples},), or a tuple of such; it "
                f"gave {shape}"
            )
    return torch.stack([part.value if isinstance(part, Field) else part for part in parts], dim=1)


def sample_terms(
    problem: Problem,
    surrogate: Surrogate,
    domain: Domain,
    plan: SamplingPlan,
    comm: MPI.Intracomm,
    chunk_size: int,
    weights: Mapping[str, float] | None = None,
    agreed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[TermSamples]:
    """All terms with this rank's points and chunks; ``weights`` by label replace those of the terms. Collective.

    Conditions that the lifting of the surrogate meets are left out. The points follow from the seed; each rank draws
    its share of them. ``agreed`` gives a context for what each rank does on its own, in functions of the problem.

    Raises
    ------
    ProblemError, MeshError        unknown names in a residual, a region or a boundary that is not there, wrong shapes
    """
    with agreed():
        result = _draw_terms(problem, surrogate, domain, plan, comm, weights or {})
    for samples in result:
        order_by_subdomain(samples, surrogate, comm)
    with agreed():
        for samples in result:
            fill_chunks(samples, surrogate, comm.rank, comm.size, chunk_size)
    return result


def _draw_terms(
    problem: Problem,
    surrogate: Surrogate,
    domain: Domain,
    plan: SamplingPlan,
    comm: MPI.Intracomm,
    weights: Mapping[str, float],
) -> list[TermSamples]:
    """The terms with this rank's points as they are drawn, without chunks."""
    lifting = surrogate.lifting
    met = set(lifting.conditions) if lifting is not None else set()
    result = []
    for term in weighted_terms(problem, weights):
        names = [term.on] if isinstance(term.on, str) else term.on
        places = {part for name in names for part in name.split("+")}
        if term.place == "boundary" and places and places <= met:
            continue
        points = sequence_of_points(term, domain, plan)
        if len(points) == 0:
            raise ProblemError(f"term {term.label!r}: no points on {'+'.join(sorted(places))}; raise -sample_points")
        result.append(_trace_term(problem, surrogate, term, points, _shift(term, domain)))
        draw_share(result[-1], points, comm, result[-1].multipliers)
    labels = [samples.term.label for samples in result]
    for label in labels:
        if labels.count(label) > 1:
            raise ProblemError(f"problem {problem.name}: two terms are called {label!r}; give them a name=")
    if not result:
        raise ProblemError(f"problem {problem.name} has no terms left to minimise")
    return result


def _trace_term(
    problem: Problem, surrogate: Surrogate, term: Term, points: PointSequence, shift: NDArray[np.float64] | None
) -> TermSamples:
    """A term with what its residual asks for, of the first points, which are all that it has yet."""
    few = points.draw(0, min(3, len(points)))
    if isinstance(term, Operator):
        if not isinstance(surrogate, OperatorSurrogate):
            raise ProblemError(f"term {term.label!r}: operator data go with an OperatorProblem")
        # Relative to the size of each function: 1 / ‖s‖², as a sample has one row a location.
        return TermSamples(
            term,
            few,
            len(points),
            points.measure,
            Components.closed([VALUE]),
            (BRANCH, TRUNK),
            {},
            len(term.data.locations),
            multipliers=1.0 / term.data.squares,
            resident=term.data.comm is not None,
            total_rows=term.data.total_locations,
        )
    if isinstance(term, Discrete):
        return _discrete_samples(problem, surrogate, term, points)
    trace = _Trace(problem, term, surrogate)
    device = device_of(surrogate)
    normal = None if few.normals is None else on_device(few.normals.copy(), device)
    rows = trace.rows(on_device(few.x.copy(), device), normal, shift is not None)
    used = tuple(n for n, fields in surrogate.fields_of.items() if any(f in trace.wanted for f in fields))
    columns = [name for network in used for name in surrogate.fields_of[network]]
    return TermSamples(
        term,
        few,
        len(points),
        points.measure,
        Components.closed(component for wanted in trace.wanted.values() for component in wanted),
        used,
        {name: column for column, name in enumerate(columns)},
        rows,
        shift,
    )


def _discrete_samples(problem: Problem, surrogate: Surrogate, term: Discrete, points: PointSequence) -> TermSamples:
    """All fields at the nodes of a simulation."""
    equations, networks = term.equations, tuple(surrogate.fields_of)
    if equations.locations.shape[1] != len(problem.coordinates):
        raise ProblemError(
            f"term {term.label!r}: the nodes of the simulation have {equations.locations.shape[1]} coordinates, "
            f"problem {problem.name} has {', '.join(problem.coordinates)}"
        )
    if not all(isinstance(surrogate.networks[name], Network) for name in networks):
        raise ProblemError(f"term {term.label!r}: the equations of a simulation need networks of pescitrain's kinds")
    if isinstance(surrogate, OperatorSurrogate) != isinstance(term, DiscreteOperator):
        raise ProblemError(f"term {term.label!r}: equations with inputs go with an operator, those without with fields")
    columns = {name: column for column, name in enumerate(surrogate.field_names)}
    total = int(equations.comm.allreduce(equations.rows))
    return TermSamples(
        term,
        points.whole(),
        len(points),
        points.measure,
        Components.closed([VALUE]),
        networks,
        columns,
        equations.rows,
        resident=True,
        total_rows=total,
    )


def fill_chunks(samples: TermSamples, surrogate: Surrogate, rank: int, size: int, chunk_size: int) -> None:
    """Cut the points that this rank has of a term into chunks, with all that is constant on them. Not collective."""
    samples.chunks.clear()
    samples.chunk_size = chunk_size
    points = samples.points
    squared = samples.term.weight * points.weights / samples.measure
    if samples.multipliers is not None:
        squared = squared * samples.multipliers
    scale = np.sqrt(squared)
    data = samples.term.data if isinstance(samples.term, Data) else None
    if isinstance(samples.term, Operator):
        data = samples.term.data.values
    if data is not None:
        begin = samples.begin(rank, size)
        data = data[begin : begin + len(points)] if samples.numbers is None else data[samples.numbers]
    if isinstance(samples.term, DiscreteOperator):
        samples.term.equations.forget()
        device = device_of(surrogate)
        inputs, scales = on_device(samples.term.inputs, device), on_device(scale, device)
        part = _constant_part(samples, surrogate, inputs, scales, None, None)
        samples.chunks.append(DiscreteOperatorChunk(**vars(part)))
        return
    if isinstance(samples.term, Discrete):
        samples.term.equations.forget()
        x = on_device(samples.term.equations.locations, device_of(surrogate))
        part = _constant_part(samples, surrogate, x, on_device(scale, x.device), None, None)
        samples.chunks.append(DiscreteChunk(**vars(part)))
        return
    count = len(points) if samples.rows else 0
    pieces = max(1, -(-count // chunk_size)) if count else 0
    device = device_of(surrogate)
    for piece in range(pieces):
        local = slice(count * piece // pieces, count * (piece + 1) // pieces)
        # Copies, as a part of an array keeps the whole in memory.
        x, normal = points.x[local].copy(), None if points.normals is None else points.normals[local].copy()
        if samples.shift is not None:
            x = np.concatenate([x, x + samples.shift])
            normal = None if normal is None else np.concatenate([normal, normal])
        samples.chunks.append(
            _constant_part(
                samples,
                surrogate,
                on_device(x, device),
                on_device(scale[local].copy(), device),
                None if normal is None else on_device(normal, device),
                None if data is None else on_device(data[local].copy(), device),
            )
        )


def _constant_part(
    samples: TermSamples, surrogate: Surrogate, x: Tensor, scale: Tensor, normal: Tensor | None, data: Tensor | None
) -> Chunk:
    if isinstance(surrogate, OperatorSurrogate):
        return _operator_part(samples, surrogate, x, scale, data)
    components, lifting = samples.components, surrogate.lifting
    with torch.no_grad(), at_home(x.device):
        embedded = {
            name: network.embed_jet(x, components)
            for name in samples.networks
            if isinstance(network := surrogate.networks[name], Network)
        }
        base = factor = None
        if lifting is not None:
            used = [surrogate.field_names.index(name) for name in samples.columns]
            base = jet_of_fixed_function(lifting.base, x, components)[:, used].contiguous()
            factor = jet_of_fixed_function(lifting.factor, x, components)
            if lifting.outputs is None:
                factor = factor[:, used].contiguous()
            for what, jet in (("base", base), ("factor", factor)):
                if not torch.isfinite(jet).all():
                    raise ProblemError(
                        f"term {samples.term.label!r}: the {what} of the lifting or one of its derivatives is not "
                        "finite at some point; use -bc_enforce soft, or points away from the singularity"
                    )
    return Chunk(x, scale, normal, data, embedded, base, factor)


def _operator_part(
    samples: TermSamples, surrogate: OperatorSurrogate, x: Tensor, scale: Tensor, data: Tensor | None
) -> OperatorChunk:
    term = samples.term
    assert isinstance(term, Operator | DiscreteOperator)
    locations = on_device(term.data.locations if isinstance(term, Operator) else term.equations.locations, x.device)
    if data is not None:
        # The same rows in what the networks give: u − s = scale · (B Tᵀ − (s − offset) / scale).
        scale, data = surrogate.scale * scale, (data - surrogate.offset_at(locations)) / surrogate.scale
    with torch.no_grad(), at_home(x.device):
        points = {BRANCH: x, TRUNK: locations}
        embedded = {
            name: network.embed_jet(points[name], samples.components)
            for name, network in surrogate.networks.items()
            if isinstance(network, Network)
        }
        factor = surrogate.factor(locations)
    return OperatorChunk(x, scale, None, data, embedded, None, None, locations, factor)


def samples_at(samples: TermSamples, surrogate: Surrogate, x: NDArray[np.float64]) -> TermSamples:
    """The same interior term at other points (N, d), unscaled: to look at a residual anywhere. Not collective."""
    unscaled = replace(samples.term, weight=1.0)
    points = PointSet(x, np.full(len(x), 1.0))
    moved = replace(samples, term=unscaled, points=points, count=len(x), measure=points.measure, shift=None, chunks=[])
    moved.multipliers = None
    fill_chunks(moved, surrogate, 0, 1, samples.chunk_size)
    moved.chunks = [replace(chunk, scale=torch.ones_like(chunk.scale)) for chunk in moved.chunks]
    return moved
