"""Steps of Levenberg–Marquardt as least-squares problems in J, by KSPLSQR and KSPCGLS, against dense ones."""

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import CASES, RANDOM_FEATURES, Case, Toy, frozen, jacobian_by_torch, start, subdomains

from pescitrain.algebra import ParameterLayout, Preconditioner, System, decompose
from pescitrain.algebra.operators import create_damped_jacobian
from pescitrain.evaluation.couplings import find_couplings
from pescitrain.problem import Dirichlet, Residual
from pescitrain.solvers.least_squares_step import LeastSquaresSteps
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

KNOWN = {**CASES, **RANDOM_FEATURES}
KRYLOV = {"tao_type": "lm", "tao_lm_space": "krylov", "tao_gatol": 0, "tao_grtol": 0}
SUBDOMAINS = "subdomains, output layers"


def system_of(case, comm, overlap=0, ownership="blocks", **options):
    evaluator = case.build(comm, **{"chunk_size": 7, **options})
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm), ownership)
    couplings = find_couplings(evaluator.surrogate, layout.layers, evaluator.samples, comm)
    neighbours = None if couplings is None else couplings.neighbours
    return System(evaluator, layout, decompose(layout.layers, "layer", None, overlap, neighbours), None, couplings)


def steps_of(system, pc_type, **options):
    for key, value in {"pc_type": pc_type, "tao_lm_ksp_type": "lsqr", **options}.items():
        PETSc.Options()[key] = value
    preconditioner = None
    if pc_type != "none":
        preconditioner = Preconditioner(
            system.layout, system.blocks, "", None, 1e-2, couplings=system.couplings, evaluator=system.evaluator
        )
    return LeastSquaresSteps(system, preconditioner, 1, "tao_lm_")


@pytest.mark.parametrize("ownership", ["blocks", "even"])
def test_the_operator_is_the_jacobian_over_the_root_of_the_damping(comm, ownership):
    system = system_of(CASES["inverse"], comm, ownership=ownership)
    theta, layout = start(system.evaluator), system.layout
    linearization = system.evaluator.linearize(theta)
    mat = create_damped_jacobian(layout, linearization)
    mat.getPythonContext().damping = 0.25
    jacobian = jacobian_by_torch(CASES["inverse"].build(), theta)
    assert mat.getSize() == (len(jacobian) + layout.size, layout.size)
    v = np.sin(np.arange(layout.size))
    x, y = mat.createVecs()
    layout.set(x, v)
    mat.mult(x, y)
    expected = np.concatenate((jacobian @ v, 0.5 * v))
    np.testing.assert_allclose(y.norm(), np.linalg.norm(expected), rtol=1e-12)
    mat.multTranspose(y, x)
    expected = jacobian.T @ (jacobian @ v) + 0.25 * v
    np.testing.assert_allclose(layout.gather(x), expected, rtol=0.0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "ksp_type", "pc_type", "overlap"),
    [
        ("poisson", "lsqr", "none", 0),
        ("poisson", "cgls", "none", 0),
        ("poisson", "lsqr", "kfac", 0),
        ("inverse", "lsqr", "asm", 1),
        (SUBDOMAINS, "lsqr", "asm", 1),
        (SUBDOMAINS, "lsqr", "two_level", 1),
        (SUBDOMAINS, "lsqr", "filter", 1),
        (SUBDOMAINS, "cgls", "none", 0),
    ],
)
def test_a_step_is_the_solution_of_the_dense_problem(comm, name, ksp_type, pc_type, overlap):
    system = system_of(KNOWN[name], comm, overlap)
    theta = start(system.evaluator)
    tolerances = {"tao_lm_ksp_rtol": 1e-13, "tao_lm_ksp_max_it": 1000}
    steps = steps_of(system, pc_type, tao_lm_ksp_type=ksp_type, **tolerances)
    serial, linearization = KNOWN[name].build(), system.evaluator.linearize(theta)
    jacobian, residual = jacobian_by_torch(serial, theta), serial.residual(theta)
    steps.move_to(linearization, 0)
    for relative in (1e-1, 1e-4):  # another λ on the same J
        damping = relative * (jacobian**2).sum(0).mean()
        assert steps.mean == pytest.approx((jacobian**2).sum(0).mean())
        found = steps.factor(damping)(linearization.residual)
        augmented = np.vstack((jacobian, np.sqrt(damping) * np.eye(len(theta))))
        right = np.concatenate((residual, np.zeros(len(theta))))
        expected = np.linalg.lstsq(augmented, right, rcond=None)[0]
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-8 * np.abs(expected).max())
    assert system.evaluator.counters.krylov > 0
    steps.destroy()


