"""The leading modes of outputs, and the trunk that holds them."""

import numpy as np
import pytest
import torch

from pescitrain.networks.fixed_basis import FixedBasis
from pescitrain.problem import OperatorData
from pescitrain.problem.pod import leading_modes

X = np.random.default_rng(1).uniform(size=(40, 2))


def data(count=25, rank=3):
    generator = np.random.default_rng(0)
    functions = np.stack([np.sin((k + 1) * X[:, 0] + k * X[:, 1]) / 10.0**k for k in range(rank)])
    return OperatorData(np.zeros((count, 1)), X, 2.0 + generator.standard_normal((count, rank)) @ functions)


@pytest.mark.parametrize("count", [2, 3])
def test_no_basis_of_that_size_describes_the_outputs_better(count):
    samples = data()
    locations, mean, modes = leading_modes(samples, count)
    assert modes.shape == (40, count)
    np.testing.assert_array_equal(locations, X)
    centred = samples.values - samples.values.mean(0)
    np.testing.assert_allclose(mean, samples.values.mean(0), rtol=1e-14)
    coefficients = np.linalg.lstsq(modes, centred.T, rcond=None)[0]
    error = np.linalg.norm(centred.T - modes @ coefficients)
    left = np.linalg.svd(centred, compute_uv=False)[count:]
    np.testing.assert_allclose(error, np.sqrt((left**2).sum()), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(coefficients.std(1), 1.0, rtol=1e-6)


def test_there_are_no_more_modes_than_the_outputs_have():
    assert leading_modes(data(rank=3), 10)[2].shape == (40, 3)
    same = OperatorData(np.zeros((5, 1)), X, np.ones((5, 40)))
    assert leading_modes(same, 10)[2].shape == (40, 1)


def test_between_locations_the_nearest_one_counts():
    basis = FixedBasis(X, X[:, 0], np.stack((X[:, 1], X[:, 0] ** 2), 1))
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(basis(x), np.stack((X[:, 1], X[:, 0] ** 2), 1))
    np.testing.assert_array_equal(basis.mean(x + 1e-6), X[:, 0])
    assert list(basis.parameters()) == []
    shape = {"x": {0: torch.export.Dim("rows")}}
    exported = torch.export.export(basis, (x[:7],), dynamic_shapes=shape).module()
    there = torch.rand(11, 2, dtype=torch.float64)
    torch.testing.assert_close(exported(there), basis(there), rtol=0.0, atol=0.0)
