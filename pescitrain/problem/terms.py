"""The terms of a problem: equations in regions, conditions on boundaries, data at points.

Each term is a residual vector on a set of points. The objective of a problem is φ = ½ Σ weight · mean(r²), the mean
taken with the measure of the points, so that a weight means the same for any number of points and any mesh. Classes
cost the cross-entropy in place of half the square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.problem.field import ByName
from pescitrain.problem.losses import Loss, SoftmaxCrossEntropy, Squares

Value = float | Callable[..., Any]
"""A number, or a function of what its argument names ask for (coordinates, fields, unknowns, n)."""

Rows = Tensor | Sequence[Tensor]
"""The residual at M samples: (M,), or several of them for a system."""


@dataclass(kw_only=True)
class Term:
    """What all terms have in common.

    Parameters
    ----------
    on : str or sequence of str     names of regions or boundaries of the domain (physical groups of a mesh)
    weight : float                  factor of the mean square of this term in the objective; 1, but 10 for conditions
                                    on values (Dirichlet, Initial, Periodic), which an equation else outweighs
    name : str                      its name in history.csv; derived from the kind and ``on`` when empty
    points : int or None            how many points, instead of ``-sample_points`` or ``-sample_boundary_points``
    """

    on: str | Sequence[str] = "interior"
    weight: float = 1.0
    name: str = ""
    points: int | None = None
    place: Literal["interior", "boundary", "points"] = dataclasses.field(default="boundary", init=False)
    loss: ClassVar[Loss] = Squares()

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight < float("inf"):
            raise ProblemError(f"term {self.label!r}: the weight {self.weight:g} is not a number of 0 or more")

    @property
    def label(self) -> str:
        """The name, or one derived from the kind and the place."""
        places = self.on if isinstance(self.on, str) else "+".join(self.on)
        return self.name or f"{type(self).__name__.lower()}_{places}"

    def residual(self, known: dict[str, Any]) -> Rows:
        """The residual from what is known at the samples: fields, coordinates, ``n``, unknowns, data."""
        raise NotImplementedError


def _value(value: Value, known: dict[str, Any], what: str) -> Any:
    return ByName(value, what)(known) if callable(value) else value


def _only_field(term: Term, name: str | None, known: dict[str, Any]) -> Any:
    fields: dict[str, Any] = known["__fields__"]
    if name is None:
        if len(fields) != 1:
            raise ProblemError(f"term {term.label!r}: say which field it is for (field=...): {', '.join(fields)}")
        return next(iter(fields.values()))
    if name not in fields:
        raise ProblemError(f"term {term.label!r}: no field {name!r}; there are {', '.join(fields)}")
    return fields[name]


@dataclass
class Residual(Term):
    """An equation r = 0; ``function`` returns r, or a tuple for a system, from arguments by name.

    ``boundary=True`` puts it on boundaries, for conditions that have no term of their own.
    """

    function: Callable[..., Rows]
    boundary: bool = False

    def __post_init__(self) -> None:
        if self.boundary and self.on == "interior":
            self.on = "boundary"
        super().__post_init__()
        self.place = "boundary" if self.boundary else "interior"
        self._call = ByName(self.function, f"the residual of term {self.label!r}")

    def residual(self, known: dict[str, Any]) -> Rows:
        return self._call(known)


@dataclass
class Dirichlet(Term):
    """u = value."""

    value: Value
    field: str | None = None
    _: KW_ONLY
    weight: float = 10.0
    _: KW_ONLY
    on: str | Sequence[str] = "boundary"

    def residual(self, known: dict[str, Any]) -> Rows:
        return _only_field(self, self.field, known) - _value(self.value, known, f"the value of term {self.label!r}")


@dataclass
class Initial(Term):
    """u = value and, if ``rate`` is given, ∂u/∂t = rate, at the first time."""

    value: Value
    rate: Value | None = None
    field: str | None = None
    _: KW_ONLY
    on: str | Sequence[str] = "t_min"
    weight: float = 10.0

    def residual(self, known: dict[str, Any]) -> Rows:
        u = _only_field(self, self.field, known)
        rows = [u - _value(self.value, known, f"the value of term {self.label!r}")]
        if self.rate is not None:
            rows.append(u.t - _value(self.rate, known, f"the rate of term {self.label!r}"))
        return rows


@dataclass
class Neumann(Term):
    """coefficient · ∂u/∂n = flux, with the outward normal n."""

    flux: Value
    field: str | None = None
    coefficient: Value = 1.0
    _: KW_ONLY
    on: str | Sequence[str] = "boundary"

    def residual(self, known: dict[str, Any]) -> Rows:
        what = f"term {self.label!r}"
        u = _only_field(self, self.field, known)
        return _value(self.coefficient, known, what) * u.n - _value(self.flux, known, what)


@dataclass
class Robin(Term):
    """coefficient · ∂u/∂n + transfer · u = flux."""

    transfer: Value
    flux: Value
    field: str | None = None
    coefficient: Value = 1.0
    _: KW_ONLY
    on: str | Sequence[str] = "boundary"

    def residual(self, known: dict[str, Any]) -> Rows:
        what = f"term {self.label!r}"
        u = _only_field(self, self.field, known)
        inflow = _value(self.transfer, known, what) * u - _value(self.flux, known, what)
        return _value(self.coefficient, known, what) * u.n + inflow


@dataclass
class Periodic(Term):
    """u and its normal derivatives up to ``derivatives`` agree on the two boundaries ``on``, which are translates.

    ``shift``: the translation from the first to the second; found from their centres when None.
    """

    _: KW_ONLY
    on: str | Sequence[str] = ()
    weight: float = 10.0
    derivatives: int = 1
    shift: Sequence[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.on, str) or len(self.on) != 2:
            raise ProblemError(f"term {self.label!r}: Periodic takes two boundaries, on=('x_min', 'x_max')")
        if self.derivatives not in (0, 1):
            raise ProblemError(f"term {self.label!r}: derivatives must be 0 or 1, not {self.derivatives}")

    def residual(self, known: dict[str, Any]) -> Rows:
        rows = []
        for u in known["__fields__"].values():
            rows.append(u - u.other)
            if self.derivatives:
                rows.append(u.n - u.other.n)
        return rows


@dataclass
class Data(Term):
    """u = values (N,) at given points (N, d): measurements, snapshots."""

    x: ArrayLike
    values: ArrayLike
    field: str | None = None
    _: KW_ONLY
    on: str | Sequence[str] = "points"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.place = "points"
        self.data: NDArray[np.float64] = np.asarray(self.values, dtype=np.float64).reshape(-1)
        x = np.asarray(self.x, dtype=np.float64)
        # A flat x is one coordinate of each point, or one point.
        self.coordinates: NDArray[np.float64] = x.reshape(-1, 1) if x.shape == self.data.shape else np.atleast_2d(x)
        if len(self.coordinates) != len(self.data):
            raise ProblemError(
                f"term {self.label!r}: {len(self.coordinates)} points but {len(self.data)} values; give one value "
                "a point"
            )
        if not (np.isfinite(self.coordinates).all() and np.isfinite(self.data).all()):
            raise ProblemError(f"term {self.label!r}: the data hold NaN or infinity; remove these points")

    def residual(self, known: dict[str, Any]) -> Rows:
        return _only_field(self, self.field, known) - known["__data__"]


@dataclass
class Classes(Data):
    """The class (N,) of each of given points (N, d): 0, 1, …, as many as the problem has fields, which are the logits.

    The mean of the soft-max cross-entropy is minimised.
    """

    loss = SoftmaxCrossEntropy()

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.data < 0).any() or (self.data != np.round(self.data)).any():
            raise ProblemError(f"term {self.label!r}: classes are the whole numbers 0, 1, …")

    def residual(self, known: dict[str, Any]) -> Rows:
        logits = list(known["__fields__"].values())
        if self.data.max(initial=0) >= len(logits):
            raise ProblemError(
                f"term {self.label!r}: class {self.data.max():g} needs {self.data.max() + 1:g} fields, there are "
                f"{len(logits)}"
            )
        return logits
