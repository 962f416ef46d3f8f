from __future__ import annotations

import numpy as np
import pytest

from pescitrain.problems.references import allen_cahn
from pescitrain.problems.references.allen_cahn import allen_cahn_paper

from .finite_differences import first, second


@pytest.mark.parametrize(
    ("x", "t", "value"),
    [
        (0.0, 0.5, 0.0120014413768),
        (0.0, 1.0, 0.2753264570739),
        (0.25, 1.0, 0.9873211594187),
        (0.5, 1.0, -0.2475010762981),
        (0.75, 1.0, -0.9998570287143),
    ],
)
def test_values_agree_to_all_digits(x: float, t: float, value: float) -> None:
    assert allen_cahn_paper(x, t) == pytest.approx(value, abs=5e-13)
    assert allen_cahn_paper(-x, t) == pytest.approx(value, abs=5e-13)


def test_equation_holds_at_any_time() -> None:
    points = np.random.default_rng(3).uniform([-0.98, 0.02], [0.98, 0.98], (1000, 2))

    def u(point: np.ndarray) -> np.ndarray:
        return allen_cahn_paper(point[:, 0], point[:, 1])

    value = u(points)
    residual = first(u, points, 1, 4e-3) - 0.001 * second(u, points, 0, 1e-3) - 5.0 * (value - value**3)
    assert np.abs(residual).max() < 1e-9


def test_initial_and_boundary_conditions_hold() -> None:
    x = np.linspace(-1.0, 1.0, 201)
    np.testing.assert_allclose(allen_cahn_paper(x, 0.0), x**2 * np.cos(np.pi * x), rtol=0, atol=1e-13)
    np.testing.assert_allclose(allen_cahn_paper([[-1.0], [1.0]], np.linspace(0, 1, 101)), -1.0, rtol=0, atol=2e-13)


def test_slabs_join() -> None:
    edges, blocks = allen_cahn._load()
    assert len(blocks) == edges.size - 1
    x = np.linspace(-1.0, 1.0, 301)
    for edge in edges[1:-1]:
        tolerance = 5e-13 if edge > 1e-4 else 2e-11
        before, after = allen_cahn_paper(x, np.nextafter(edge, 0.0)), allen_cahn_paper(x, edge)
        np.testing.assert_allclose(before, after, rtol=0, atol=tolerance)


def test_stored_solution_agrees_with_a_coarser_computation() -> None:
    edges = np.concatenate([[0.0], 1e-7 * 3.0 ** np.arange(11), [0.01, 0.02, 0.04, 0.06, 0.08, 0.1]])
    slabs = list(allen_cahn.solve(degree=240, stages=9, edges=edges))
    y = allen_cahn.chebyshev_matrices(240)[0]
    np.testing.assert_allclose(slabs[-1][-1], allen_cahn_paper(np.sqrt(0.5 * (1.0 + y)), 0.1), rtol=0, atol=1e-11)


def test_arguments_broadcast_and_points_outside_are_refused() -> None:
    grid = allen_cahn_paper(np.linspace(-1, 1, 17)[:, None], np.linspace(0, 1, 9))
    assert grid.shape == (17, 9)
    assert grid[12, 8] == pytest.approx(float(allen_cahn_paper(0.5, 1.0)), abs=1e-15)
    with pytest.raises(ValueError, match="-1 <= x <= 1"):
        allen_cahn_paper(1.5, 0.5)
    with pytest.raises(ValueError, match="0 <= t <= 1"):
        allen_cahn_paper(0.5, 1.1)
