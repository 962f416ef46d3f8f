"""Gradient descent with momentum against torch's own, whole and on batches; who else bears batches."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from petsc4py import PETSc
from toys import TWO_TERMS, sentence_of, start, system_of

from pescitrain.errors import OptionError
from pescitrain.evaluation.batches import Batches
from pescitrain.solvers.names import OWN_TAO_TYPES
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

STOCHASTIC = ("adam", "adagrad", "mladagrad", "sgd", "soap")
GROWING = "rmtr"  # test_sample_size_parallel.py
OPTIMIZERS = {
    "sgd": lambda theta: torch.optim.SGD([theta], lr=0.02, momentum=0.7),
    "adam": lambda theta: torch.optim.Adam([theta], lr=0.02),
    "adagrad": lambda theta: torch.optim.Adagrad([theta], lr=0.02, initial_accumulator_value=0.01, eps=0.0),
}
OPTIONS = {
    "sgd": {"tao_sgd_lr": 0.02, "tao_sgd_momentum": 0.7},
    "adam": {"tao_adam_lr": 0.02},
    "adagrad": {"tao_adagrad_lr": 0.02},
}


def build(comm, size):
    evaluator = TWO_TERMS.build(comm)
    if size:
        evaluator.batches = Batches(evaluator.samples, evaluator.comm, size, 1)
    return evaluator


def torch_iterates(name, steps, size):
    evaluator = build(MPI.COMM_SELF, size)
    theta = torch.from_numpy(start(evaluator)).requires_grad_()
    optimizer = OPTIMIZERS[name](theta)
    iterates = [theta.detach().numpy().copy()]
    for number in range(steps):
        if evaluator.batches is not None:
            evaluator.batches.show(number)
        theta.grad = torch.from_numpy(evaluator.objective_gradient(theta.detach().numpy())[1].copy())
        optimizer.step()
        iterates.append(theta.detach().numpy().copy())
    return np.array(iterates)


def solver(comm, name, size, iterates, **options):
    for key, value in {"tao_type": name, "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    system = system_of(build(comm, size))
    settings = GaussNewtonSettings(coarsening="width", levels=2)
    return TaoSolver(system, "", settings, lambda it: iterates.append(it.theta.copy()) or False)


def iterates_of(comm, name, size, segments, **options):
    iterates, memory, at = [], {}, 0
    method = solver(comm, name, size, iterates, tao_max_it=sum(segments), **options)
    x = method.system.layout.vec_from(start(method.system.evaluator))
    for segment in segments:
        _, memory = method.run(x, at, segment, memory)
        at += segment
    return np.array(iterates)


@pytest.mark.parametrize("size", [0, 6])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_iterate_is_that_of_torch(comm, name, size):
    given, expected = iterates_of(comm, name, size, [15], **OPTIONS[name]), torch_iterates(name, 15, size)
    np.testing.assert_allclose(given, expected, rtol=0.0, atol=1e-12)  # round-off of 15 steps of numbers of size one


@pytest.mark.parametrize("name", STOCHASTIC)
def test_batches_go_on_where_a_run_was_cut(comm, name):
    whole, parts = iterates_of(comm, name, 6, [12]), iterates_of(comm, name, 6, [5, 4, 3])
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-14 if comm.size == 1 else 1e-12)


def test_the_rate_decays(comm):
    steps = np.diff(iterates_of(comm, "sgd", 0, [2], tao_sgd_decay=0.5, tao_sgd_momentum=0, tao_sgd_lr=0.02), axis=0)
    evaluator = build(comm, 0)
    theta = start(evaluator)
    for number in range(2):
        gradient = evaluator.objective_gradient(theta)[1]
        np.testing.assert_allclose(steps[number], -0.02 * 0.5**number * gradient, rtol=0.0, atol=1e-14)
        theta = theta + steps[number]


def test_a_momentum_of_one_is_refused(comm):
    with pytest.raises(PETSc.Error) as caught:
        iterates_of(comm, "sgd", 0, [1], tao_sgd_momentum=1.0)
    assert sentence_of(caught.value) == "-tao_sgd_momentum 1: it must be at least 0 and below 1"


@pytest.mark.parametrize(
    "name", [*(name for name in OWN_TAO_TYPES if name not in (*STOCHASTIC, GROWING)), "blmvm", "nls"]
)
def test_a_method_that_compares_values_refuses_batches(comm, name):
    PETSc.Options()["pc_type"] = "none"
    with pytest.raises(
        OptionError, match=rf"-tao_type {name} needs an objective that stays the same, and -sample_batch"
    ):
        iterates_of(comm, name, 6, [1])


def test_snes_refuses_batches(comm):
    PETSc.Options()["snes_type"] = "qn"
    with pytest.raises(OptionError, match=r"-snes_type qn needs an objective that stays the same"):
        SnesSolver(system_of(build(comm, 6)), "", GaussNewtonSettings(), lambda _: False)
