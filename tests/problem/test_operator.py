"""Operator data that do not fit, and the surrogate of a branch and a trunk."""

import numpy as np
import pytest
import torch

from pescitrain.errors import ProblemError
from pescitrain.networks import MLP, ScaleToUnitBox
from pescitrain.problem import OperatorData, OperatorProblem, OperatorSurrogate

INPUTS, LOCATIONS, VALUES = np.ones((3, 2)), np.ones((4, 1)), np.ones((3, 4))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ((INPUTS[0], LOCATIONS, VALUES), r"must be \(N, s\), \(K, d\) and \(N, K\)"),
        ((INPUTS, LOCATIONS, VALUES.T), r"inputs \(3, 2\), locations \(4, 1\), values \(4, 3\) do not fit"),
        ((INPUTS[:0], LOCATIONS, VALUES[:0]), "do not fit"),
        ((INPUTS * np.nan, LOCATIONS, VALUES), "the inputs hold NaN or infinity"),
        ((INPUTS, LOCATIONS, VALUES * np.inf), "the values hold NaN or infinity"),
        ((INPUTS, LOCATIONS, VALUES * [[1], [0], [1]]), "sample 1 is zero everywhere"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_one_sentence(arrays, sentence):
    with pytest.raises(ProblemError, match=sentence):
        OperatorData(*arrays)


class Product(OperatorProblem):
    coordinates = ("x",)

    def training(self):
        return OperatorData(INPUTS, LOCATIONS, VALUES)


def test_it_is_the_sum_of_products_of_branch_and_basis():
    networks = {
        name: MLP(ScaleToUnitBox([-1.0] * d, [1.0] * d), d, 5, 4, 1, generator=torch.Generator().manual_seed(d))
        for name, d in (("branch", 2), ("trunk", 1))
    }
    surrogate = OperatorSurrogate(Product(), networks, 2, hard=False)
    a, y = torch.rand(3, 2, dtype=torch.float64), torch.rand(4, 1, dtype=torch.float64)
    expected = torch.einsum("np,kp->nk", networks["branch"](a), torch.tanh(networks["trunk"](y)))
    torch.testing.assert_close(surrogate(a, y), expected)
    with pytest.raises(ProblemError, match=r"Product has no factor\(\); use -bc_enforce soft"):
        OperatorSurrogate(Product(), networks, 2, hard=True)


def test_what_a_problem_must_have_is_said():
    problem = OperatorProblem()
    with pytest.raises(ProblemError, match=r"has no training\(\)"):
        problem.terms()
    with pytest.raises(ProblemError, match=r"has no validation\(\)"):
        problem.validation()
