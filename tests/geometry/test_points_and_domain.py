"""Shares of point sets, sampling requests, and names."""

import numpy as np
import pytest
from geometry.shapes import unit_mesh  # pyright: ignore[reportMissingImports]
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.errors import MeshError, ProblemError
from pescitrain.geometry import Box, Domain, PointSet, Sampling
from pescitrain.geometry.domain import split_names


def numbered(count: int) -> PointSet:
    x = np.arange(2.0 * count).reshape(count, 2)
    return PointSet(x, np.linspace(1.0, count, count), -x, np.arange(count))


@given(st.integers(0, 40), st.integers(1, 7))
def test_the_shares_of_all_ranks_follow_each_other_and_differ_by_one_point_at_most(count, size):
    whole = numbered(count)
    shares = [whole.slice(rank, size) for rank in range(size)]
    joined = PointSet.concatenate(shares)
    assert np.array_equal(joined.x, whole.x)
    assert np.array_equal(joined.weights, whole.weights)
    assert joined.normals is not None and np.array_equal(joined.normals, -whole.x)
    assert joined.cells is not None and np.array_equal(joined.cells, np.arange(count))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_a_rank_beyond_the_size_is_refused():
    with pytest.raises(ValueError, match="rank 2"):
        numbered(3).slice(2, 2)


def test_the_measure_is_the_sum_of_the_weights():
    assert numbered(4).measure == 10.0


def test_normals_are_dropped_where_one_part_has_none():
    assert PointSet.concatenate([numbered(2), PointSet(np.zeros((1, 2)), np.ones(1))]).normals is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "sobl", "count": 3}, "did you mean 'sobol'"),
        ({"kind": "uniform"}, "needs a number of points"),
        ({"kind": "uniform", "count": 0}, "needs a number of points"),
        ({"kind": "quadrature", "order": -1}, "order of -1"),
    ],
)
def test_an_impossible_sampling_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ProblemError, match=message):
        Sampling(**arguments)


def test_names_are_split_once_each_and_a_name_with_a_plus_stays_whole():
    known = ["a", "b", "a+b"]
    assert split_names("b + a+b", known, "part", ProblemError) == ["b", "a"]
    assert split_names("a+b", known, "part", ProblemError) == ["a+b"]
    assert split_names(("b", "a"), known, "part", ProblemError) == ["b", "a"]
    assert split_names(None, known, "part", ProblemError) == []
    with pytest.raises(ProblemError, match="empty list"):
        split_names((), known, "part", ProblemError)


@pytest.mark.parametrize(
    ("domain", "error"), [(Box("xy", (0, 0), (1, 1)), ProblemError), (unit_mesh("triangle"), MeshError)]
)
def test_boxes_and_meshes_answer_to_the_same_questions(domain: Domain, error):
    sampling = Sampling(16, "sobol")
    assert domain.dimension == 2
    assert domain.names()["interior"][0] == "interior"
    assert domain.names()["boundary"][0] == "boundary"
    assert domain.interior("interior", sampling, 1).measure == pytest.approx(1.0, rel=1e-14)  # round-off of 16 terms
    assert domain.boundary("boundary", sampling, 1).measure == pytest.approx(4.0, rel=1e-14)
    with pytest.raises(error, match=r"no .* 'x_mim'.*did you mean 'x_min'.*x_max") as failure:
        domain.boundary("x_mim", sampling)
    assert str(failure.value).count(".") == 1
    with pytest.raises(error, match="'inside'"):
        domain.interior("inside", sampling)
