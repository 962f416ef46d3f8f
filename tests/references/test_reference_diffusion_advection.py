from __future__ import annotations

import numpy as np
import pytest

from pescitrain.errors import ProblemError
from pescitrain.problems.references.diffusion_advection import diffusion_advection

from .finite_differences import first, second


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [
        (0.5, 0.5, 0.44426462881),
        (0.75, 0.25, 0.24999142563),
        (0.9375, 0.5, 0.49888750142),
        (0.984375, 0.5, 0.39835560919),
        (0.9375, 0.9375, 0.85750021530),
    ],
)
def test_values_agree_to_the_accuracy_they_were_published_with(x: float, y: float, value: float) -> None:
    assert diffusion_advection(x, y) == pytest.approx(value, abs=3e-11)
    assert diffusion_advection(y, x) == pytest.approx(value, abs=3e-11)


@pytest.mark.parametrize(("diffusion", "step"), [(0.01, 1.5e-3), (0.1, 5e-3), (1.0, 1e-2)])
def test_equation_holds(diffusion: float, step: float) -> None:
    points = np.random.default_rng(4).uniform(0.05, 0.95, (1000, 2))

    def u(point: np.ndarray) -> np.ndarray:
        return diffusion_advection(point[:, 0], point[:, 1], diffusion)

    laplacian = second(u, points, 0, step) + second(u, points, 1, step)
    residual = first(u, points, 0, step) + first(u, points, 1, step) - diffusion * laplacian - 1.0
    assert np.abs(residual).max() < 1e-6


def test_known_series_at_the_centre_of_the_layerless_limit() -> None:
    # As μ → ∞, μu tends to the torsion function of the unit square, whose value at the centre is a known series.
    terms = [(-1) ** k / ((2 * k + 1) ** 3 * np.cosh((2 * k + 1) * np.pi / 2)) for k in range(12)]
    torsion = 1 / 8 - 4 / np.pi**3 * sum(terms)
    assert torsion == pytest.approx(0.0736713532814, abs=1e-12)
    assert 1e4 * diffusion_advection(0.5, 0.5, 1e4) == pytest.approx(torsion, abs=1e-8)


def test_boundary_values_vanish_and_arguments_broadcast() -> None:
    grid = diffusion_advection(np.linspace(0, 1, 33)[:, None], np.linspace(0, 1, 17))
    assert grid.shape == (33, 17)
    edge = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
    assert np.all(edge == 0.0)
    assert grid[1:-1, 1:-1].min() > 0.0


def test_what_is_not_resolved_is_refused() -> None:
    with pytest.raises(ProblemError, match=r"from a diffusion of 0\.001"):
        diffusion_advection(0.5, 0.5, 1e-4)
    with pytest.raises(ValueError, match="unit square"):
        diffusion_advection(0.5, 1.5)
