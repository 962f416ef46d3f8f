"""An operator from snapshots: from the parameters of a simulation to its solution, by a DeepONet.

``-data_file`` has the samples; ``-data_split`` says which of its simulations are trained on, watched, kept for a test.
"""

from __future__ import annotations

from typing import ClassVar

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box, axes_of
from pescitrain.problem import OperatorData, OperatorProblem, OperatorSets


class DeepONet(OperatorProblem):
    """Subclass it to add a ``factor`` for hard conditions, or networks of your own."""

    defaults: ClassVar = {"net_width": 32, "net_depth": 3, "pc_type": "none", "tao_max_it": 500}
    sets: OperatorSets | None = None

    def on_data(self, sets: OperatorSets) -> None:
        self.coordinates = axes_of(sets.training.locations.shape[1])
        self.fields, self.sets = (sets.field,), sets
        self.standardise(sets.training)

    def domain(self) -> Box:
        return self._known().training.box(self.coordinates)

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
