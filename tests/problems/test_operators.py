"""The data of the shipped operators: what they solve, and that they depend on a sample's number alone."""

import math

import numpy as np
import pytest

from pescitrain.errors import ProblemError
from pescitrain.problems.advection_operator import FAMILIES, AdvectionOperator
from pescitrain.problems.diffusion_operator import DiffusionOperator
from pescitrain.problems.references.anisotropic_diffusion import AnisotropicDiffusion
from pescitrain.problems.references.random_fields import PeriodicField, covariance_factor


def test_the_elements_converge_with_the_square_of_their_size():
    angle, ratio = 0.7, 0.05
    c, s = math.cos(angle), math.sin(angle)
    k_xx, k_yy, k_xy = c * c + ratio * s * s, s * s + ratio * c * c, (1 - ratio) * c * s
    errors = []
    for cells in (20, 40, 80):
        x, y = np.meshgrid(*[np.linspace(0, 1, cells + 1)] * 2, indexing="ij")
        u = np.sin(math.pi * x) * np.sin(2 * math.pi * y)
        mixed = 2 * math.pi**2 * np.cos(math.pi * x) * np.cos(2 * math.pi * y)
        source = math.pi**2 * (k_xx + 4 * k_yy) * u - 2 * k_xy * mixed
        errors.append(np.abs(AnisotropicDiffusion(cells).solve(angle, ratio, source) - u).max())
    # published to three digits for these elements and this function
    np.testing.assert_allclose(errors, [9.70e-3, 2.48e-3, 6.21e-4], rtol=2e-3)


def test_fields_have_the_covariance_that_they_say():
    points = np.linspace(0.0, 1.0, 41)
    for length in (0.05, 0.1, 0.5):
        factor = covariance_factor(points, length)
        exact = np.exp(-0.5 * ((points[:, None] - points) / length) ** 2)
        assert np.abs(factor @ factor.T - exact).max() <= 1.1e-10  # the jitter
    generator = np.random.default_rng(0)
    x = np.array([0.2, 0.3, 1.2])
    drawn = np.array([PeriodicField(0.1, generator)(x) for _ in range(20000)])
    covariance = drawn.T @ drawn / len(drawn)
    # five standard deviations of a mean of 20000 products, each of deviation at most √2
    np.testing.assert_allclose(covariance[0], [1.0, math.exp(-0.5), 1.0], rtol=0.0, atol=5 * math.sqrt(2 / 20000))
    np.testing.assert_allclose(drawn[:, 0], drawn[:, 2], rtol=0.0, atol=1e-11)  # the period


@pytest.mark.parametrize("family", FAMILIES)
def test_advection_moves_the_function_that_the_sensors_see(family):
    data = AdvectionOperator(family, samples=3, tests=1).training()
    assert data.inputs.shape == (3, 40)
    assert data.values.shape == (3, 1600)
    first = data.values.reshape(3, 40, 40)[:, :, 0]  # t = 0
    np.testing.assert_allclose(first, data.inputs, rtol=0.0, atol=1e-12)
    if family == "grf":  # at t = 1 it is back; where functions jump, round-off decides on which side
        np.testing.assert_allclose(data.values.reshape(3, 40, 40)[:, :, -1], data.inputs, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("problem", [AdvectionOperator, DiffusionOperator])
def test_a_sample_depends_on_its_number_alone(problem):
    few, many = problem(samples=2, tests=2), problem(samples=4, tests=1)
    assert np.array_equal(few.training().values, many.training().values[:2])
    assert np.array_equal(few.training().inputs, many.training().inputs[:2])
    assert not np.array_equal(few.training().values, few.validation().values)
    assert not np.array_equal(few.training().values, problem(samples=2, data_seed=1).training().values)
    with pytest.raises(ProblemError, match="-problem_samples and -problem_tests are numbers of 1 or more"):
        problem(samples=0)


def test_diffusion_has_its_direction_its_ratio_and_its_source_as_inputs():
    data = DiffusionOperator(samples=2, tests=1).training()
    assert data.inputs.shape == (2, 3 + 21 * 21)
    cosine, sine, exponent = data.inputs[0, :3]
    assert cosine**2 + sine**2 == pytest.approx(1.0, rel=1e-14)
    assert -2.0 <= exponent <= 0.0
    edge = (data.locations % 1.0 == 0.0).any(1)
    assert edge.sum() == 160
    assert not data.values[:, edge].any()


def test_an_unknown_family_is_refused_with_those_there_are():
    with pytest.raises(ProblemError, match=r"-problem_family bx: there are box, box_ellipse, grf, sign"):
        AdvectionOperator("bx")
