"""AdaGrad in blocks: one step of each is AdaGrad, several are the formula; bounds are kept on blocks and on levels."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from toys import TWO_TERMS, Case, _inverse, resnet, sentence_of, start

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.errors import EvaluationError, OptionError
from pescitrain.solvers.adagrad_step import Bounds, adagrad_step, descent
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

DEEP = Case(_inverse, resnet(width=4, depth=5))


def run(comm, name, lengths, case=TWO_TERMS, blocks=None, overlap=0, bounds=None, watch=None, **options):
    for key, value in {"tao_type": name, "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position, theta = [], {}, 0, start(case.build())
    counters = None
    for length in lengths:
        evaluator = case.build(comm)
        layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm))
        system = System(evaluator, layout, decompose(layout.layers, "layer", blocks, overlap), bounds)
        settings = GaussNewtonSettings(coarsening="depth", levels=3)
        solver = TaoSolver(system, "", settings, lambda it: iterates.append(it.theta.copy()) or False)
        x = layout.vec_from(theta)
        _, memory = solver.run(x, position, length, memory)
        position, theta, counters = position + length, layout.gather(x).copy(), evaluator.counters
        solver.destroy()
    return np.array(iterates), counters


@pytest.mark.parametrize("blocks", [None, 1, 2])
def test_one_step_in_blocks_without_overlap_is_adagrad(comm, blocks):
    path, counters = run(comm, "asadagrad", (12,), blocks=blocks, tao_asadagrad_steps=1, tao_asadagrad_lr=0.05)
    whole, _ = run(comm, "adagrad", (12,), tao_adagrad_lr=0.05)
    np.testing.assert_allclose(path, whole, rtol=0.0, atol=1e-13 if comm.size == 1 else 1e-12)
    assert (counters.gradient, counters.objective) == (13, 0)


@pytest.mark.parametrize(("blocks", "overlap"), [(3, 0), (3, 1)])
def test_several_steps_in_blocks_are_their_formula(comm, blocks, overlap):
    path, counters = run(
        comm, "asadagrad", (5,), blocks=blocks, overlap=overlap, tao_asadagrad_steps=3, tao_asadagrad_lr=0.05
    )
    evaluator = TWO_TERMS.build()
    theta = start(evaluator)
    squares = np.full(len(theta), 0.01)
    parts = decompose(evaluator.parameters.layers, "layer", blocks, overlap)
    for found in path[1:]:
        g = evaluator.objective_gradient(theta)[1]
        squares = squares + g * g
        change, weights, count = np.zeros((3, len(theta)))
        for part in parts:
            active = part.active
            y, w = theta.copy(), squares[active]
            y[active] -= 0.05 * g[active] / np.sqrt(w)
            for _ in range(2):
                own = evaluator.objective_gradient(y)[1][active]
                w = w + own * own
                y[active] -= 0.05 * own / np.sqrt(w)
            change[active] += (y - theta)[active]
            weights[active] += w
            count[active] += 1
        theta, squares = theta + change / count, weights / count
        np.testing.assert_allclose(found, theta, rtol=0.0, atol=1e-12)
    assert counters.gradient == 6 + 5 * 2 * len(parts)
    assert counters.closures_depth == 6 + 5 * 2  # blocks are trained side by side


def test_the_path_is_that_of_one_rank_and_goes_on_after_a_restart(comm):
    path, _ = run(comm, "asadagrad", (7,), overlap=1)
    alone, _ = run(MPI.COMM_SELF, "asadagrad", (7,), overlap=1)
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-11)
    cut, _ = run(comm, "asadagrad", (3, 4), overlap=1)
    np.testing.assert_allclose(cut[-4:], path[-4:], rtol=0.0, atol=1e-13)


@pytest.mark.parametrize(("name", "overlap"), [("adagrad", 0), ("mladagrad", 0), ("asadagrad", 0), ("asadagrad", 1)])
def test_no_step_leaves_the_bounds(comm, name, overlap):
    theta = start(DEEP.build())
    random = np.random.default_rng(8)
    width = np.abs(random.standard_normal(len(theta))) * 0.02
    lower = np.where(random.uniform(size=len(theta)) < 0.6, theta - width, -np.inf)
    upper = np.where(random.uniform(size=len(theta)) < 0.6, theta + width[::-1], np.inf)
    options = {f"tao_{name}_lr": 0.3}
    path, _ = run(comm, name, (4,), DEEP, overlap=overlap, bounds=(lower, upper), **options)
    tiny = 1e-15 * np.abs(theta).max()  # x + (u − x) is u to round-off
    assert (path >= lower - tiny).all()
    assert (path <= upper + tiny).all()
    assert ((np.abs(path[-1] - lower) < tiny) | (np.abs(path[-1] - upper) < tiny)).sum() > 5  # some are reached
    free, _ = run(comm, name, (4,), DEEP, overlap=overlap, **options)
    assert np.abs(free[-1] - path[-1]).max() > 0.01


@pytest.mark.parallel(1)
def test_the_projected_direction_and_the_step():
    bounds = Bounds(np.array([0.0, -np.inf, -1.0]), np.array([1.0, np.inf, 1.0]))
    theta, gradient = np.array([0.5, 0.5, 0.5]), np.array([3.0, 3.0, -0.2])
    d = descent(theta, gradient, bounds)
    np.testing.assert_allclose(d, [-0.5, -3.0, 0.2])
    step = adagrad_step(theta, d, np.array([1e-4, 9.0, 1e-4]), 0.1, bounds)
    np.testing.assert_allclose(step, [-0.5, -0.1, 0.5])
    assert Bounds.of(None, 2).lower.tolist() == [-np.inf, -np.inf]
    assert bounds.part(np.array([2])).upper.tolist() == [1.0]


def test_an_error_in_a_block_is_raised_on_all_ranks(comm, monkeypatch):
    from pescitrain.evaluation.restriction import RestrictedEvaluator

    def fail(self, theta):
        raise EvaluationError("the residual failed on rank 0: it does")

    monkeypatch.setattr(RestrictedEvaluator, "objective_gradient", fail)
    with pytest.raises(PETSc.Error) as caught:
        run(comm, "asadagrad", (2,))
    assert sentence_of(caught.value) == "the residual failed on rank 0: it does"


@pytest.mark.parametrize(("option", "value"), [("lr", 0), ("start", -1), ("steps", 0)])
def test_senseless_options_are_refused(comm, option, value):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, "asadagrad", (1,), **{f"tao_asadagrad_{option}": value})
    assert sentence_of(caught.value) == f"-tao_asadagrad_{option} {value}: it must be above 0"
