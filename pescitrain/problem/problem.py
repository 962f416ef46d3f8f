"""A problem: coordinates, fields, terms, and what is known about the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box, Mesh
from pescitrain.networks.network import Network
from pescitrain.problem.liftings import Lifting
from pescitrain.problem.terms import Term


@dataclass(frozen=True)
class Unknown:
    """A coefficient of the equations that is found together with the network (inverse problems).

    It is one more entry of θ, available by its name in every function of the problem. Bounds are respected by the
    TAO types that know bounds (blmvm, bqnls, bncg, bnls, bntr, bntl, tron).
    """

    initial: float
    lower: float = -float("inf")
    upper: float = float("inf")

    def __post_init__(self) -> None:
        if not self.lower <= self.initial <= self.upper:
            raise ProblemError(
                f"unknown: the initial value {self.initial:g} is outside [{self.lower:g}, {self.upper:g}]"
            )


class Problem:
    """Base of all problems; a subclass says what it needs to say, in any order.

    Attributes
    ----------
    coordinates : names of the columns of x; ``t`` is time
    fields : names of the unknown functions
    unknowns : coefficients to be found, by name
    networks : which network gives which fields; one network for all of them unless said otherwise
    periodic : periods of coordinates that the network builds in exactly, {"x": 2.0}
    mesh : path of the mesh that is used when ``-mesh`` is not given
    grid : points along each coordinate of the grid on which errors on boxes are measured
    outputs : names of what the trained model returns, where :meth:`solution` combines the fields
    defaults : options of pescitrain or PETSc that suit this problem, where the user says nothing

    If the subclass is a dataclass, its fields are options: ``nu: float`` is set by ``-problem_nu``.
    """

    coordinates: Sequence[str] = ("x", "y")
    fields: Sequence[str] = ("u",)
    unknowns: ClassVar[dict[str, Unknown]] = {}
    networks: ClassVar[dict[str, Sequence[str]]] = {}
    periodic: ClassVar[dict[str, float]] = {}
    mesh: ClassVar[str | None] = None
    reference_file: ClassVar[str | None] = None
    grid: ClassVar[Sequence[int]] = ()
    outputs: ClassVar[Sequence[str]] = ()
    defaults: ClassVar[dict[str, Any]] = {}

    def domain(self) -> Box | None:
        """The box of the problem, or None when it lives on a mesh."""
        return None

    def on_mesh(self, mesh: Mesh) -> None:
        """Called with the mesh before anything else is asked; a problem for any mesh looks at its dimension and names.

        It may set ``self.coordinates`` and remember names for its terms. Not collective: every rank has the whole mesh.
        """

    def terms(self) -> Sequence[Term]:
        """The equations and conditions."""
        raise ProblemError(f"problem {self.name} has no terms(): return its equations and conditions")

    def lifting(self) -> Lifting | None:
        """The ansatz of ``-bc_enforce hard``; None: built from the mesh's boundary if there is a mesh."""
        return None

    exact: Callable[..., Any] | None = None
    """The solution, from NumPy arrays (M,) of coordinates by name to (M,), or to one for each output; or None."""

    solution: Callable[..., Any] | None = None
    """What the trained model returns, from fields and coordinates by name; None: the fields."""

    features: Callable[..., Any] | None = None
    """Declared extra inputs of the networks, functions of the coordinates by name; None: none."""

    def build_network(self, name: str) -> Network | None:
        """A network of the user's own in place of ``-net_*``; None: built from the options."""
        return None

    @property
    def name(self) -> str:
        """The name of the class, as in the options."""
        return type(self).__name__

    def networks_of_fields(self) -> dict[str, tuple[str, ...]]:
        """Network -> fields, checked: every field has exactly one network."""
        mapping = {name: tuple(fields) for name, fields in (self.networks or {"network": self.fields}).items()}
        given = [field for fields in mapping.values() for field in fields]
        if sorted(given) != sorted(self.fields):
            raise ProblemError(f"problem {self.name}: the networks give {given}, the fields are {list(self.fields)}")
        return mapping

    def reference(self) -> str | None:
        """``reference_file``, or None where a parameter differs from the default, for which the file was made."""
        parameters = dataclass_fields(self) if is_dataclass(self) else ()
        changed = any(f.default is not MISSING and getattr(self, f.name) != f.default for f in parameters)
        return None if changed else self.reference_file

    def output_names(self) -> tuple[str, ...]:
        """Names of the columns of the trained model."""
        if self.solution is not None and not self.outputs:
            raise ProblemError(f"problem {self.name}: it has a solution(); name what it returns in `outputs`")
        return tuple(self.outputs or self.fields)

    def settings(self) -> dict[str, Any]:
        """The dataclass fields of the problem, its own options."""
        if not is_dataclass(self):
            return {}
        return {f.name: getattr(self, f.name) for f in dataclass_fields(self)}
