"""The points of every term, and what is constant on them: this rank's share, cut into chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.evaluation.chunks import Chunk, DiscreteChunk, DiscreteOperatorChunk, OperatorChunk, TermSamples
from pescitrain.geometry import Box, Domain, PointSet, Sampling
from pescitrain.networks.components import VALUE, Component, Components
from pescitrain.networks.device import at_home, device_of, on_device, on_host
from pescitrain.networks.jets import jet_of_function
from pescitrain.networks.network import Network
from pescitrain.networks.subdomain import SubdomainNetwork
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
    ProblemError        a label that no term has
    """
    terms = list(problem.terms())
    labels = [term.label for term in terms]
    for label, weight in weights.items():
        if label not in labels:
            near = get_close_matches(label, labels, n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (there are {', '.join(labels)})"
            raise ProblemError(f"problem {problem.name} has no term {label}{hint}")
        terms[labels.index(label)].weight = weight
    return terms


def collect_points(term: Term, domain: Domain, plan: SamplingPlan) -> tuple[PointSet, NDArray[np.float64] | None]:
    """The points of a term, and their partners for a periodic one."""
    if isinstance(term, Operator):
        count = len(term.data)
        return PointSet(term.data.inputs, np.ones(count) / count, None, None), None
    if isinstance(term, DiscreteOperator):
        return PointSet(term.inputs, np.full(len(term.inputs), 1.0 / len(term.inputs)), None, None), None
    if isinstance(term, Discrete):
        return PointSet(np.zeros((1, domain.dimension)), np.ones(1), None, None), None
    if isinstance(term, Data):
        if term.coordinates.shape[1] != domain.dimension:
            raise ProblemError(
                f"term {term.label!r}: its points have {term.coordinates.shape[1]} coordinates, the domain has "
                f"{domain.dimension}"
            )
        weights = np.ones(len(term.coordinates)) / len(term.coordinates)
        return PointSet(term.coordinates, weights, None, None), None
    sampling = plan.interior if term.place == "interior" else plan.boundary
    if term.points is not None:
        kind = "hammersley" if sampling.kind == "quadrature" else sampling.kind
        sampling = replace(sampling, count=term.points, kind=kind)
    if isinstance(term, Periodic):
        first = domain.boundary(term.on[0], sampling, plan.seed)
        return first, first.x + (_translation(term, domain) if term.shift is None else np.asarray(term.shift))
    of_place = domain.interior if term.place == "interior" else domain.boundary
    return of_place(term.on, sampling, plan.seed), None


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
    rank: int,
    size: int,
    chunk_size: int,
    weights: Mapping[str, float] | None = None,
) -> list[TermSamples]:
    """All terms with their points and this rank's chunks; ``weights`` by label replace those of the terms.

    Conditions that the lifting of the surrogate meets are left out. Not collective: the points follow from the seed.

    Raises
    ------
    ProblemError, MeshError        unknown names in a residual, a region or a boundary that is not there, wrong shapes
    """
    lifting = surrogate.lifting
    met = set(lifting.conditions) if lifting is not None else set()
    result = []
    for term in weighted_terms(problem, weights or {}):
        names = [term.on] if isinstance(term.on, str) else term.on
        places = {part for name in names for part in name.split("+")}
        if term.place == "boundary" and places and places <= met:
            continue
        points, partners = collect_points(term, domain, plan)
        if len(points) == 0:
            raise ProblemError(f"term {term.label!r}: no points on {'+'.join(sorted(places))}; raise -sample_points")
        result.append(_trace_term(problem, surrogate, term, points, partners))
        result[-1].draw = partial(collect_points, term, domain, plan)
        fill_chunks(result[-1], surrogate, rank, size, chunk_size)
    labels = [samples.term.label for samples in result]
    for label in labels:
        if labels.count(label) > 1:
            raise ProblemError(f"problem {problem.name}: two terms are called {label!r}; give them a name=")
    if not result:
        raise ProblemError(f"problem {problem.name} has no terms left to minimise")
    return result


