"""Spirals: the arms of a spiral in the plane are told apart; a turn each, blurred along the angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pescitrain.errors import ProblemError
from pescitrain.problem.classification import ClassificationProblem, LabelledData, class_names


@dataclass
class Spirals(ClassificationProblem):
    """Point t (cos a, sin a) of arm j of ``arms``: t in [0.15, 1], a = 2πt + 2πj / arms + N(0, ``blur``²)."""

    arms: int = 3
    samples: int = 300
    tests: int = 300
    blur: float = 0.08
    data_seed: int = 0

    defaults: ClassVar = {"net_type": "resnet", "net_width": 8, "net_depth": 33, "net_final_time": 4.0}

    def __post_init__(self) -> None:
        if self.arms < 2 or self.samples < self.arms or self.tests < 1:
            raise ProblemError(
                "-problem_arms is 2 or more, -problem_samples at least as many, -problem_tests 1 or more"
            )
        self.fields = class_names(self.arms)

    def training(self) -> LabelledData:
        return self._draw(self.samples, 0)

    def validation(self) -> LabelledData:
        return self._draw(self.tests, 1)

    def _draw(self, count: int, part: int) -> LabelledData:
        generator = np.random.default_rng((self.data_seed, part))
        labels = np.arange(count) % self.arms
        t = generator.uniform(0.15, 1.0, count)
        angles = 2.0 * np.pi * (t + labels / self.arms) + self.blur * generator.standard_normal(count)
        return LabelledData(t[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1), labels)
