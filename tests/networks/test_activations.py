"""Activations with their derivatives."""

import pytest
import torch
from toys import derivative

from pescitrain.networks import ACTIVATIONS

PLAIN = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "gelu": torch.nn.functional.gelu,
    "identity": lambda z: z,
}
Z = torch.tensor([-30.0, -3.0, -1.1, -1e-3, 0.0, 0.4, 1.0, 2.5, 30.0], dtype=torch.float64)


def test_every_activation_is_compared_with_the_plain_function():
    assert set(ACTIVATIONS) == set(PLAIN)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("count", range(7))
def test_derivatives_are_those_of_nested_differentiation(name, count):
    derivatives = ACTIVATIONS[name](Z, count)
    assert len(derivatives) == count + 1
    for k, values in enumerate(derivatives):
        expected = torch.func.vmap(derivative(lambda z: PLAIN[name](z), (0,) * k))(Z[:, None])[:, 0]
        # Sixth derivatives of tanh reach 272, and have cancelling terms of the size of 1000.
        torch.testing.assert_close(values, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_derivatives_have_the_shape_and_dtype_of_the_argument(name, dtype):
    z = torch.linspace(-1, 1, 6, dtype=dtype).view(2, 3)
    assert all(d.shape == z.shape and d.dtype == dtype for d in ACTIVATIONS[name](z, 4))
