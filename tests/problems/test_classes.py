"""The shipped classification problems: their data are what they say, and can be told apart."""

import numpy as np
import pytest

from pescitrain.errors import ProblemError
from pescitrain.problems.signals import Signals, patterns
from pescitrain.problems.smiley import Smiley
from pescitrain.problems.spirals import Spirals

SHIPPED = (Spirals, Smiley, Signals)


@pytest.mark.parametrize("kind", SHIPPED)
def test_training_and_validation_are_other_draws_of_the_same_classes(kind):
    problem = kind(samples=60, tests=40)
    training, validation = problem.training(), problem.validation()
    assert (len(training), len(validation)) == (60, 40)
    assert training.inputs.shape[1] == len(problem.coordinates)
    for data in (training, validation):
        assert set(data.labels) == set(range(len(problem.fields)))
    assert not np.isin(validation.inputs, training.inputs).any()
    assert np.array_equal(kind(samples=60, tests=40).training().inputs, training.inputs)
    assert not np.array_equal(kind(samples=60, tests=40, data_seed=1).training().inputs, training.inputs)


def test_an_arm_of_the_spiral_turns_with_its_distance():
    data = Spirals(samples=300, blur=0.0).training()
    radii, angles = np.hypot(*data.inputs.T), np.arctan2(data.inputs[:, 1], data.inputs[:, 0])
    turns = (angles / (2.0 * np.pi) - radii - data.labels / 3.0) % 1.0
    assert np.minimum(turns, 1.0 - turns).max() < 1e-12


def test_the_parts_of_the_face_lie_where_they_should():
    data = Smiley(blur=0.0).training()
    x, y = data.inputs.T
    assert np.hypot(x + 0.35, y - 0.3)[data.labels == 0].max() <= 0.12
    assert np.hypot(x - 0.35, y - 0.3)[data.labels == 1].max() <= 0.12
    assert y[data.labels == 2].max() < -0.2  # the mouth: below, an arc of radius 0.5
    np.testing.assert_allclose(np.hypot(x, y)[data.labels == 2], 0.5)
    np.testing.assert_allclose(np.hypot(x, y)[data.labels == 3], 0.85)
    assert np.abs(data.inputs[data.labels == 4]).max() <= 1.0


def test_signals_are_told_apart_by_their_patterns():
    """The pattern that fits best anywhere is the right one far more often than one time in ten."""
    data = Signals(samples=10, tests=200).validation()
    known = patterns()
    assert known.shape == (10, 12)
    x = np.linspace(0.0, 1.0, 40)
    wide = np.linspace(0.0, 1.0, 72)
    right = 0
    for signal, label in zip(data.inputs, data.labels, strict=True):
        slope = np.polyfit(x, signal, 1)
        flat = np.interp(wide, x, signal - np.polyval(slope, x))
        windows = np.lib.stride_tricks.sliding_window_view(flat, 12)
        centred = windows - windows.mean(1, keepdims=True)
        shapes = known - known.mean(1, keepdims=True)
        fit = (centred @ (shapes / np.linalg.norm(shapes, axis=1, keepdims=True)).T).max(0)
        right += int(fit.argmax() == label)
    assert right > 100


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Spirals(arms=1), "-problem_arms is 2 or more"),
        (lambda: Spirals(tests=0), "-problem_tests 1 or more"),
        (lambda: Smiley(samples=4), "-problem_samples is 5 or more"),
        (lambda: Signals(samples=9), "-problem_samples is 10 or more"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(build, sentence):
    with pytest.raises(ProblemError, match=sentence):
        build()
