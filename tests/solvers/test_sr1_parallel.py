"""Limited-memory SR1: secant equations, the dense recursion, the step against a dense one; the TAO type on top."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import CASES, LINEAR, least_squares_minimum, sentence_of, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers import limited_memory_sr1
from pescitrain.solvers.limited_memory_sr1 import LimitedMemorySR1
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver
from pescitrain.solvers.trust_region import Spectrum, spectral_step

pytestmark = pytest.mark.parallel

SIZE = 9


def own(comm, vector):
    return vector[len(vector) * comm.rank // comm.size : len(vector) * (comm.rank + 1) // comm.size]


def whole(comm, local):
    return np.concatenate(comm.allgather(np.asarray(local)))


def filled(comm, pairs, size=5):
    """A matrix that has learnt pairs (S, Y) of columns."""
    matrix = LimitedMemorySR1(size, PETSc.Comm(comm))
    for s, y in zip(*(columns.T for columns in pairs), strict=True):
        matrix.add(own(comm, s), own(comm, y))
    return matrix


def dense(comm, matrix):
    return np.stack([whole(comm, matrix.times(own(comm, column))) for column in np.eye(SIZE)], axis=1)


def pairs_of(seed, count, symmetric=True):
    random = np.random.default_rng(seed)
    a = random.standard_normal((SIZE, SIZE))
    steps = random.standard_normal((SIZE, count))
    changes = (a + a.T) @ steps
    return steps, changes if symmetric else changes + 0.3 * random.standard_normal((SIZE, count))


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_maps_the_last_step_to_the_last_change(comm, symmetric):
    steps, changes = pairs_of(0, 4, symmetric)
    matrix = filled(comm, (steps, changes))
    b = dense(comm, matrix)
    np.testing.assert_allclose(b, b.T, rtol=0.0, atol=1e-12 * np.abs(b).max())
    np.testing.assert_allclose(b @ steps[:, -1], changes[:, -1], rtol=0.0, atol=1e-10 * np.abs(changes).max())
    if symmetric:
        np.testing.assert_allclose(b @ steps, changes, rtol=0.0, atol=1e-10 * np.abs(changes).max())


def test_it_is_the_recursion_of_rank_one_updates_from_its_scale(comm):
    steps, changes = pairs_of(1, 4, symmetric=False)
    matrix = filled(comm, (steps, changes))
    b = matrix.scale * np.eye(SIZE)
    for s, y in zip(steps.T, changes.T, strict=True):
        residual = y - b @ s
        b = b + np.outer(residual, residual) / (residual @ s)
    np.testing.assert_allclose(dense(comm, matrix), b, rtol=0.0, atol=1e-9 * np.abs(b).max())


def test_with_as_many_pairs_as_dimensions_it_is_the_matrix(comm):
    steps, changes = pairs_of(2, SIZE)
    exact = changes @ np.linalg.inv(steps)
    np.testing.assert_allclose(dense(comm, filled(comm, (steps, changes), SIZE)), exact, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [1e-2, 1.0, 100.0])
def test_its_step_is_that_of_the_dense_matrix(comm, seed, radius):
    matrix = filled(comm, pairs_of(seed, seed, symmetric=seed % 2 == 0))
    gradient = np.random.default_rng(seed + 50).standard_normal(SIZE)
    step = matrix.solve(own(comm, gradient), radius)
    values, vectors = np.linalg.eigh(dense(comm, matrix))
    exact = spectral_step(Spectrum(values, vectors.T @ gradient), radius)
    p = whole(comm, step.vector)
    assert step.reduction == pytest.approx(exact.reduction, rel=1e-9)
    assert step.multiplier == pytest.approx(exact.multiplier, rel=1e-7, abs=1e-9)
    assert np.linalg.norm(p) == pytest.approx(step.length, rel=1e-10)
    residual = dense(comm, matrix) @ p + step.multiplier * p + gradient
    scale = np.linalg.norm(gradient) + np.abs(values).max() * np.linalg.norm(p)
    assert np.linalg.norm(residual) <= 1e-10 * scale


def test_pairs_that_say_nothing_are_not_learnt_and_old_ones_make_room(comm):
    steps, changes = pairs_of(3, 2)
    matrix = filled(comm, (steps, changes), size=2)
    before = dense(comm, matrix)
    known = own(comm, steps[:, 0]), own(comm, before @ steps[:, 0])
    assert not matrix.add(*known)
    assert not matrix.add(known[0], known[1] * np.nan)
    assert np.array_equal(dense(comm, matrix), before)
    more = pairs_of(4, 1)
    assert matrix.add(own(comm, more[0][:, 0]), own(comm, more[1][:, 0]))
    assert len(matrix.steps) == 2
    # the last pair once more, but for a ten-millionth: one of the two has to go
    assert matrix.add(own(comm, more[0][:, 0]), own(comm, more[1][:, 0] * (1 + 1e-7)))
    assert len(matrix.steps) == 1
    matrix.clear()
    assert np.array_equal(dense(comm, matrix), np.eye(SIZE))


# ---------------------------------------------------------------------------------------------------------- trlsr1


def run(comm, lengths, case=CASES["poisson, residual network"], **options):
    """The iterates (k, n), their objectives, and the last outcome, in segments as after a restart."""
    for key, value in {"tao_type": "trlsr1", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    found, memory, position, theta = [], {}, 0, start(case.build())
    outcome = None

    def watch(iterate):
        found.append((iterate.theta.copy(), iterate.objective))
        return False

    for length in lengths:
        system = system_of(case.build(comm))
        solver = TaoSolver(system, "", GaussNewtonSettings(), watch)
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        solver.destroy()
    return np.array([one[0] for one in found]), np.array([one[1] for one in found]), outcome


def test_it_never_rises_and_its_path_is_that_of_one_rank(comm):
    path, objectives, _ = run(comm, (25,))
    assert (np.diff(objectives) <= 0.0).all()
    assert objectives[-1] < 0.9 * objectives[0]
    alone, *_ = run(comm.Split(comm.rank), (25,))
    # twenty-five steps, each of which may multiply a difference in the order of sums
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-7)


def test_a_restart_goes_on_exactly(comm):
    (at_once, *_), (cut, *_) = run(comm, (12,)), run(comm, (5, 7))
    np.testing.assert_allclose(cut[-7:], at_once[-7:], rtol=0.0, atol=1e-12)


def test_it_finds_a_known_minimum(comm):
    path, _, outcome = run(comm, (400,), LINEAR, tao_gatol=1e-11, tao_max_it=400, tao_trlsr1_history=30)
    assert outcome.reason == "CONVERGED_GATOL"
    minimum = LINEAR.build().objective(least_squares_minimum()).objective
    assert LINEAR.build().objective(path[-1]).objective == pytest.approx(minimum, rel=1e-12)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("history", 0, "-tao_trlsr1_history 0: keep at least 1 pair"),
        ("radius", -1, "-tao_trlsr1_radius -1: it must be above 0"),
        ("radius", 20, "at most -tao_trlsr1_max_radius 10"),
    ],
)
def test_senseless_options_are_refused(comm, option, value, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **{f"tao_trlsr1_{option}": value})
    assert sentence in sentence_of(caught.value)


def test_a_basis_that_round_off_has_spoilt_costs_the_oldest_pair(comm, monkeypatch):
    """As where y − γs is all cancellation, and the Gram matrix of its columns is no longer positive."""
    spoilt = iter([True])
    cholesky = limited_memory_sr1._cholesky
    monkeypatch.setattr(
        limited_memory_sr1, "_cholesky", lambda gram: None if len(gram) == 4 and next(spoilt, False) else cholesky(gram)
    )
    steps, changes = pairs_of(0, 4)
    matrix = filled(comm, (steps, changes))
    assert len(matrix.steps) == 3
    np.testing.assert_allclose(dense(comm, matrix) @ steps[:, -1], changes[:, -1], atol=1e-9)
    assert cholesky(np.diag([1.0, -1.0])) is None
