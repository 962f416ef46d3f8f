"""The surrogate: coordinates -> fields, the networks, the lifting and the combination of fields included."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pescitrain.errors import ProblemError
from pescitrain.problem.field import ByName
from pescitrain.problem.liftings import BoundLifting, Lifting
from pescitrain.problem.problem import Problem


class Surrogate(nn.Module):
    """A torch module (M, d) -> (M, outputs).

    Parameters
    ----------
    problem : Problem               names, lifting and combination
    networks : dict of modules      one for each entry of ``problem.networks_of_fields()``
    lifting : Lifting or None       the ansatz, where conditions are hard

    Attributes
    ----------
    arguments : dict                name -> number of columns of each argument of ``forward``
    """

    def __init__(self, problem: Problem, networks: Mapping[str, nn.Module], lifting: Lifting | None) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(dict(networks))
        self.fields_of = problem.networks_of_fields()
        self.field_names: Sequence[str] = [name for names in self.fields_of.values() for name in names]
        self.coordinates = tuple(problem.coordinates)
        self.outputs = problem.output_names()
        self.arguments = {"x": len(self.coordinates)}
        self.corrects: Surrogate | None = None
        self.lifting: BoundLifting | None = None
        if lifting is not None:
            self.lifting = lifting.bind(self.coordinates, len(self.field_names))
            if lifting.outputs is not None and len(self.fields_of) > 1:
                raise ProblemError(
                    f"problem {problem.name}: a lifting with `outputs` goes with one network, not several"
                )
        self._solution = None
        if problem.solution is not None:
            self._solution = ByName(problem.solution, f"the solution of problem {problem.name}")

    def fields(self, x: Tensor) -> Tensor:
        """(M, d) -> (M, fields), in the order of ``field_names``."""
        values = torch.cat([network(x) for network in self.networks.values()], dim=-1)
        return values if self.lifting is None else self.lifting(x, values)

    def corrected_by(self, scale: float) -> Lifting:
        """The ansatz u = (the fields of this surrogate) + scale · factor · N of a network N that corrects it.

        ``factor`` is that of the lifting here, so that hard conditions stay met. The surrogate of N has this one in
        ``corrects``.
        """

        def base(__x__: Tensor) -> tuple[Tensor, ...]:
            return self.fields(__x__).unbind(-1)

        def factor(__x__: Tensor) -> tuple[Tensor | float, ...]:
            if self.lifting is None:
                return (scale,) * len(self.field_names)
            return (scale * self.lifting.factor(__x__)).unbind(-1)

        conditions = () if self.lifting is None else self.lifting.conditions
        return Lifting(base, factor, conditions, None if self.lifting is None else self.lifting.outputs)

    def with_networks(self, networks: Mapping[str, nn.Module]) -> Surrogate:
        """The same but for its networks; lifting and corrections are shared."""
        other = copy.copy(self)
        other._modules = dict(self._modules)
        other.networks = nn.ModuleDict(dict(networks))
        return other

    def change_lifting(self, lifting: Lifting) -> None:
        """Another ansatz of the problem, where there is one: that of the first surrogate, below all corrections."""
        if self.corrects is not None:
            self.corrects.change_lifting(lifting)
        elif self.lifting is not None:
            self.lifting = lifting.bind(self.coordinates, len(self.field_names))

    def forward(self, x: Tensor) -> Tensor:
        values = self.fields(x)
        if self._solution is None:
            return values
        known: dict[str, Tensor] = {name: x[:, axis] for axis, name in enumerate(self.coordinates)}
        known |= {name: values[:, column] for column, name in enumerate(self.field_names)}
        combined = self._solution(known)
        return torch.stack(combined if isinstance(combined, tuple | list) else [combined], dim=-1)


def network_outputs(fields: Sequence[str], lifting: Lifting | None) -> int:
    """How many outputs a network for these fields has."""
    return lifting.outputs if lifting is not None and lifting.outputs is not None else len(fields)
