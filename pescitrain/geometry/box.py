"""A box in space or space-time, with named faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mpi4py import MPI

from pescitrain.errors import ProblemError
from pescitrain.geometry.domain import Names, Sampling, split_names
from pescitrain.geometry.points import Floats, PointSequence, PointSet
from pescitrain.geometry.sampling import unit_points

AXES = ("x", "y", "z")

DEFAULT_SAMPLING = Sampling(count=1024, kind="sobol")


@dataclass(frozen=True)
class Box:
    """The closed box of points with ``lower <= x <= upper``.

    Its faces are named after the coordinates: ``x_min``, ``x_max``, ``t_min``, …; ``boundary`` is all of them.

    Parameters
    ----------
    coordinates : names of the d coordinates, in the order of the columns of x
    lower, upper : d numbers each

    Raises
    ------
    ProblemError : lengths differ, names repeat, or a side has no positive length

    >>> Box(("x", "t"), (-1, 0), (1, 1)).measure
    2.0
    """

    coordinates: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __init__(self, coordinates: Sequence[str], lower: Sequence[float], upper: Sequence[float]) -> None:
        object.__setattr__(self, "coordinates", tuple(coordinates))
        object.__setattr__(self, "lower", tuple(float(value) for value in lower))
        object.__setattr__(self, "upper", tuple(float(value) for value in upper))
        if not len(self.coordinates) == len(self.lower) == len(self.upper) > 0:
            raise ProblemError(
                f"A box needs as many lower and upper bounds as coordinates, one or more; got {len(self.lower)} "
                f"and {len(self.upper)} for {len(self.coordinates)} coordinates."
            )
        if len(set(self.coordinates)) < self.dimension:
            raise ProblemError(f"The coordinates of a box need distinct names; got {', '.join(self.coordinates)}.")
        if not (np.isfinite(self.sides).all() and (self.sides > 0).all()):
            raise ProblemError(f"Each upper bound of a box must exceed the lower; got {self.lower} and {self.upper}.")

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        return len(self.coordinates)

    @property
    def sides(self) -> Floats:
        """Lengths (d,) of the sides."""
        return np.subtract(self.upper, self.lower)

    @property
    def measure(self) -> float:
        """Volume of the box."""
        return float(np.prod(self.sides))

    def names(self) -> dict[str, list[str]]:
        """The names of the interior and of the faces."""
        faces = [f"{name}_{side}" for name in self.coordinates for side in ("min", "max")]
        return {"interior": ["interior"], "boundary": ["boundary", *faces]}

    def interior(self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0) -> PointSet:
        """Points (N, d) of the box, with weights volume/N each. Not collective.

        ``grid`` takes the midpoints of the largest n^d ≤ count equal boxes.

        Raises ProblemError for an unknown name and for ``quadrature``, which needs a mesh.
        """
        return self.interior_sequence(name, sampling, seed).whole()

    def interior_sequence(
        self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0
    ) -> PointSequence:
        """The points of :meth:`interior`, to be drawn in parts. Not collective; raises as that does."""
        split_names(name, self.names()["interior"], "part of the box", ProblemError)
        count = _count(sampling, self.dimension)
        weight = self.measure / count

        def draw(begin: int, end: int) -> PointSet:
            unit = _unit_points(sampling, self.dimension, seed, "interior", begin, end)
            return PointSet(np.asarray(self.lower) + self.sides * unit, np.full(len(unit), weight))

        return PointSequence.weighing(weight, count, draw)

    def boundary(self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0) -> PointSet:
        """Points (N, d) of faces, in proportion to their measure, with outward unit normals. Not collective.

        ``name`` is a face, several (``"x_min+x_max"`` or a tuple), or ``"boundary"``. In one dimension a face
        is one point of measure one, and the count is not used.

        Raises ProblemError for an unknown name, for ``quadrature``, and for fewer points than faces.
        """
        return self.boundary_sequence(name, sampling, seed).whole()

    def boundary_sequence(
        self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0
    ) -> PointSequence:
        """The points of :meth:`boundary`, to be drawn in parts. Not collective; raises as that does."""
        known = self.names()["boundary"]
        faces = split_names(name or "boundary", known, "face", ProblemError)
        if "boundary" in faces:
            faces = known[1:]
        if self.dimension == 1:
            counts = [1] * len(faces)
        else:
            measures = [self.measure / self.sides[self._axis(face)] for face in faces]
            counts = apportion(sampling.points, measures)
        return PointSequence.concatenate(
            [self._face(face, count, sampling, seed) for face, count in zip(faces, counts, strict=True)]
        )

    def grid(self, shape: int | Sequence[int]) -> Floats:
        """The closed tensor grid (prod(shape), d), ends included, in C order: the last coordinate runs fastest.

        ``shape`` is one number for every axis or d numbers, 2 or more each; ``u.reshape(shape)`` undoes it.
        """
        numbers = (shape,) * self.dimension if isinstance(shape, int) else tuple(shape)
        if len(numbers) != self.dimension or min(numbers) < 2:
            raise ProblemError(f"A grid of this box needs {self.dimension} numbers of points, 2 or more; got {shape}.")
        axes = [np.linspace(*bounds) for bounds in zip(self.lower, self.upper, numbers, strict=True)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, self.dimension)

    def grid_weights(self, shape: Sequence[int]) -> Floats:
        """Weights (prod(shape),) of the trapezoidal rule on :meth:`grid`, which add up to the volume."""
        weights = np.ones(())
        for side, number in zip(self.sides, shape, strict=True):
            axis = np.full(number, side / (number - 1))
            axis[[0, -1]] *= 0.5
            weights = np.multiply.outer(weights, axis)
        return weights.reshape(-1)

    def _axis(self, face: str) -> int:
        return self.coordinates.index(face.rpartition("_")[0])

    def _face(self, face: str, points: int, sampling: Sampling, seed: int) -> PointSequence:
        axis, at_upper = self._axis(face), face.endswith("_max")
        along = np.delete(np.arange(self.dimension), axis)
        sampling = Sampling(points, sampling.kind, sampling.order)
        count = _count(sampling, self.dimension - 1)
        weight = float(np.prod(self.sides[along]) / count)

        def draw(begin: int, end: int) -> PointSet:
            unit = _unit_points(sampling, self.dimension - 1, seed, face, begin, end)
            x = np.full((len(unit), self.dimension), (self.upper if at_upper else self.lower)[axis])
            x[:, along] = np.asarray(self.lower)[along] + self.sides[along] * unit
            normals = np.zeros_like(x)
            normals[:, axis] = 1.0 if at_upper else -1.0
            return PointSet(x, np.full(len(x), weight), normals)

        return PointSequence.weighing(weight, count, draw)


def apportion(count: int, measures: Sequence[float]) -> list[int]:
    """Split ``count`` points over sets in proportion to their measures: one each, the rest by largest remainder.

    Raises ProblemError for fewer points than sets.
    """
    if count < len(measures):
        raise ProblemError(f"{count} points cannot cover {len(measures)} faces; ask for {len(measures)} or more.")
    shares = np.asarray(measures) / np.sum(measures) * count
    counts = np.maximum(np.floor(shares).astype(int), 1)
    while counts.sum() > count:
        counts[np.argmax(np.where(counts > 1, counts - shares, -np.inf))] -= 1
    while counts.sum() < count:
        counts[np.argmax(shares - counts)] += 1
    return counts.tolist()


def _count(sampling: Sampling, dimension: int) -> int:
    if sampling.kind == "quadrature":
        raise ProblemError("quadrature needs a mesh; for a box use uniform, sobol, hammersley, halton, latin or grid.")
    if sampling.kind != "grid" or dimension == 0:
        return sampling.points
    return _along_axis(sampling, dimension) ** dimension


def _along_axis(sampling: Sampling, dimension: int) -> int:
    """Points of a grid along an axis."""
    number = 1
    while (number + 1) ** dimension <= sampling.points:
        number += 1
    return number


def _unit_points(sampling: Sampling, dimension: int, seed: int, name: str, begin: int, end: int) -> Floats:
    if sampling.kind != "grid" or dimension == 0:
        return unit_points(sampling.points, dimension, sampling.kind, seed, name, begin, end)
    number = _along_axis(sampling, dimension)
    indices = np.unravel_index(np.arange(begin, end), (number,) * dimension)
    return (np.stack(indices, axis=-1) + 0.5) / number


def box_around(coordinates: Sequence[str], points: Floats, comm: MPI.Intracomm | None) -> Box:
    """The box around points (N, d), or around those of all ranks where ``comm`` is given. Collective then."""
    ends = np.stack((-points.min(0, initial=np.inf), points.max(0, initial=-np.inf)))
    if comm is not None:
        comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
    return Box(tuple(coordinates), tuple(-ends[0]), tuple(ends[1]))


def axes_of(dimension: int) -> tuple[str, ...]:
    """Names of coordinates that nobody has named.

    >>> axes_of(2)
    ('x', 'y')
    """
    return AXES[:dimension] if dimension <= len(AXES) else tuple(f"x_{axis}" for axis in range(dimension))
