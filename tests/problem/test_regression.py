"""Regression data and the term of quantities: what is refused, what is minimised, in which units the surrogate is."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from toys import Toy, mlp

from pescitrain.errors import ProblemError
from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.metrics import RegressionMetric
from pescitrain.evaluation.samples import SamplingPlan, sample_terms
from pescitrain.geometry import Sampling
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import Quantities, RegressionData, RegressionProblem, Surrogate

PLAN = SamplingPlan(Sampling(4), Sampling(4), 0)
INPUTS = np.random.default_rng(0).uniform(-1.0, 1.0, (7, 2))
VALUES = np.stack([1e3 + 50.0 * INPUTS[:, 0], 1e-3 * INPUTS.prod(1)], axis=1)


class Quarry(RegressionProblem):
    coordinates = ("a", "b")
    fields = ("large", "small")

    def training(self):
        return RegressionData(INPUTS, VALUES)


def surrogate_of(problem):
    network = mlp()(problem.domain(), len(problem.fields), 0)
    return Surrogate(problem, {"network": network}, problem.scaling())


@pytest.mark.parametrize(
    ("inputs", "values", "sentence"),
    [
        (INPUTS, VALUES[:6], r"inputs \(7, 2\) and values \(6, 2\) must be \(N, s\) and \(N, k\)"),
        (INPUTS, VALUES[:, 0], r"inputs \(7, 2\) and values \(7,\) must be"),
        (INPUTS[:, 0], VALUES, r"inputs \(7,\) and values \(7, 2\) must be"),
        (INPUTS[:0], VALUES[:0], r"inputs \(0, 2\) and values \(0, 2\) hold no samples"),
        (INPUTS * [1.0, np.nan], VALUES, "the inputs hold NaN or infinity"),
        (INPUTS, VALUES * [np.inf, 1.0], "the values hold NaN or infinity"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, values, sentence):
    with pytest.raises(ProblemError, match=sentence):
        RegressionData(inputs, values)


def test_a_problem_without_data_says_what_it_needs():
    with pytest.raises(ProblemError, match=r"has no training\(\): return its RegressionData"):
        RegressionProblem().training()
    with pytest.raises(ProblemError, match=r"has no validation\(\): return RegressionData that are not trained on"):
        RegressionProblem().validation()


def test_as_many_fields_as_quantities():
    problem = Toy([Quantities(INPUTS, VALUES)], fields=("a", "b", "c"))
    surrogate = Surrogate(problem, {"network": mlp()(problem.domain(), 3, 0)}, None)
    with pytest.raises(ProblemError, match="values of 2 quantities for 3 fields"):
        sample_terms(problem, surrogate, problem.domain(), PLAN, MPI.COMM_SELF, 10)


def test_quantities_are_weighed_by_their_deviations_and_given_in_their_units():
    problem = Quarry()
    surrogate = surrogate_of(problem)
    samples = sample_terms(problem, surrogate, problem.domain(), PLAN, MPI.COMM_SELF, 3)
    evaluator = Evaluator(problem, surrogate, FlatParameters(surrogate.networks), samples, MPI.COMM_SELF)
    with torch.no_grad():
        standard = surrogate.networks["network"](torch.from_numpy(INPUTS)).numpy()
        given = surrogate(torch.from_numpy(INPUTS)).numpy()
    np.testing.assert_allclose(given, VALUES.mean(0) + VALUES.std(0) * standard, rtol=1e-13)
    differences = standard - (VALUES - VALUES.mean(0)) / VALUES.std(0)
    objective = evaluator.objective(evaluator.parameters.current()).objective
    # 1e3 + 50 a loses three of sixteen digits when its mean is taken away again.
    np.testing.assert_allclose(objective, 0.5 * (differences**2).sum(1).mean(), rtol=1e-11)


def test_a_constant_quantity_is_left_as_it_is():
    data = RegressionData(INPUTS, np.stack([VALUES[:, 0], np.full(7, 3.0)], axis=1))
    np.testing.assert_array_equal(data.deviations, [VALUES[:, 0].std(), 1.0])


def test_the_error_is_that_of_each_quantity_relative_to_itself():
    surrogate = surrogate_of(Quarry())
    with torch.no_grad():
        given = surrogate(torch.from_numpy(INPUTS)).numpy()
    # Off by 3 % and by 4 %: in the root mean square by 5 / √2 %.
    data = RegressionData(INPUTS, given / (1.0 + np.array([0.03, -0.04])))
    assert RegressionMetric(surrogate, data, MPI.COMM_SELF).evaluate().rel_l2 == pytest.approx(0.05 / np.sqrt(2.0))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (
            RegressionData(INPUTS[:, :1], VALUES),
            r"inputs \(7, 1\) and values \(7, 2\) where the surrogate maps 2 inputs",
        ),
        (RegressionData(INPUTS, VALUES[:, :1]), r"values \(7, 1\) where the surrogate maps 2 inputs to 2 quantities"),
        (RegressionData(INPUTS, VALUES * [1.0, 0.0]), "small is zero in all samples and has no relative error"),
    ],
)
def test_validation_that_does_not_fit_is_refused(data, sentence):
    with pytest.raises(ProblemError, match=sentence):
        RegressionMetric(surrogate_of(Quarry()), data, MPI.COMM_SELF)
