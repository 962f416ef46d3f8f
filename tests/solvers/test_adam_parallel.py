"""Adam against torch's own, step by step."""

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import TWO_TERMS, start, system_of

from pescitrain.solvers.adam import Adam
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

DEFAULTS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8}


def torch_iterates(steps, decay, **settings):
    evaluator = TWO_TERMS.build()
    theta = torch.from_numpy(start(evaluator)).requires_grad_()
    optimizer = torch.optim.Adam([theta], **{**DEFAULTS, **settings})
    rate = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    iterates = [theta.detach().numpy().copy()]
    for _ in range(steps):
        theta.grad = torch.from_numpy(evaluator.objective_gradient(theta.detach().numpy())[1].copy())
        optimizer.step()
        rate.step()
        iterates.append(theta.detach().numpy().copy())
    return np.array(iterates)


def solver(comm, iterates, prefix="", **options):
    for key, value in {"tao_type": "adam", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[prefix + key] = value
    system = system_of(TWO_TERMS.build(comm))
    return TaoSolver(system, prefix, GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)


def run(comm, steps, prefix="", **options):
    iterates = []
    method = solver(comm, iterates, prefix, tao_max_it=steps, **options)
    x = method.system.layout.vec_from(start(method.system.evaluator))
    outcome, _ = method.run(x, 0, steps, {})
    assert outcome.budget
    assert outcome.iterations == steps
    return np.array(iterates)


@pytest.mark.parametrize(
    ("options", "settings", "decay"),
    [
        ({}, {}, 1.0),
        (
            {"tao_adam_lr": 0.02, "tao_adam_beta1": 0.8, "tao_adam_beta2": 0.99, "tao_adam_eps": 1e-3},
            {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-3},
            1.0,
        ),
        ({"tao_adam_lr": 0.05, "tao_adam_decay": 0.9}, {"lr": 0.05}, 0.9),
    ],
)
def test_every_iterate_is_that_of_torch(comm, options, settings, decay):
    given, expected = run(comm, 25, **options), torch_iterates(25, decay, **settings)
    np.testing.assert_allclose(given, expected, rtol=0.0, atol=1e-12)  # round-off of 25 steps of numbers of size one


def test_options_carry_the_prefix_of_the_stage(comm):
    PETSc.Options()["tao_adam_lr"] = 0.5  # of another stage
    given, expected = run(comm, 5, "warm_", tao_adam_lr=0.02), torch_iterates(5, 1.0, lr=0.02)
    np.testing.assert_allclose(given, expected, rtol=0.0, atol=1e-12)


def test_a_step_costs_one_gradient(comm):
    iterates = []
    method = solver(comm, iterates, tao_max_it=12)
    x = method.system.layout.vec_from(start(method.system.evaluator))
    method.run(x, 0, 12, {})
    counters = method.system.evaluator.counters
    assert (counters.objective, counters.gradient, counters.linearization) == (0, 13, 0)


def test_a_run_goes_on_from_its_memory_as_if_it_had_not_stopped(comm):
    options = {"tao_adam_lr": 0.02, "tao_adam_decay": 0.95, "tao_max_it": 20}
    whole, parts = [], []
    method = solver(comm, whole, **options)
    x = method.system.layout.vec_from(start(method.system.evaluator))
    method.run(x, 0, 20, {})
    first = solver(comm, parts, **options)
    y = first.system.layout.vec_from(start(first.system.evaluator))
    _, memory = first.run(y, 0, 8, {})
    assert memory["steps"][0] == 8
    second = solver(comm, parts, **options)
    outcome, _ = second.run(second.system.layout.vec_from(first.system.layout.gather(y).copy()), 8, 100, memory)
    assert outcome.iterations == 12
    # Round-off: sums in another evaluator's memory may be aligned otherwise.
    np.testing.assert_allclose(np.array(parts), np.array(whole), rtol=0.0, atol=1e-13)


def test_there_is_nothing_to_remember_before_the_first_step(comm):
    method = solver(comm, [], tao_max_it=5)
    x = method.system.layout.vec_from(start(method.system.evaluator))
    assert method.run(x, 0, 0, {})[1] == {}


def test_the_settings_are_shown(comm, capfd):
    PETSc.Options()["tao_view"] = None
    run(comm, 1, tao_adam_lr=0.25)
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert "Adam: lr=0.25 beta1=0.9 beta2=0.999 eps=1e-08" in shown


def test_before_the_first_step_there_is_nothing_to_remember(comm):
    assert Adam().save(system_of(TWO_TERMS.build(comm)).layout) == {}
