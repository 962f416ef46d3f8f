"""Random rows of J: which ones on any number of ranks, and how they are weighted."""

import numpy as np
import pytest
from toys import CASES, opaque, start

pytestmark = pytest.mark.parallel

PATHS = {"factors": lambda make: make, "functions": opaque}
NAMES = ("two rows", "wave, periodic term", "inverse", "lifted")


def close(one, other, tolerance=1e-12):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_are_drawn_on_any_number_of_ranks_and_in_any_chunks(comm, name, path):
    shared, serial = (
        CASES[name].build(comm, wrap=PATHS[path], chunk_size=4),
        CASES[name].build(wrap=PATHS[path], chunk_size=100),
    )
    theta = start(serial)
    ours, alone = (evaluator.linearize(theta).subset(9, 5) for evaluator in (shared, serial))
    assert comm.allreduce(ours.rows) == alone.rows < serial.residual_count
    close(ours.gauss_newton_matrix(), alone.gauss_newton_matrix())
    close(ours.transpose_times(ours.residual), alone.transpose_times(alone.residual))


@pytest.mark.parallel(1)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", NAMES)
def test_they_are_rows_of_the_whole_times_the_root_of_what_they_stand_for(name, path):
    evaluator = CASES[name].build(wrap=PATHS[path], chunk_size=4)
    whole = evaluator.linearize(start(evaluator))
    rows, position = [], 0
    part = whole.subset(9, 5)
    jacobian, everything = part.dense(), whole.dense()
    drawn = {place.term: place.total for place in part.places}
    for number, term in enumerate(evaluator.samples):
        count, total = drawn[number], len(term.points)
        scale = np.sqrt(total / count)
        own = everything[position : position + total * term.rows]
        for row in jacobian[len(rows) : len(rows) + count * term.rows]:
            distance = np.abs(scale * own - row).max(axis=1)
            rows.append(position + int(distance.argmin()))
            assert distance.min() <= 1e-12 * np.abs(row).max()
            close(part.residual[len(rows) - 1], scale * whole.residual[rows[-1]])
        position += total * term.rows
    assert len(set(rows)) == len(rows) == len(jacobian)


def test_the_average_of_many_draws_is_the_whole_matrix(comm):
    evaluator = CASES["poisson"].build(comm, chunk_size=4)
    whole = evaluator.linearize(start(evaluator))
    draws = [whole.subset(8, draw).gauss_newton_matrix() for draw in range(200)]
    exact = whole.gauss_newton_matrix()
    deviation = np.std(draws, axis=0) / np.sqrt(len(draws))
    assert (np.abs(np.mean(draws, axis=0) - exact) <= 5.0 * deviation + 1e-12 * np.abs(exact).max()).all()


def test_another_draw_takes_other_rows_and_the_same_draw_the_same(comm):
    evaluator = CASES["poisson"].build(comm)
    whole = evaluator.linearize(start(evaluator))
    first, again, other = (whole.subset(8, draw).gauss_newton_diagonal() for draw in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_all_rows_are_the_whole(comm):
    evaluator = CASES["poisson"].build(comm)
    whole = evaluator.linearize(start(evaluator))
    assert whole.subset(evaluator.residual_count, 0) is whole
