"""Truncated conjugate gradients: Newton's step inside, the boundary otherwise, and the fall of the model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.solvers.truncated_cg import truncated_cg


def problem(seed, size, shift):
    random = np.random.default_rng(seed)
    root = random.standard_normal((size, size))
    return root @ root.T / size + shift * np.eye(size), random.standard_normal(size)


def fall(matrix, gradient, p):
    return -gradient @ p - 0.5 * p @ matrix @ p


@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(-2.0, 1.0), st.floats(1e-3, 1e3))
def test_the_step_stays_in_the_region_and_falls_at_least_as_the_gradient_does(seed, size, shift, radius):
    matrix, gradient = problem(seed, size, shift)
    p, reduction = truncated_cg(lambda v: matrix @ v, gradient, radius, 50, 1e-10)
    length = np.linalg.norm(p)
    assert length <= radius * (1 + 1e-12)
    assert reduction == pytest.approx(fall(matrix, gradient, p), rel=1e-8, abs=1e-12)
    curvature = gradient @ matrix @ gradient
    along = radius / np.linalg.norm(gradient)
    if curvature > 0.0:
        along = min(along, gradient @ gradient / curvature)
    assert reduction >= fall(matrix, gradient, -along * gradient) * (1 - 1e-10)  # the Cauchy point
    if np.linalg.eigvalsh(matrix)[0] < 0.0:
        return
    newton = -np.linalg.lstsq(matrix, gradient, rcond=None)[0]
    if np.linalg.eigvalsh(matrix)[0] > 0.1 and np.linalg.norm(newton) < 0.9 * radius:
        np.testing.assert_allclose(p, newton, rtol=0.0, atol=1e-7 * np.linalg.norm(newton))


def test_iterations_and_tolerance_end_it():
    matrix, gradient = problem(3, 10, 0.1)
    calls = []

    def product(v):
        calls.append(1)
        return matrix @ v

    truncated_cg(product, gradient, 1e6, 3, 0.0)
    assert len(calls) == 3
    p, _ = truncated_cg(product, gradient, 1e6, 100, 0.1)
    assert len(calls) < 13
    assert 1e-6 < np.linalg.norm(matrix @ p + gradient) / np.linalg.norm(gradient) <= 0.1


def test_negative_curvature_leads_to_the_boundary():
    p, reduction = truncated_cg(lambda v: -v, np.array([1.0, 0.0]), 2.0, 5, 1e-6)
    np.testing.assert_allclose(p, [-2.0, 0.0])
    assert reduction == pytest.approx(4.0)


def test_no_gradient_is_no_step():
    p, reduction = truncated_cg(lambda v: v, np.zeros(3), 1.0, 5, 1e-6)
    assert not p.any()
    assert reduction == 0.0
