"""Smiley: a face in the plane, two eyes, a mouth and the rim of the head, on a background that overlaps with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import ProblemError
from pescitrain.problem.classification import ClassificationProblem, LabelledData, class_names

PARTS = 5
"""Left eye, right eye, mouth, rim, background."""


@dataclass
class Smiley(ClassificationProblem):
    """Eyes are discs of radius 0.12 at (±0.35, 0.3), the mouth an arc of radius 0.5, the rim a circle of radius 0.85;
    all blurred by ``blur``. The background is uniform in [−1, 1]²."""

    samples: int = 5000
    tests: int = 5000
    blur: float = 0.05
    data_seed: int = 0

    fields = class_names(PARTS)
    defaults: ClassVar = {"net_type": "resnet", "net_width": 10, "net_depth": 29, "net_final_time": 2.0}

    def __post_init__(self) -> None:
        if self.samples < PARTS or self.tests < 1:
            raise ProblemError(f"-problem_samples is {PARTS} or more, -problem_tests 1 or more")

    def training(self) -> LabelledData:
        return self._draw(self.samples, 0)

    def validation(self) -> LabelledData:
        return self._draw(self.tests, 1)

    def _draw(self, count: int, part: int) -> LabelledData:
        generator = np.random.default_rng((self.data_seed, part))
        labels = np.arange(count) % PARTS
        angles, radii = generator.uniform(0.0, 2.0 * np.pi, count), 0.12 * np.sqrt(generator.uniform(size=count))
        jitter, anywhere = self.blur * generator.standard_normal((count, 2)), generator.uniform(-1.0, 1.0, (count, 2))
        disc = radii[:, None] * _unit(angles)
        places = [
            disc + (-0.35, 0.3),
            disc + (0.35, 0.3),
            0.5 * _unit(np.pi * (1.15 + 0.7 * angles / (2.0 * np.pi))) + jitter,
            0.85 * _unit(angles) + jitter,
            anywhere,
        ]
        return LabelledData(np.choose(labels[:, None], places), labels)


def _unit(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