def _trace_term(
    problem: Problem, surrogate: Surrogate, term: Term, points: PointSet, partners: NDArray[np.float64] | None
) -> TermSamples:
    if isinstance(term, Operator):
        if not isinstance(surrogate, OperatorSurrogate):
            raise ProblemError(f"term {term.label!r}: operator data go with an OperatorProblem")
        # Relative to the size of each function: 1 / ‖s‖², as a sample has one row a location.
        return TermSamples(
            term,
            points,
            None,
            Components.closed([VALUE]),
            (BRANCH, TRUNK),
            {},
            len(term.data.locations),
            1.0 / term.data.squares,
            term.data.comm is not None,
            term.data.total_locations,
        )
    if isinstance(term, Discrete):
        return _discrete_samples(problem, surrogate, term, points)
    few = slice(0, 3)
    trace = _Trace(problem, term, surrogate)
    device = device_of(surrogate)
    normal = None if points.normals is None else on_device(points.normals[few].copy(), device)
    rows = trace.rows(on_device(points.x[few].copy(), device), normal, partners is not None)
    used = tuple(n for n, fields in surrogate.fields_of.items() if any(f in trace.wanted for f in fields))
    columns = [name for network in used for name in surrogate.fields_of[network]]
    return TermSamples(
        term,
        points,
        partners,
        Components.closed(component for wanted in trace.wanted.values() for component in wanted),
        used,
        {name: column for column, name in enumerate(columns)},
        rows,
    )


def _discrete_samples(problem: Problem, surrogate: Surrogate, term: Discrete, points: PointSet) -> TermSamples:
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
        term, points, None, Components.closed([VALUE]), networks, columns, equations.rows, None, True, total
    )


def fill_chunks(samples: TermSamples, surrogate: Surrogate, rank: int, size: int, chunk_size: int) -> None:
    """Cut this rank's share of the points of a term into chunks, with all that is constant on them. Not collective."""
    samples.chunks.clear()
    samples.chunk_size = chunk_size
    samples.recall_points()
    _arrange(samples, surrogate)
    points = samples.points
    share = points if samples.resident else points.slice(rank, size)
    begin = samples.begin(rank, size)
    squared = samples.term.weight * share.weights / points.weights.sum()
    if samples.multipliers is not None:
        squared = squared * samples.multipliers[begin : begin + len(share)]
    scale = np.sqrt(squared)
    data = samples.term.data if isinstance(samples.term, Data) else None
    if isinstance(samples.term, Operator):
        data = samples.term.data.values
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
    count = len(share) if samples.rows else 0
    pieces = max(1, -(-count // chunk_size)) if count else 0
    device = device_of(surrogate)
    for piece in range(pieces):
        local = slice(count * piece // pieces, count * (piece + 1) // pieces)
        whole = slice(begin + local.start, begin + local.stop)
        # Copies, as a part of an array keeps the whole in memory.
        x, normal = share.x[local].copy(), None if share.normals is None else share.normals[local].copy()
        if samples.partners is not None:
            x = np.concatenate([x, samples.partners[whole]])
            normal = None if normal is None else np.concatenate([normal, normal])
        samples.chunks.append(
            _constant_part(
                samples,
                surrogate,
                on_device(x, device),
                on_device(scale[local].copy(), device),
                None if normal is None else on_device(normal, device),
                None if data is None else on_device(data[whole].copy(), device),
            )
        )


def _arrange(samples: TermSamples, surrogate: Surrogate) -> None:
    """Order the points by subdomain, so that those of a chunk, and of a rank, are seen by few networks."""
    networks = [n for name in samples.networks if isinstance(n := surrogate.networks[name], SubdomainNetwork)]
    if not networks or isinstance(samples.term, Data | Discrete):
        return
    windows = networks[0].windows
    order = on_host(torch.argsort(windows.owners(on_device(samples.points.x, device_of(surrogate))), stable=True))
    samples.points = samples.points.take(order)
    if samples.partners is not None:
        samples.partners = samples.partners[order]
    if samples.multipliers is not None:
        samples.multipliers = samples.multipliers[order]


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
            base = jet_of_function(lifting.base, x, components)[:, used].contiguous()
            factor = jet_of_function(lifting.factor, x, components)
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
    count = len(x)
    points = PointSet(x, np.full(count, 1.0))
    moved = replace(samples, term=unscaled, points=points, partners=None, multipliers=None, chunks=[], forgotten=0)
    fill_chunks(moved, surrogate, 0, 1, samples.chunk_size)
    moved.chunks = [replace(chunk, scale=torch.ones_like(chunk.scale)) for chunk in moved.chunks]
    return moved
