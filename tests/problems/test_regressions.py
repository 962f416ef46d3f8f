"""The shipped regression problems: their data are what they say, and independent formulas give the same."""

import numpy as np
import pytest

from pescitrain.errors import ProblemError
from pescitrain.problems.borehole import RANGES, Borehole, flow
from pescitrain.problems.diffusion_absorption import DiffusionAbsorption, mean_fluxes

ONE = np.ones(4)


@pytest.mark.parametrize("kind", [Borehole, DiffusionAbsorption])
def test_training_and_validation_are_other_draws_of_the_same_map(kind):
    problem = kind(samples=30, tests=20)
    training, validation = problem.training(), problem.validation()
    assert (len(training), len(validation)) == (30, 20)
    for data in (training, validation):
        assert data.inputs.shape[1] == len(problem.coordinates)
        assert data.values.shape[1] == len(problem.fields)
        assert (data.values > 0.0).all()
    assert not np.isin(validation.inputs, training.inputs).any()
    assert np.array_equal(kind(samples=30, tests=20).training().values, training.values)
    assert not np.array_equal(kind(samples=30, tests=20, data_seed=1).training().inputs, training.inputs)


def test_the_flow_is_that_of_three_resistances_in_series():
    """Through the upper aquifer, down the well, through the lower aquifer."""
    inputs = Borehole(samples=50).training().inputs
    radius, influence, upper, upper_head, lower, lower_head, length, conductivity = inputs.T
    around = np.log(influence / radius) / (2.0 * np.pi)
    resistance = around / upper + length / (np.pi * radius**2 * conductivity) + around / lower
    np.testing.assert_allclose(flow(inputs), (upper_head - lower_head) / resistance, rtol=1e-13)
    lowest, highest = np.array(list(RANGES.values())).T
    assert ((inputs >= lowest) & (inputs <= highest)).all()


def test_the_mean_flux_converges_to_a_known_one():
    """−Δφ = 1 has the mean 0.035144254 in the unit square; the error falls by four when cells are halved."""
    errors = [mean_fluxes(ONE, 0.0 * ONE, ONE, cells) - 0.035144254 for cells in (10, 20, 40)]
    assert np.abs(errors[2]).max() < 1e-4
    np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.03)
    np.testing.assert_allclose(errors[1] / errors[2], 4.0, rtol=0.03)


def test_without_diffusion_the_flux_is_the_source_over_the_absorption():
    absorption, source = np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(mean_fluxes(1e-12 * ONE, absorption, source), source / absorption, rtol=1e-8)


def test_fluxes_follow_the_regions_and_are_reciprocal():
    """Regions that are exchanged exchange the fluxes; a source in i is seen in j as one in j is in i."""
    generator = np.random.default_rng(0)
    diffusion, absorption = generator.uniform(0.1, 1.0, 4), generator.uniform(1.0, 10.0, 4)
    response = np.array([mean_fluxes(diffusion, absorption, unit) for unit in np.eye(4)])
    np.testing.assert_allclose(response, response.T, rtol=1e-11)
    for order in ([1, 0, 3, 2], [2, 3, 0, 1], [0, 2, 1, 3]):  # mirrored in x, in y, and in the diagonal
        mirrored = mean_fluxes(diffusion[order], absorption[order], np.arange(4.0)[order])
        np.testing.assert_allclose(mirrored, mean_fluxes(diffusion, absorption, np.arange(4.0))[order], rtol=1e-11)


@pytest.mark.parametrize("kind", [Borehole, DiffusionAbsorption])
def test_numbers_that_make_no_sense_are_refused(kind):
    with pytest.raises(ProblemError, match="-problem_samples is 2 or more"):
        kind(samples=1)
    with pytest.raises(ProblemError, match="-problem_tests 1 or more"):
        kind(tests=0)
