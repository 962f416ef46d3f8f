"""What is known of each shipped problem: its fields as functions of x (N, d), and points inside and on its boundaries.

A term is given these fields in place of a network, with derivatives by central differences of order eight, so that a
wrong sign, factor or normal in a residual shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from references.finite_differences import first, second

from pescitrain.evaluation.samples import gather_known, stack_rows
from pescitrain.geometry import Box, Sampling
from pescitrain.networks.components import Component, Laplacian
from pescitrain.problem import Problem, Term
from pescitrain.problem.field import Coordinates, Field
from pescitrain.problems import load

Array = NDArray[np.float64]
Function = Callable[[Array], Array]
Loader = Callable[[str], ModuleType]


@dataclass(frozen=True)
class Place:
    """Points (N, d), and outward unit normals on a boundary."""

    x: Array
    normals: Array | None = None


@dataclass(frozen=True)
class Known:
    """A problem, its solution, and the places where its terms live, by their names joined by ``+``."""

    problem: Problem
    fields: Mapping[str, Function]
    places: Mapping[str, Place]
    step: float

    def rows(self, term: Term) -> Array:
        """The residual (N, rows) of a term at its place, for the solution."""
        names = (term.on,) if isinstance(term.on, str) else tuple(term.on)
        place = joined([self.places[name] for name in names])
        coordinates = Coordinates(self.problem.coordinates)
        normal = None if place.normals is None else torch.from_numpy(place.normals)

        def lookup(function: Function) -> Callable[[Component], torch.Tensor]:
            return lambda component: torch.from_numpy(derivative(function, place.x, component, self.step))

        fields = {name: Field(name, coordinates, lookup(f), normal) for name, f in self.fields.items()}
        known = gather_known(self.problem, torch.from_numpy(place.x), fields, {}, normal, None)
        return stack_rows(term, term.residual(known), len(place.x)).numpy()


def derivative(function: Function, x: Array, component: Component, step: float) -> Array:
    """A partial derivative, or a Laplacian, of order two at most at x (N, d)."""
    if isinstance(component, Laplacian):
        return np.sum([second(function, x, axis, step) for axis in component.axes], axis=0)
    if not component:
        return function(x)
    if len(component) == 1:
        return first(function, x, component[0], step)
    one, other = component
    if one == other:
        return second(function, x, one, step)
    return first(lambda points: first(function, points, one, step), x, other, step)


def joined(places: list[Place]) -> Place:
    normals = [place.normals for place in places if place.normals is not None]
    return Place(np.concatenate([place.x for place in places]), np.concatenate(normals) if normals else None)


# --------------------------------------------------------------------------------------------------- problems in boxes


def in_box(name: str, step: float, margin: float = 0.0) -> Known:
    """``margin``: how far inside points stay, where the solution is not known outside."""
    problem = load(name)()
    box = problem.domain()
    assert isinstance(box, Box) and problem.exact is not None
    exact = problem.exact

    def function(x: Array) -> Array:
        return exact(**dict(zip(problem.coordinates, x.T, strict=True)))

    inner = (
        box.lower
        + margin * box.sides
        + (1 - 2 * margin)
        * box.sides
        * Box(box.coordinates, [0.0] * box.dimension, [1.0] * box.dimension).interior(None, Sampling(256, "sobol"), 3).x
    )
    places = {"interior": Place(inner)}
    for face in box.names()["boundary"]:
        points = box.boundary(face, Sampling(64, "sobol"), 3)
        places[face] = Place(points.x, points.normals)
    return Known(problem, {"u": function}, places, step)


# ------------------------------------------------------------------------------------------------- problems on meshes


def line(start: tuple[float, float], end: tuple[float, float], normal: tuple[float, float], count: int = 21) -> Place:
    """Points on a straight side, away from its ends."""
    parameter = np.linspace(0.03, 0.97, count)[:, None]
    return Place(np.array(start) + parameter * (np.array(end) - start), np.tile(np.array(normal), (count, 1)))


def arc(center: tuple[float, float], radius: float, angles: Array, outward: float) -> Place:
    """Points on a circle; ``outward`` 1: normals away from the centre, −1: towards it."""
    direction = np.column_stack([np.cos(angles), np.sin(angles)])
    return Place(np.array(center) + radius * direction, outward * direction)


def square(lower: float, away: Callable[[Array], NDArray[np.bool_]]) -> Place:
    points = np.random.default_rng(4).uniform(lower, 0.97, (600, 2))
    return Place(points[away(points)])


def column(function: Callable[[Array], Array], which: int = 0) -> Function:
    return lambda x: function(x)[:, which]


FULL = np.linspace(0.0, 2.0 * np.pi, 40)
OUTER = {
    "left": line((-1, -1), (-1, 1), (-1, 0)),
    "right": line((1, -1), (1, 1), (1, 0)),
    "top": line((-1, 1), (1, 1), (0, 1)),
    "bottom": line((-1, -1), (1, -1), (0, -1)),
}


def plate_with_hole(load_reference: Loader) -> Known:
    reference = load_reference("plate_with_hole")
    center = (0.2, -0.15)
    places = {
        "interior": square(-0.97, lambda x: np.hypot(*(x - center).T) > 0.42),
        "hole": arc(center, 0.4, FULL, -1.0),
        "outer": joined(list(OUTER.values())),
    }
    return Known(load("poisson")(), {"u": column(reference.solution)}, places, 4e-3)


def lshape(load_reference: Loader) -> Known:
    reference = load_reference("lshape")
    away = square(-0.95, lambda x: ~((x[:, 0] > -0.03) & (x[:, 1] < 0.03)) & (np.hypot(*x.T) > 0.2))
    places = {"interior": away, "boundary": Place(reference.side_points(50), np.zeros((300, 2)))}
    return Known(load("poisson_lshape")(), {"u": column(reference.solution)}, places, 4e-3)


def elastic_plate(load_reference: Loader) -> Known:
    reference = load_reference("elastic_plate")
    places = {
        "interior": square(0.03, lambda x: (np.hypot(*x.T) > 0.43) & (x.max(axis=1) < 0.9)),
        "symmetry_x": line((0, 0.45), (0, 0.9), (-1, 0)),
        "symmetry_y": line((0.45, 0), (0.9, 0), (0, -1)),
        "traction": line((1, 0), (1, 0.8), (1, 0)),
        "free": line((0, 1), (0.8, 1), (0, 1)),
        "hole": arc((0, 0), 0.4, np.linspace(0.0, 0.5 * np.pi, 30), -1.0),
    }
    fields = {"ux": column(reference.solution, 0), "uy": column(reference.solution, 1)}
    return Known(load("elasticity")(), fields, places, 4e-3)


def two_materials(load_reference: Loader) -> Known:
    reference = load_reference("two_materials")
    center = (-0.1, 0.2)
    places = {
        "inclusion": square(-0.97, lambda x: np.hypot(*(x - center).T) < 0.45),
        "matrix": square(-0.97, lambda x: np.hypot(*(x - center).T) > 0.45),
        "interface": arc(center, 0.45, FULL, 1.0),
        "left": OUTER["left"],
        "right": OUTER["right"],
        "insulated": joined([OUTER["top"], OUTER["bottom"]]),
    }
    fields = {
        "T_inclusion": lambda x: reference._inner(x)[0][:, 0],
        "T_matrix": lambda x: reference._outer(x)[0][:, 0],
    }
    return Known(load("heat_two_materials")(), fields, places, 4e-3)


def multiscale_on_lshape() -> Known:
    problem = load("multiscale_mesh")()
    exact = problem.exact
    assert exact is not None
    places = {
        "interior": square(-0.97, lambda x: (x[:, 0] < 0) | (x[:, 1] > 0)),
        "boundary": joined([line((0, 0), (1, 0), (0, -1)), OUTER["left"], OUTER["top"]]),
    }
    return Known(problem, {"u": lambda x: exact(*x.T)}, places, 1e-3)


# name -> its solution, and the largest residual that differences and the reference explain: rounding of the solution
# over step², times the coefficient of the second derivative, or the truncation in the thinnest layer.
SOLUTIONS: dict[str, tuple[Callable[[Loader], Known], float]] = {
    "poisson": (plate_with_hole, 1e-6),
    "poisson_lshape": (lshape, 1e-6),
    "elasticity": (elastic_plate, 1e-6),
    "heat_two_materials": (two_materials, 1e-6),
    "burgers": (lambda _: in_box("burgers", 2e-4, 1e-3), 1e-6),
    "allen_cahn": (lambda _: in_box("allen_cahn", 1e-3, 5e-3), 1e-6),
    "klein_gordon": (lambda _: in_box("klein_gordon", 1e-2), 1e-8),
    "diffusion_advection": (lambda _: in_box("diffusion_advection", 1e-3, 5e-3), 1e-6),
    "helmholtz": (lambda _: in_box("helmholtz", 1e-2), 1e-6),
    "poisson2d": (lambda _: in_box("poisson2d", 1e-2), 1e-8),
    "poisson5d": (lambda _: in_box("poisson5d", 1e-2), 1e-8),
    "heat1d": (lambda _: in_box("heat1d", 1e-2), 1e-8),
    "multiscale1d": (lambda _: in_box("multiscale1d", 1e-3), 1e-4),
    "multiscale2d": (lambda _: in_box("multiscale2d", 1e-3), 1e-4),
    "multiscale_mesh": (lambda _: multiscale_on_lshape(), 1e-4),
}
