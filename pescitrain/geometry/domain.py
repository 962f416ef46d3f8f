"""What a problem may ask of a geometry, be it a box or a mesh."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pescitrain.errors import PescitrainError, ProblemError
from pescitrain.geometry.points import PointSequence, PointSet

Names = str | Sequence[str] | None
"""One name, several joined by ``+`` or in a sequence, or None for the whole."""

SAMPLING_KINDS = ("quadrature", "uniform", "sobol", "hammersley", "halton", "latin", "grid")


@dataclass(frozen=True)
class Sampling:
    """How points are laid into a set.

    Attributes
    ----------
    count : int | None   number of points; not used by ``quadrature``, whose number follows from the order
    kind : str           ``quadrature`` (meshes), ``grid`` (boxes), or one of
                         ``uniform``, ``sobol``, ``hammersley``, ``halton``, ``latin`` (both)
    order : int          polynomial order that ``quadrature`` integrates exactly in each straight cell

    Raises
    ------
    ProblemError         unknown kind, no count where one is needed, a count below one or an order below zero
    """

    count: int | None = None
    kind: str = "quadrature"
    order: int = 2

    def __post_init__(self) -> None:
        if self.kind not in SAMPLING_KINDS:
            raise unknown_name("sampling", self.kind, SAMPLING_KINDS, ProblemError)
        if self.kind == "quadrature":
            if self.order < 0:
                raise ProblemError(f"A quadrature order of {self.order} was asked for; give 0 or more.")
        elif self.count is None or self.count < 1:
            raise ProblemError(f"{self.kind} sampling needs a number of points, 1 or more; got {self.count}.")

    @property
    def points(self) -> int:
        """The number of points asked for; an error for ``quadrature`` without a count."""
        if self.count is None:
            raise ProblemError(f"{self.kind} sampling needs a number of points, 1 or more; got None.")
        return self.count


class Domain(Protocol):
    """A region of R^d with names for its parts: what :class:`Box` and :class:`Mesh` have in common.

    The points are the same on every rank: they depend on the name, the sampling and the seed only.
    An unknown name raises the error of the domain with the names there are and the nearest one.
    """

    @property
    def dimension(self) -> int:
        """Number d of coordinates."""
        ...

    def names(self) -> dict[str, list[str]]:
        """The names that can be asked for: ``{"interior": [...], "boundary": [...]}``."""
        ...

    def interior(self, name: Names = None, sampling: Sampling = ..., seed: int = 0) -> PointSet:
        """Points in a named part of the domain (None: all of it). Not collective."""
        ...

    def boundary(self, name: Names = None, sampling: Sampling = ..., seed: int = 0) -> PointSet:
        """Points with unit normals on a named part of the boundary (None: all of it). Not collective."""
        ...

    def interior_sequence(self, name: Names = None, sampling: Sampling = ..., seed: int = 0) -> PointSequence:
        """The points of :meth:`interior`, to be drawn in parts. Not collective."""
        ...

    def boundary_sequence(self, name: Names = None, sampling: Sampling = ..., seed: int = 0) -> PointSequence:
        """The points of :meth:`boundary`, to be drawn in parts. Not collective."""
        ...


def split_names(name: Names, known: Sequence[str], what: str, error: type[PescitrainError]) -> list[str]:
    """The single names, each once and in order, in ``"a+b"``, ``("a", "b")`` or ``"a"``; all must be known.

    A known name that itself contains a ``+`` is taken as it is.
    """
    asked = [name] if isinstance(name, str) else list(name or ())
    if name is not None and not asked:
        raise error(f"An empty list of names was given; the names are {', '.join(known)}.")
    parts: list[str] = []
    for entry in asked:
        parts += [entry] if entry in known else [part.strip() for part in entry.split("+")]
    for part in parts:
        if part not in known:
            raise unknown_name(what, part, known, error)
    return list(dict.fromkeys(parts))


def unknown_name(what: str, name: str, known: Sequence[str], error: type[PescitrainError]) -> PescitrainError:
    """The error for a name that is not known: one sentence with the nearest name and all the names."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" did you mean '{near[0]}'?" if near else ""
    return error(f"There is no {what} '{name}';{hint} the names are {', '.join(known)}.")