def _waves():
    k = 4 * torch.pi
    terms = [
        Residual(lambda u, x, y: u.laplacian + 2 * k**2 * torch.sin(k * x) * torch.sin(k * y), weight=1 / k**4),
        Dirichlet(0.0, on="boundary"),
    ]
    return Toy(terms)


WAVES = Case(_waves, frozen(subdomains(((4, 4),), 0.5, width=12)))


def iterations(comm, pc_type, overlap, **options):
    """Of LSQR to 1e-8 without damping, and what is left of the residual."""
    system = system_of(WAVES, comm, overlap, chunk_size=400, interior=1600, boundary=80)
    theta = start(system.evaluator)
    linearization = system.evaluator.linearize(theta)
    steps = steps_of(system, pc_type, **options)
    steps.move_to(linearization, 0)
    step = steps.factor(0.0)(linearization.residual)
    left = system.evaluator.objective(theta - step).objective
    count = system.evaluator.counters.krylov
    steps.destroy()
    return count, left


def test_preconditioned_lsqr_takes_a_tenth_of_the_iterations(comm):
    """Features of neighbours that are nearly dependent make J so ill-conditioned that LSQR alone hardly moves on."""
    alone, left_alone = iterations(comm, "none", 0, tao_lm_ksp_max_it=400)
    filtered, left = iterations(comm, "filter", 1)
    assert filtered <= 0.1 * alone  # 24 and more than 400; alone, 5000 are not enough either
    assert left <= left_alone


def test_a_block_of_features_that_are_nearly_the_same_is_solved_in_a_few_iterations(comm):
    """Two columns that are the same up to 1e-7 are in the triangular factor of J, and lost in JᵀJ."""
    system = system_of(KNOWN["output layer"], comm, interior=60, boundary=20)
    layer = system.evaluator.surrogate.networks["network"].affine[-2]
    layer.weight.data[1] = layer.weight.data[0] * (1.0 + 1e-7)
    layer.bias.data[1] = layer.bias.data[0]
    linearization = system.evaluator.linearize(start(system.evaluator))
    jacobian = np.concatenate(comm.allgather(linearization.dense()))
    assert np.linalg.matrix_rank(jacobian.T @ jacobian) < len(linearization.theta) == np.linalg.matrix_rank(jacobian)
    steps = steps_of(system, "filter", pc_filter_tolerance=1e-12)
    steps.move_to(linearization, 0)
    step = steps.factor(0.0)(linearization.residual)
    expected = np.linalg.lstsq(jacobian, np.concatenate(comm.allgather(linearization.residual)), rcond=None)[0]
    np.testing.assert_allclose(step, expected, rtol=0.0, atol=1e-6 * np.abs(expected).max())
    assert system.evaluator.counters.krylov <= 5


def run(comm, case, iterations=1, **options):
    """The last θ, the evaluator and the notices."""
    for key, value in {**KRYLOV, **options}.items():
        PETSc.Options()[key] = value
    system = system_of(case, comm)
    solver = TaoSolver(system, "", GaussNewtonSettings(), lambda _: False)
    x = system.layout.vec_from(start(system.evaluator))
    outcome, _ = solver.run(x, 0, iterations, {})
    theta = system.layout.gather(x).copy()
    solver.destroy()
    assert outcome is not NOTHING_LEFT
    return theta, system.evaluator, solver


@pytest.mark.parametrize("options", [{"pc_type": "filter"}, {"pc_type": "none"}, {"ksp_type": "cgls"}])
def test_a_linear_problem_is_solved_by_one_iteration(comm, options):
    case = Case(_linear, frozen(subdomains()))
    theta, evaluator, solver = run(comm, case, **{"ksp_type": "lsqr", "tao_lm_damping": 1e-16, **options})
    serial = case.build()
    begin = start(serial)
    jacobian = jacobian_by_torch(serial, begin)
    step = np.linalg.lstsq(jacobian, serial.residual(begin), rcond=None)[0]
    best = serial.objective(begin - step).objective
    assert serial.objective(theta).objective == pytest.approx(best, rel=1e-8)
    assert evaluator.counters.linearization <= 2
    assert solver.pc_label == options.get("pc_type", "none")


def _linear():
    return Toy([Residual(lambda u, x, y: u.laplacian - torch.sin(x * y)), Dirichlet(lambda y: y**2, on="boundary")])


def test_cgls_says_that_it_takes_no_preconditioner(comm):
    _, _, solver = run(comm, CASES["subdomains"], ksp_type="cgls", pc_type="asm")
    assert solver.notices == ["-pc_type asm has no effect: -ksp_type cgls takes no preconditioner"]
