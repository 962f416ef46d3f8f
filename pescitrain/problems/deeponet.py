"""An operator from snapshots: from the parameters of a simulation to its solution, by a DeepONet.

``-data_file`` has the samples; ``-data_split`` says which of its simulations are trained on, watched, kept for a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box
from pescitrain.problem import Operator, OperatorData, OperatorProblem, OperatorSets, Term

NAMES = ("x", "y", "z")


class DeepONet(OperatorProblem):
    """Subclass it to add a ``factor`` for hard conditions, or networks of your own."""

    defaults: ClassVar = {"net_width": 32, "net_depth": 3, "pc_type": "none", "tao_max_it": 500}
    sets: OperatorSets | None = None

    def on_data(self, sets: OperatorSets) -> None:
        dimension = len(sets.lower)
        self.coordinates = NAMES[:dimension] if dimension <= 3 else tuple(f"x{k}" for k in range(dimension))
        self.fields, self.sets = (sets.field,), sets
        self.offset, self.scale = sets.offset, sets.scale

    def domain(self) -> Box:
        sets = self._known()
        flat = sets.upper <= sets.lower  # all locations agree in this coordinate
        return Box(tuple(self.coordinates), sets.lower - 0.5 * flat, sets.upper + 0.5 * flat)

    def terms(self) -> Sequence[Term]:
        # Errors are relative to the size of a solution, which says little where all of them are near a large mean.
        return [Operator(self.training(), weight=1.0 + (self.offset / self.scale) ** 2)]

    def training(self) -> OperatorData:
        return self._known().training

    def validation(self) -> OperatorData:
        return self._known().validation

    def test(self) -> OperatorData | None:
        return self._known().test

    def _known(self) -> OperatorSets:
        if self.sets is None:
            raise ProblemError("-problem deeponet learns from snapshots: give a file of them by -data_file")
        return self.sets
