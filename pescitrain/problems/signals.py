"""Signals: ten short patterns, each hidden in a longer signal by shift, scale, shear and noise.

The idea is that of MNIST-1D (Greydanus & Kobak, arXiv:2011.14439); patterns and draws are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from pescitrain.errors import ProblemError
from pescitrain.problem.classification import ClassificationProblem, LabelledData, class_names

Array = NDArray[np.float64]

CLASSES = 10
PATTERN, PADDED, INPUTS = 12, 72, 40
"""Values of a pattern, of the signal that it lies in, and of what the network sees of it."""
SMOOTH_NOISE, WHITE_NOISE, SHEAR = 0.25, 0.02, 0.75


@dataclass
class Signals(ClassificationProblem):
    """A pattern of 12 values times 0.4 to 1, shifted in 72 values, sheared by up to ±0.75, noisy, sampled at 40."""

    samples: int = 4000
    tests: int = 1000
    data_seed: int = 0

    coordinates = tuple(f"s{number}" for number in range(INPUTS))
    fields = class_names(CLASSES)
    defaults: ClassVar = {
        "net_type": "resnet",
        "net_width": 10,
        "net_depth": 33,
        "net_final_time": 1.0,
        "net_activation": "tanh",
    }

    def __post_init__(self) -> None:
        if self.samples < CLASSES or self.tests < 1:
            raise ProblemError(f"-problem_samples is {CLASSES} or more, -problem_tests 1 or more")

    def training(self) -> LabelledData:
        return _draw(self.samples, self.data_seed, 0)

    def validation(self) -> LabelledData:
        return _draw(self.tests, self.data_seed, 1)


def patterns() -> Array:
    """(10, 12): smooth, the same for every seed, of largest value 1."""
    rough = np.random.default_rng(12).standard_normal((CLASSES, PATTERN))
    smooth = gaussian_filter1d(rough, 1.0, axis=1)
    return smooth / np.abs(smooth).max(1, keepdims=True)


@lru_cache(maxsize=4)
def _draw(count: int, seed: int, part: int) -> LabelledData:
    generator, known = np.random.default_rng((seed, part)), patterns()
    labels = np.arange(count) % CLASSES
    signals = np.zeros((count, PADDED))
    shifts = generator.integers(0, PADDED - PATTERN + 1, count)
    scales = generator.uniform(0.4, 1.0, count)
    for row, label in enumerate(labels):
        signals[row, shifts[row] : shifts[row] + PATTERN] = scales[row] * known[label]
    signals += SMOOTH_NOISE * gaussian_filter1d(generator.standard_normal((count, PADDED)), 2.0, axis=1)
    signals += WHITE_NOISE * generator.standard_normal((count, PADDED))
    signals += SHEAR * generator.uniform(-1.0, 1.0, (count, 1)) * np.linspace(-0.5, 0.5, PADDED)
    places, known_places = np.linspace(0.0, 1.0, INPUTS), np.linspace(0.0, 1.0, PADDED)
    return LabelledData([np.interp(places, known_places, signal) for signal in signals], labels)
