"""What a residual function sees: fields with their derivatives by name, coordinates, the normal, unknowns, data.

Everything is a vector (M,) over the samples, so that residuals read as mathematics and broadcasting cannot go wrong::

    def residual(u, x, t):
        return u.t + u * u.x - 0.01 * u.xx
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from pescitrain.errors import ProblemError
from pescitrain.networks.components import VALUE, Component, Laplacian

Lookup = Callable[[Component], Tensor]


class Coordinates:
    """The names of the coordinates, in the order of the columns of x; ``t`` is time, the others are space."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.space = tuple(axis for axis, name in enumerate(self.names) if name != "t")
        longest_first = sorted(self.names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def component(self, name: str) -> Component | None:
        """The derivative of this name (``xx``, ``xt``, ``laplacian``), or None."""
        if name == "laplacian" and self.space:
            return Laplacian(self.space)
        parts = self._pattern.findall(name)
        if not parts or "".join(parts) != name:
            return None
        return tuple(sorted(self.names.index(part) for part in parts))


class Field:
    """One field at the samples: behaves as the vector of its values, and has its derivatives as attributes.

    ``u.x``, ``u.xt``, ``u.laplacian`` (over space), ``u.grad`` (tuple over space), ``u.n`` (outward normal derivative,
    on boundaries), ``u.other`` (the same field at the partner points of a periodic condition).
    """

    def __init__(
        self, name: str, coordinates: Coordinates, lookup: Lookup, normal: Tensor | None, other: Field | None = None
    ) -> None:
        self._name, self._coordinates, self._lookup, self._normal, self._other = (
            name,
            coordinates,
            lookup,
            normal,
            other,
        )

    @property
    def value(self) -> Tensor:
        """(M,) the values."""
        return self._lookup(VALUE)

    @property
    def grad(self) -> tuple[Tensor, ...]:
        """The first derivatives along the space coordinates."""
        return tuple(self._lookup((axis,)) for axis in self._coordinates.space)

    @property
    def n(self) -> Tensor:
        """The derivative along the outward normal."""
        if self._normal is None:
            raise ProblemError(f"{self._name}.n: there is no normal inside the domain; use it in boundary terms only")
        normal = self._normal
        return sum((normal[:, axis] * self._lookup((axis,)) for axis in self._coordinates.space), torch.zeros(()))

    @property
    def other(self) -> Field:
        """The field at the partner points."""
        if self._other is None:
            raise ProblemError(f"{self._name}.other: only a Periodic term has partner points")
        return self._other

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        component = self._coordinates.component(name)
        if component is None:
            known = ", ".join(self._coordinates.names)
            raise ProblemError(
                f"{self._name}.{name}: no such derivative; write coordinate names one after the other "
                f"({known}; twice for a second derivative), or laplacian, grad, n"
            )
        return self._lookup(component)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return function(*map(_plain, args), **{key: _plain(value) for key, value in (kwargs or {}).items()})

    def __neg__(self) -> Tensor:
        return -self.value

    def __abs__(self) -> Tensor:
        return self.value.abs()

    def __lt__(self, other: Any) -> Tensor:
        return self.value < _plain(other)

    def __gt__(self, other: Any) -> Tensor:
        return self.value > _plain(other)

    def __add__(self, other: Any) -> Tensor:
        return self.value + _plain(other)

    def __sub__(self, other: Any) -> Tensor:
        return self.value - _plain(other)

    def __mul__(self, other: Any) -> Tensor:
        return self.value * _plain(other)

    def __truediv__(self, other: Any) -> Tensor:
        return self.value / _plain(other)

    def __pow__(self, exponent: Any) -> Tensor:
        return self.value ** _plain(exponent)

    def __radd__(self, other: Any) -> Tensor:
        return other + self.value

    def __rsub__(self, other: Any) -> Tensor:
        return other - self.value

    def __rmul__(self, other: Any) -> Tensor:
        return other * self.value

    def __rtruediv__(self, other: Any) -> Tensor:
        return other / self.value

    def __rpow__(self, base: Any) -> Tensor:
        return base**self.value


def _plain(value: Any) -> Any:
    if isinstance(value, Field):
        return value.value
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value


class Normal:
    """The outward unit normal (M, d): by name (``n.x``) or by index (``n[0]``)."""

    def __init__(self, coordinates: Coordinates, values: Tensor) -> None:
        self._coordinates, self._values = coordinates, values

    def __getitem__(self, axis: int) -> Tensor:
        return self._values[:, axis]

    def __getattr__(self, name: str) -> Tensor:
        if name not in self._coordinates.names:
            raise ProblemError(f"n.{name}: no such coordinate; there are {', '.join(self._coordinates.names)}")
        return self._values[:, self._coordinates.names.index(name)]


class ByName:
    """A user's function that is called with what its argument names ask for.

    Raises
    ------
    ProblemError        an argument names nothing that is there; the text lists what is
    """

    def __init__(self, function: Callable[..., Any], what: str) -> None:
        self.function, self.what = function, what
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise ProblemError(f"{what}: name the arguments instead of *{parameter.name}")
        needed = [p for p in parameters if p.default is p.empty]
        self.arguments = [p.name for p in needed if p.kind is not p.KEYWORD_ONLY]
        self.keywords = [p.name for p in needed if p.kind is p.KEYWORD_ONLY]

    def __call__(self, known: Mapping[str, Any]) -> Any:
        try:
            values = [known[name] for name in self.arguments]
            keywords = {name: known[name] for name in self.keywords}
        except KeyError as missing:
            raise ProblemError(unknown_name(self.what, str(missing.args[0]), known)) from None
        return self.function(*values, **keywords)


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """One sentence about a name that is not there, with the nearest one that is."""
    names = sorted(name for name in known if not name.startswith("__"))
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{what} asks for {name!r}, which is not known{hint} (known: {', '.join(names)})"
