"""The hard conditions of shipped problems hold whatever the network is, and do not give the solution away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pescitrain.geometry import Mesh, ReferenceField
from pescitrain.networks.components import Component
from pescitrain.problem import Problem
from pescitrain.problem.field import Coordinates, Field
from pescitrain.problem.liftings import BoundLifting
from pescitrain.problem.terms import Dirichlet, Initial
from pescitrain.problems import SHIPPED, load

Array = NDArray[np.float64]
WITH_LIFTING = [name for name in SHIPPED if load(name)().lifting() is not None]


def bound(problem: Problem) -> BoundLifting:
    lifting = problem.lifting()
    assert lifting is not None
    return lifting.bind(problem.coordinates, len(problem.fields))


def network(fields: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Any smooth function (M, d) -> (M, fields)."""
    return lambda x: torch.stack([torch.cos((1.3 + k) * x.sum(dim=-1) + k) for k in range(fields)], dim=-1)


def lookup(values: torch.Tensor, x: torch.Tensor) -> Callable[[Component], torch.Tensor]:
    """The values (M,), and their first derivatives at x (M, d)."""

    def derivative(component: Component) -> torch.Tensor:
        if component == ():
            return values
        assert isinstance(component, tuple) and len(component) == 1
        (gradient,) = torch.autograd.grad(values.sum(), x, retain_graph=True)
        return gradient[:, component[0]]

    return derivative


def boundary_points(problem: Problem, meshes: Path, place: str) -> Array:
    box = problem.domain()
    if box is not None:
        return box.boundary(place).x
    assert problem.mesh is not None
    mesh = Mesh.read(meshes / problem.mesh)
    return mesh.boundary(place).x


@pytest.mark.parametrize("name", WITH_LIFTING)
def test_the_conditions_hold_for_any_network(name: str, meshes: Path) -> None:
    problem = load(name)()
    lifting, any_network = bound(problem), network(len(problem.fields))
    coordinates = Coordinates(problem.coordinates)
    met, checked = set(lifting.conditions), 0
    for term in problem.terms():
        places = (term.on,) if isinstance(term.on, str) else tuple(term.on)
        if term.place != "boundary" or not set(places) <= met:
            continue
        assert isinstance(term, Dirichlet | Initial), "a lifting must not make this term superfluous"
        for place in places:
            x = torch.from_numpy(boundary_points(problem, meshes, place)).requires_grad_()
            values = lifting(x, any_network(x))
            fields = {
                field: Field(field, coordinates, lookup(values[:, column], x), None)
                for column, field in enumerate(problem.fields)
            }
            known = {c: x[:, axis] for axis, c in enumerate(problem.coordinates)} | fields | {"__fields__": fields}
            rows = term.residual(known)
            for row in rows if isinstance(rows, list) else [rows]:
                assert float(row.detach().abs().max()) < 1e-13, term.label
        checked += len(places)
    assert checked == len(met)


def samples(problem: Problem, meshes: Path) -> tuple[Array, Array, Array]:
    """Points (N, d), weights (N,) and the solution (N, outputs), on the grid or the nodes of the mesh."""
    box = problem.domain()
    if box is not None:
        assert problem.exact is not None
        x = box.grid(problem.grid)
        exact = problem.exact(**dict(zip(problem.coordinates, x.T, strict=True)))
        return x, np.ones(len(x)), exact[:, None]
    assert problem.mesh is not None and problem.reference_file is not None
    mesh = Mesh.read(meshes / problem.mesh)
    field = ReferenceField.read(meshes / problem.reference_file, mesh, problem.output_names())
    return mesh.nodes, mesh.nodal_weights(), field(mesh.nodes)


def distances(u: Array, b: Array, factor: Array, weights: Array) -> tuple[float, float]:
    """‖b − u‖/‖u‖, and the same for b + cℓ with the best c."""
    rest = u - b
    best = (weights * factor * rest).sum() / (weights * factor**2).sum()
    norm = np.sqrt((weights * u**2).sum())
    return tuple(float(np.sqrt((weights * r**2).sum()) / norm) for r in (rest, rest - best * factor))  # type: ignore


# problem, parameters, field, error of b alone, error of b + cℓ with the best c: two digits, measured once with the
# references. A lifting that came closer to the solution would make the problem another one.
TABLE = [
    ("burgers", {}, 0, 0.59, 0.59),
    ("burgers", {"nu": 0.01}, 0, 0.58, 0.58),
    ("allen_cahn", {}, 0, 0.67, 0.64),
    ("klein_gordon", {}, 0, 0.85, 0.85),
    ("heat1d", {}, 0, 1.50, 0.29),
    ("diffusion_advection", {}, 0, 1.00, 0.62),
    ("poisson2d", {}, 0, 1.00, 0.054),
    ("poisson_lshape", {"singular": False}, 0, 1.00, 0.28),
    ("heat_two_materials", {}, 0, 0.57, 0.13),
    ("elasticity", {}, 0, 1.00, 0.41),
    ("elasticity", {}, 1, 1.00, 0.67),
]


@pytest.mark.parametrize(("name", "parameters", "column", "base_only", "best"), TABLE)
def test_the_lifting_is_as_far_from_the_solution_as_measured(
    name: str, parameters: dict[str, float], column: int, base_only: float, best: float, meshes: Path
) -> None:
    problem = load(name)(**parameters)
    lifting = bound(problem)
    x, weights, exact = samples(problem, meshes)
    with torch.no_grad():
        points = torch.from_numpy(x)
        base, factor = lifting.base(points).numpy()[:, column], lifting.factor(points).numpy()[:, column]
    measured = distances(exact[:, column], base, factor, weights)
    digits = 0.0006 if best < 0.1 else 0.006
    assert measured == pytest.approx((base_only, best), abs=digits)
