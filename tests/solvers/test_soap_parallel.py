"""SOAP: matrix by matrix by the formulas of the paper; Adam before the first refresh; restart."""

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import CASES, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.soap import SHIFT
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = CASES["poisson, adaptive slopes"]  # matrices, and vectors of two kinds


def run(comm, lengths, prefix="", **options):
    """All iterates (k, n), the memory and the counters of segments, each by a new solver."""
    for key, value in {"tao_type": "soap", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[prefix + key] = value
    iterates, memory, position = [], {}, 0
    theta, counters = start(CASE.build()), None
    for length in lengths:
        system = system_of(CASE.build(comm))
        solver = TaoSolver(system, prefix, GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        _, memory = solver.run(x, position, length, memory)
        position, theta, counters = position + length, system.layout.gather(x).copy(), system.evaluator.counters
        solver.destroy()
    return np.array(iterates), memory, counters


def by_the_paper(steps, lr=3e-3, beta1=0.95, beta2=0.95, shampoo=0.95, eps=1e-8, interval=10, decay=1.0):
    """All iterates, with the moments kept tensor by tensor."""
    evaluator = CASE.build()
    theta = start(evaluator)
    iterates, state = [theta.copy()], {}
    for t in range(1, steps + 1):
        gradient = evaluator.objective_gradient(theta)[1].copy()
        theta = theta.copy()
        for entry in evaluator.parameters.entries:
            place, shape = slice(entry.start, entry.stop), tuple(entry.parameter.shape)
            matrix = len(shape) == 2
            p, q = shape if matrix else (entry.stop - entry.start, 1)
            G = gradient[place].reshape(p, q)
            M, V, L, R, QL, QR = state.get(entry.name) or (G * 0, G * 0, G @ G.T * 0, G.T @ G * 0, np.eye(p), np.eye(q))
            M = beta1 * M + (1 - beta1) * G
            V = beta2 * V + (1 - beta2) * (QL.T @ G @ QR) ** 2
            N = (QL.T @ M @ QR) / (1 - beta1**t) / (np.sqrt(V / (1 - beta2**t)) + eps)
            theta[place] -= lr * decay ** (t - 1) * (QL @ N @ QR.T).reshape(-1)
            if matrix:
                L, R = shampoo * L + (1 - shampoo) * G @ G.T, shampoo * R + (1 - shampoo) * G.T @ G
                if t % interval == 0:
                    QL = np.linalg.qr((L + SHIFT * np.trace(L) / p * np.eye(p)) @ QL)[0]
                    QR = np.linalg.qr((R + SHIFT * np.trace(R) / q * np.eye(q)) @ QR)[0]
            state[entry.name] = M, V, L, R, QL, QR
        iterates.append(theta)
    return np.array(iterates)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        (
            {
                "tao_soap_lr": 0.02,
                "tao_soap_beta1": 0.8,
                "tao_soap_beta2": 0.99,
                "tao_soap_shampoo_beta": 0.7,
                "tao_soap_eps": 1e-3,
                "tao_soap_interval": 3,
                "tao_soap_decay": 0.97,
            },
            {"lr": 0.02, "beta1": 0.8, "beta2": 0.99, "shampoo": 0.7, "eps": 1e-3, "interval": 3, "decay": 0.97},
        ),
    ],
)
def test_every_iterate_is_that_of_the_paper(comm, options, settings):
    given, expected = run(comm, (25,), **options)[0], by_the_paper(25, **settings)
    # The columns of a basis outside the range of its factor are as sure as SHIFT lets them be: 1e-16 / 1e-8.
    np.testing.assert_allclose(given, expected, rtol=0.0, atol=1e-6)


def test_before_the_first_refresh_it_is_adam(comm):
    evaluator = CASE.build()
    theta = torch.from_numpy(start(evaluator)).requires_grad_()
    adam = torch.optim.Adam([theta], lr=0.02, betas=(0.95, 0.95), eps=1e-8)
    given = run(comm, (12,), tao_soap_lr=0.02)[0]
    distances = []
    for iterate in given:
        distances.append(np.abs(iterate - theta.detach().numpy()).max())
        theta.grad = torch.from_numpy(evaluator.objective_gradient(theta.detach().numpy())[1].copy())
        adam.step()
    assert max(distances[:11]) < 1e-12
    assert distances[11] > 1e-4


def test_the_bases_are_orthogonal_and_tend_to_the_eigenvectors(comm):
    _, memory, _ = run(comm, (40,), tao_soap_interval=1, tao_soap_lr=1e-4)
    state, matrices = iter(memory["matrices"]), 0
    for left, right, left_basis, right_basis in zip(state, state, state, state, strict=True):
        for flat, turned in ((left, left_basis), (right, right_basis)):
            size = round(len(flat) ** 0.5)
            factor, basis = flat.reshape(size, size), turned.reshape(size, size)
            np.testing.assert_allclose(basis.T @ basis, np.eye(size), rtol=0.0, atol=1e-12)
            diagonal = np.diag(basis.T @ factor @ basis)
            np.testing.assert_allclose(diagonal[0], np.linalg.eigvalsh(factor)[-1], rtol=1e-2)
            matrices += 1
    assert matrices == 6


def test_a_step_costs_one_gradient(comm):
    counters = run(comm, (12,))[2]
    assert (counters.objective, counters.gradient, counters.linearization) == (0, 13, 0)


def test_options_carry_the_prefix_of_the_stage(comm):
    PETSc.Options()["tao_soap_lr"] = 0.5  # of another stage
    given, expected = run(comm, (5,), "warm_", tao_soap_lr=0.02)[0], by_the_paper(5, lr=0.02)
    np.testing.assert_allclose(given, expected, rtol=0.0, atol=1e-12)


def test_a_restart_continues(comm):
    options = {"tao_soap_lr": 0.02, "tao_soap_decay": 0.95, "tao_soap_interval": 3}
    whole, parts = run(comm, (20,), **options)[0], run(comm, (8, 12), **options)[0]
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-10)


def test_there_is_nothing_to_remember_before_the_first_step(comm):
    assert run(comm, (0,))[1] == {}


def test_an_interval_below_one_is_refused(comm):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), tao_soap_interval=0)
    assert "-tao_soap_interval 0: it must be 1 or more" in str(caught.value.__cause__ or caught.value)


def test_the_settings_are_shown(comm, capfd):
    PETSc.Options()["tao_view"] = None
    run(comm, (1,), tao_soap_lr=0.25)
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert "SOAP: lr=0.25 beta1=0.95 beta2=0.95 shampoo_beta=0.95 eps=1e-08 interval=10" in shown
