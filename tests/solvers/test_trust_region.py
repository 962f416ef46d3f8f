"""The trust-region problem with known eigenvalues: the conditions of Moré and Sorensen, in every case that there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.solvers.trust_region import Radius, Spectrum, reduction_ratio, spectral_step

finite = st.floats(-1e3, 1e3).map(lambda x: 0.0 if abs(x) < 1e-6 else x)


def check(eigenvalues, gradient, radius):
    """‖(B + σI)p + g‖ = 0, ‖p‖ ≤ Δ, σ ≥ 0, σ (Δ − ‖p‖) = 0, B + σI ≥ 0: necessary and sufficient for a minimiser."""
    eigenvalues, gradient = np.asarray(eigenvalues, dtype=float), np.asarray(gradient, dtype=float)
    step = spectral_step(Spectrum(eigenvalues, gradient), radius)
    p, sigma, size = step.coefficients, step.multiplier, np.abs(eigenvalues).max()
    kkt = (eigenvalues + sigma) * p + gradient
    assert np.linalg.norm(kkt) <= 1e-10 * (np.linalg.norm(gradient) + (size + sigma) * np.linalg.norm(p))
    assert step.length == pytest.approx(np.linalg.norm(p), rel=1e-14)
    assert step.length <= radius * (1 + 1e-12)
    assert sigma >= 0.0
    assert sigma * abs(radius - step.length) <= 1e-10 * (1 + sigma) * radius
    assert eigenvalues.min() + sigma >= -1e-12 * max(1.0, size)
    model = gradient @ p + 0.5 * p @ (eigenvalues * p)
    assert step.reduction == pytest.approx(-model, rel=1e-12, abs=1e-300)
    assert step.reduction >= 0.0
    return step


@given(
    pairs=st.lists(st.tuples(finite, finite), min_size=1, max_size=8),
    radius=st.floats(1e-3, 1e2),
)
def test_it_is_the_global_minimiser(pairs, radius):
    check(*zip(*pairs, strict=True), radius)


@pytest.mark.parametrize(
    ("eigenvalues", "gradient", "radius", "length", "multiplier"),
    [
        ([1.0, 2.0], [1.0, 2.0], 10.0, np.sqrt(2.0), 0.0),  # Newton's step is inside
        ([1.0, 1.0], [3.0, 4.0], 1.0, 1.0, 4.0),  # on the boundary
        ([-1.0, 1.0], [1.0, 0.0], 2.0, 2.0, 1.5),  # a direction of negative curvature with a gradient along it
        ([-1.0, 1.0], [0.0, 1.0], 2.0, 2.0, 1.0),  # the hard case
        ([-1.0, -1.0, 3.0], [0.0, 0.0, 0.0], 0.5, 0.5, 1.0),  # a saddle
        ([0.0, 1.0], [0.0, 1.0], 5.0, 1.0, 0.0),  # singular, and nothing to gain along its null vector
        ([0.0, 1.0], [1.0, 0.0], 5.0, 5.0, 0.2),  # singular, linear along it
    ],
)
def test_cases_that_are_solved_by_hand(eigenvalues, gradient, radius, length, multiplier):
    step = check(eigenvalues, gradient, radius)
    assert step.length == pytest.approx(length, rel=1e-12)
    assert step.multiplier == pytest.approx(multiplier, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("part", [1e-16, 1e-13, 1e-10, 1e-6])
def test_next_to_the_hard_case_there_is_no_cancellation(part):
    check([-1.0, 1.0, 2.0], [part, 1.0, 1.0], 3.0)


def test_the_radius_follows_the_ratio():
    rules = Radius()
    assert rules.after(1.0, 0.05) == 0.5
    assert rules.after(1.0, 0.5) == 1.0
    assert rules.after(1.0, 0.9) == 2.0
    assert rules.after(8.0, 0.9) == 10.0


def test_a_ratio_of_what_is_no_number_is_a_refusal():
    assert reduction_ratio(1.0, np.inf, 0.1) == 0.0
    assert reduction_ratio(1.0, 0.5, -0.1) == 0.0
    assert reduction_ratio(1.0, 0.5, 1.0) == 0.5
    assert reduction_ratio(1.0, 1.0 - 1e-16, 1e-16) == 1.0  # of round-off alone
