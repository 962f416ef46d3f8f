"""AdaGrad against torch's own; on levels against its formula, with coherent gradients, and what it costs."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import TWO_TERMS, Case, _two_terms, resnet, sentence_of, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.multilevel.adagrad import WEIGHTS, MultilevelAdagrad
from pescitrain.solvers.multilevel.levels import create_levels
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

DEEP = Case(_two_terms, resnet(width=4, depth=5))


def run(comm, lengths, case=DEEP, levels=2, **options):
    """Iterates (k, n) and closures, in segments as after a restart."""
    for key, value in {"tao_type": "mladagrad", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position, theta, closures = [], {}, 0, start(case.build()), []
    for length in lengths:
        system = system_of(case.build(comm))
        settings = GaussNewtonSettings(coarsening="depth", levels=levels)
        solver = TaoSolver(system, "", settings, lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        _, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        closures.append(system.evaluator.counters.closures)
        solver.destroy()
    return np.array(iterates), closures


def torch_iterates(steps, rate, squares):
    evaluator = TWO_TERMS.build()
    theta = torch.from_numpy(start(evaluator)).requires_grad_()
    optimizer = torch.optim.Adagrad([theta], lr=rate, initial_accumulator_value=squares, eps=0.0)
    iterates = [theta.detach().numpy().copy()]
    for _ in range(steps):
        theta.grad = torch.from_numpy(evaluator.objective_gradient(theta.detach().numpy())[1].copy())
        optimizer.step()
        iterates.append(theta.detach().numpy().copy())
    return np.array(iterates)


@pytest.mark.parametrize("name", ["adagrad", "mladagrad"])
def test_on_one_level_every_iterate_is_that_of_torch(comm, name):
    options = {"tao_type": name, f"tao_{name}_lr": 0.05, f"tao_{name}_start": 0.2}
    given, closures = run(comm, (25,), TWO_TERMS, 1, **options)
    np.testing.assert_allclose(given, torch_iterates(25, 0.05, 0.2), rtol=0.0, atol=1e-12)
    assert closures == [26]


def test_transfers_are_adjoint_and_projection_undoes_prolongation(comm):
    levels = create_levels(system_of(DEEP.build(comm)), "both", 3)
    assert [level.evaluator.parameters.size for level in levels] == sorted(
        (level.evaluator.parameters.size for level in levels), reverse=True
    )
    random = np.random.default_rng(0)
    for fine, coarse in pairwise(levels):
        u = random.standard_normal(coarse.evaluator.parameters.size)
        v = random.standard_normal(fine.evaluator.parameters.size)
        assert fine.prolong(u) @ v == pytest.approx(u @ fine.restrict(v), rel=1e-13)
        np.testing.assert_allclose(fine.project(fine.prolong(u)), u, rtol=0.0, atol=1e-14)
        assert np.array_equal(
            fine.largest_child(v), [v[fine.prolongation.tocsc()[:, [j]].indices].max() for j in range(len(u))]
        )


class Written:
    """The recursion once more, from dense matrices: one fine step, then coarse steps of a two-level method."""

    def __init__(self, rate, first, steps, weights, coherent=True):
        fine, coarse = create_levels(system_of(DEEP.build()), "depth", 2)
        self.p = fine.prolongation.toarray()
        self.fine, self.coarse = fine.evaluator, coarse.evaluator
        self.rate, self.first, self.steps, self.weights, self.coherent = rate, first, steps, weights, coherent

    def iterates(self, count):
        theta = start(self.fine)
        squares, result = np.full(len(theta), self.first), [theta]
        gram = np.diag(self.p.T @ self.p)
        for _ in range(count):
            g = self.fine.objective_gradient(theta)[1]
            squares = squares + g**2
            theta = theta - self.rate * g / np.sqrt(squares)
            g = self.fine.objective_gradient(theta)[1]
            squares = squares + g**2
            begin = self.p.T @ theta / gram
            shift = self.p.T @ g - self.coarse.objective_gradient(begin)[1] if self.coherent else 0.0
            children = np.where(self.p > 0, squares[:, None], -np.inf)
            w = {
                "restrict_squares": self.p.T @ squares,
                "square_of_sum": (self.p.T @ np.sqrt(squares)) ** 2,
                "max": children.max(0),
                "fresh": np.full(len(begin), self.first),
            }[self.weights]
            y = begin
            for _ in range(self.steps):
                h = self.coarse.objective_gradient(y)[1] + shift
                w = w + h**2
                y = y - self.rate * h / np.sqrt(w)
            theta = theta + self.p @ (y - begin)
            result.append(theta)
        return np.array(result)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_two_levels_are_their_formula(comm, weights):
    options = {"tao_mladagrad_lr": 0.05, "tao_mladagrad_coarse_steps": 3, "tao_mladagrad_weights": weights}
    path, _ = run(comm, (5,), **options)
    expected = Written(0.05, 0.01, 3, weights).iterates(5)
    # round-off of 5 × 5 steps, in which each gradient passes through the last ones
    np.testing.assert_allclose(path, expected, rtol=0.0, atol=1e-10)


def test_without_its_linear_term_the_coarse_objective_is_another(comm):
    options = {"tao_mladagrad_lr": 0.05, "tao_mladagrad_coarse_steps": 3, "tao_mladagrad_coherent": False}
    path, _ = run(comm, (4,), **options)
    np.testing.assert_allclose(
        path, Written(0.05, 0.01, 3, "restrict_squares", False).iterates(4), rtol=0.0, atol=1e-10
    )


def test_the_first_coarse_gradient_is_the_restricted_one_on_three_levels(comm, monkeypatch):
    """∂_d h(Πθ) = ⟨∇h_fine, Pd⟩, with the linear term of the level above in it."""
    seen = []
    correct = MultilevelAdagrad._correction

    def watch(self, level, theta, linear, squares, bounds):
        fine = self._levels[level]
        seen.append((level, fine.restrict(fine.gradient(theta) + linear)))
        return correct(self, level, theta, linear, squares, bounds)

    monkeypatch.setattr(MultilevelAdagrad, "_correction", watch)
    PETSc.Options()["tao_mladagrad_coarse_steps"] = 1
    run(comm, (1,), levels=3, tao_mladagrad_lr=1e-7)
    (_, first), (_, second) = seen
    # with steps of nearly nothing, the gradient that the middle level hands down is the one that it was given
    fine, middle, _ = create_levels(system_of(DEEP.build(comm)), "depth", 3)
    np.testing.assert_allclose(second, middle.restrict(first), rtol=0.0, atol=1e-4 * np.abs(second).max())
    assert fine.evaluator.parameters.size > middle.evaluator.parameters.size


def test_a_cycle_costs_what_its_networks_are_in_size(comm):
    _, (closures,) = run(comm, (6,), tao_mladagrad_coarse_steps=3)
    sizes = [level.evaluator.parameters.size for level in create_levels(system_of(DEEP.build()), "depth", 2)]
    # one at the start; two fine ones a cycle, one at Πθ, and two of three steps, the first of which is free
    assert closures == pytest.approx(1 + 6 * (2 + 3 * sizes[1] / sizes[0]), rel=1e-12)
    _, (rare,) = run(comm, (6,), tao_mladagrad_coarse_steps=3, tao_mladagrad_period=3)
    assert rare == pytest.approx(1 + 6 + 2 * (1 + 3 * sizes[1] / sizes[0]), rel=1e-12)
    _, (none,) = run(comm, (6,), tao_mladagrad_kappa=1e9)
    assert none == 1 + 6  # what a refused correction has evaluated is where the next step begins


@pytest.mark.parametrize("levels", [2, 3])
def test_the_path_is_that_of_one_rank_and_goes_on_after_a_restart(comm, levels):
    options = {"tao_mladagrad_lr": 0.05, "tao_mladagrad_period": 2}
    path, _ = run(comm, (5,), levels=levels, **options)
    alone, _ = run(comm.Split(comm.rank), (5,), levels=levels, **options)
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-9)
    cut, _ = run(comm, (3, 2), levels=levels, **options)
    np.testing.assert_allclose(cut[-2:], path[-2:], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("lr", 0, "-tao_mladagrad_lr 0: it must be above 0"),
        ("start", -1, "-tao_mladagrad_start -1: it must be above 0"),
        ("period", 0, "-tao_mladagrad_period 0: it must be 1 or more"),
        ("coarse_steps", 0, "-tao_mladagrad_coarse_steps 0: it must be 1 or more"),
        ("weights", "frsh", "-tao_mladagrad_weights frsh: choose from restrict_squares"),
    ],
)
def test_senseless_options_are_refused(comm, option, value, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **{f"tao_mladagrad_{option}": value})
    assert sentence in sentence_of(caught.value)


def test_a_network_without_coarser_ones_is_refused(comm):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), TWO_TERMS, 4)
    assert "lower -hier_levels" in sentence_of(caught.value)
