from __future__ import annotations

import numpy as np
import pytest

from pescitrain.errors import ProblemError
from pescitrain.problems.references.burgers import burgers

from .finite_differences import first, second

CLASSIC = 0.01 / np.pi


@pytest.mark.parametrize(
    ("viscosity", "x", "t", "value"),
    [
        (CLASSIC, 0.5, 0.5, -0.59276953440205),
        (CLASSIC, 0.02, 0.5, -0.97990586741399),
        (CLASSIC, 0.01, 1.0, -0.59425616758873),
        (CLASSIC, 0.5, 1.0, -0.37618139574812),
        (0.01, 0.5, 0.5, -0.58869577350225),
        (0.01, 0.02, 0.5, -0.69057780280191),
        (0.01, 0.01, 1.0, -0.24747232347323),
    ],
)
def test_values_agree_to_all_digits(viscosity: float, x: float, t: float, value: float) -> None:
    assert burgers(x, t, viscosity) == pytest.approx(value, abs=1.2e-14)


def test_default_viscosity_is_the_classic_one() -> None:
    assert burgers(0.3, 0.7) == burgers(0.3, 0.7, CLASSIC)


@pytest.mark.parametrize(("viscosity", "step"), [(CLASSIC, 3e-4), (0.01, 1e-3), (0.1, 1e-2)])
def test_equation_holds(viscosity: float, step: float) -> None:
    points = np.random.default_rng(1).uniform([-0.9, 0.1], [0.9, 0.9], (300, 2))

    def u(point: np.ndarray) -> np.ndarray:
        return burgers(point[:, 0], point[:, 1], viscosity)

    residual = first(u, points, 1, step) + u(points) * first(u, points, 0, step)
    residual -= viscosity * second(u, points, 0, step)
    slope = np.abs(first(u, points, 0, step)).max()
    assert np.abs(residual).max() < 1e-8 * slope


def test_initial_and_boundary_conditions_hold() -> None:
    x = np.linspace(-1.0, 1.0, 41)
    np.testing.assert_allclose(burgers(x, 0.0), -np.sin(np.pi * x), rtol=0, atol=1e-15)
    np.testing.assert_allclose(burgers(x, 1e-9), -np.sin(np.pi * x), rtol=0, atol=1e-8)
    np.testing.assert_allclose(burgers([[-1.0], [1.0]], np.linspace(0.01, 1, 30)), 0.0, atol=1e-13)


def test_arguments_broadcast_and_scattered_points_agree_with_the_grid() -> None:
    x, t = np.linspace(-1, 1, 64), np.linspace(0, 1, 11)
    grid = burgers(x[:, None], t)
    assert grid.shape == (64, 11)
    order = np.random.default_rng(2).permutation(grid.size)
    scattered = burgers(np.repeat(x, 11)[order], np.tile(t, 64)[order])
    np.testing.assert_allclose(scattered, grid.ravel()[order], rtol=0, atol=1e-14)


def test_what_is_not_resolved_is_refused() -> None:
    with pytest.raises(ProblemError, match="viscosities from 1e-4"):
        burgers(0.5, 0.5, 1e-5)
    with pytest.raises(ValueError, match="t >= 0"):
        burgers(0.5, -0.5)
