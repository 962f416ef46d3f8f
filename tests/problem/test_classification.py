"""Labelled data and terms of classes: what is refused."""

import numpy as np
import pytest
from mpi4py import MPI
from toys import Toy, mlp

from pescitrain.errors import ProblemError
from pescitrain.evaluation.samples import SamplingPlan, sample_terms
from pescitrain.geometry import Sampling
from pescitrain.problem import Classes, ClassificationProblem, LabelledData, Surrogate

POINTS = np.linspace(-1.0, 1.0, 6).reshape(3, 2)


@pytest.mark.parametrize(
    ("inputs", "labels", "sentence"),
    [
        (POINTS, [0, 1], r"inputs \(3, 2\) and labels \(2,\) must be"),
        (POINTS[:, 0], [0, 1, 2], r"inputs \(3,\) and labels"),
        (POINTS[:0], [], r"inputs \(0, 2\)"),
        (POINTS * [1.0, np.nan], [0, 1, 2], "the inputs hold NaN or infinity"),
    ],
)
def test_data_that_do_not_fit_are_refused(inputs, labels, sentence):
    with pytest.raises(ProblemError, match=sentence):
        LabelledData(inputs, labels)


@pytest.mark.parametrize("labels", [[0, 1, -1], [0, 0.5, 1]])
def test_classes_are_whole_numbers(labels):
    with pytest.raises(ProblemError, match=r"classes are the whole numbers 0, 1, …"):
        Classes(POINTS, labels)


def test_a_class_without_a_field_is_refused():
    problem = Toy([Classes(POINTS, [0, 1, 2])], fields=("a", "b"))
    surrogate = Surrogate(problem, {"network": mlp()(problem.domain(), 2, 0)}, None)
    plan = SamplingPlan(Sampling(4), Sampling(4), 0)
    with pytest.raises(ProblemError, match=r"class 2 needs 3 fields, there are 2"):
        sample_terms(problem, surrogate, problem.domain(), plan, MPI.COMM_SELF, 10)


def test_a_problem_without_data_says_what_it_needs():
    with pytest.raises(ProblemError, match=r"has no training\(\): return its LabelledData"):
        ClassificationProblem().training()
    with pytest.raises(ProblemError, match=r"has no validation\(\): return LabelledData that are not trained on"):
        ClassificationProblem().validation()
