"""The rows of a loss: their products are its derivatives by `torch.func`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from toys import CASES, start

from pescitrain.problem.losses import SoftmaxCrossEntropy, Squares

CLASSES = 4
LOGITS = arrays(np.float64, (3, CLASSES), elements=st.floats(-30.0, 30.0))
LABELS = arrays(np.float64, 3, elements=st.integers(0, CLASSES - 1).map(float))


def rows_and_derivative(loss, outputs, data):
    rows = loss.rows(outputs, data)
    return rows.detach(), torch.func.jacrev(lambda z: loss.rows(z, data))(outputs)


@given(LOGITS, LABELS)
def test_rows_of_classes_give_the_gradient_and_the_hessian_of_the_cross_entropy(logits, labels):
    loss, outputs, data = SoftmaxCrossEntropy(), torch.from_numpy(logits), torch.from_numpy(labels)

    def total(z):
        return torch.nn.functional.cross_entropy(z, data.long(), reduction="sum")

    rows, derivative = rows_and_derivative(loss, outputs, data)
    torch.testing.assert_close(loss.values(outputs, data).sum(), total(outputs), rtol=1e-13, atol=1e-12)
    gradient = torch.einsum("nk,nkml->ml", rows, derivative)
    hessian = torch.einsum("nkab,nkcd->abcd", derivative, derivative)
    # entries are at most 1; (p − e) / √p is 1/√p times larger, 3e6 for a difference of logits of 30
    torch.testing.assert_close(gradient, torch.func.grad(total)(outputs), rtol=0.0, atol=1e-12)
    torch.testing.assert_close(hessian, torch.func.hessian(total)(outputs), rtol=0.0, atol=1e-13)


def test_a_sample_that_is_hopelessly_wrong_gives_finite_rows():
    loss, outputs = SoftmaxCrossEntropy(), torch.tensor([[0.0, 5000.0, 0.0]], dtype=torch.float64)
    rows = loss.rows(outputs, torch.zeros(1, dtype=torch.float64))
    assert rows.isfinite().all()
    assert rows.square().isfinite().all()
    assert loss.values(outputs, torch.zeros(1, dtype=torch.float64)) == 5000.0


def test_squares_are_their_own_rows():
    outputs = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert Squares().rows(outputs, None) is outputs
    torch.testing.assert_close(Squares().values(outputs, None), 0.5 * (outputs**2).sum(1))


def test_the_objective_of_classes_is_the_mean_of_torch_s_cross_entropy():
    evaluator = CASES["classes"].build()
    assert not evaluator.quadratic
    theta, (samples,) = start(evaluator), evaluator.samples
    evaluator.parameters.put(theta)
    logits = evaluator.surrogate(torch.from_numpy(samples.points.x)).detach()
    labels = torch.from_numpy(samples.term.data).long()
    expected = 2.0 * float(torch.nn.functional.cross_entropy(logits, labels))  # its weight is 2
    assert evaluator.objective(theta).objective == pytest.approx(expected, rel=1e-13)
    evaluator.forget()
    evaluator.linearize(theta)
    assert evaluator.objective(theta).objective == pytest.approx(expected, rel=1e-13)
