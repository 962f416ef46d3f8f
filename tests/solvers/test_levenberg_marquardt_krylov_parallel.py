"""Levenberg–Marquardt by a Krylov method: its steps against dense ones, its preconditioners, projection and restart."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from petsc4py import PETSc
from toys import CASES, setting, start, system_of

from pescitrain.algebra import ParameterLayout, Preconditioner, System, decompose
from pescitrain.algebra.two_level import TwoLevelSchwarz
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator, SamplingPlan, sample_terms
from pescitrain.evaluation.couplings import find_couplings
from pescitrain.geometry import Box, Sampling
from pescitrain.networks import MLP, ScaleToUnitBox
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import OperatorData, OperatorProblem, OperatorSurrogate
from pescitrain.solvers.krylov_step import KrylovSteps
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

KRYLOV = {"tao_type": "lm", "tao_lm_space": "krylov", "ksp_rtol": 1e-12, "ksp_max_it": 300}


class Toy(OperatorProblem):
    """Multiplication by functions, of 5 parameters and at 6 places."""

    coordinates = ("x",)

    def domain(self):
        return Box(("x",), (0.0,), (1.0,))

    def training(self):
        random = np.random.default_rng(3)
        inputs, x = random.standard_normal((9, 3)), np.linspace(0.0, 1.0, 6)[:, None]
        return OperatorData(inputs, x, np.sin(inputs @ random.standard_normal((3, 6)) + x.T))

    def validation(self):
        return self.training()


def operator(comm=MPI.COMM_SELF):
    problem, generator = Toy(), torch.Generator().manual_seed(1)
    scaling = {"branch": ScaleToUnitBox([-1.0] * 3, [1.0] * 3), "trunk": ScaleToUnitBox([0.0], [1.0])}
    networks = {name: MLP(box, box.outputs, 3, 4, 2, generator=generator) for name, box in scaling.items()}
    surrogate = OperatorSurrogate(problem, networks, 3, hard=False)
    plan = SamplingPlan(Sampling(1), Sampling(1), 0)
    samples = sample_terms(problem, surrogate, problem.domain(), plan, comm, 4)
    return Evaluator(problem, surrogate, FlatParameters(surrogate.networks), samples, comm)


BUILDERS = {"poisson": CASES["poisson"].build, "operator": operator}


def run(comm, build, lengths=(2,), bounds=None, **options):
    """All iterates (k, n), the last outcome and the evaluators, of segments by new solvers as after a restart."""
    for key, value in {"tao_type": "lm", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, memory, position, evaluators = [], {}, 0, []
    outcome, theta = NOTHING_LEFT, start(build())
    for length in lengths:
        evaluators.append(build(comm))
        system = system_of(evaluators[-1])
        system.bounds = bounds
        solver = TaoSolver(system, "", GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        solver.destroy()
    return np.array(iterates), outcome, evaluators


@pytest.mark.parametrize(
    ("name", "pc_type", "geodesic"),
    [
        ("operator", "none", False),
        ("operator", "kfac", False),
        ("operator", "nystrom", False),
        ("operator", "woodbury", False),
        ("poisson", "kfac", False),
        ("poisson", "asm", True),
    ],
)
def test_the_steps_are_those_of_the_dense_method(comm, name, pc_type, geodesic):
    common = {"tao_lm_geodesic": geodesic, "tao_lm_damping": 1.0, "tao_lm_project": False}
    dense, _, _ = run(comm, BUILDERS[name], (2,), **common, tao_lm_space="parameters")
    own = {"pc_type": pc_type, **({"pc_nystrom_rank": 5} if pc_type == "nystrom" else {})}
    krylov, outcome, evaluators = run(comm, BUILDERS[name], (2,), **common, **KRYLOV, **own)
    np.testing.assert_allclose(krylov, dense, rtol=0.0, atol=1e-7 * np.abs(dense).max())
    assert outcome.budget
    assert evaluators[-1].counters.krylov > 0


@pytest.mark.parametrize(("ksp_type", "started"), [("cg", True), ("fcg", True), ("gmres", True), ("stcg", False)])
def test_two_levels_solve_from_the_coarse_space_where_a_method_starts_anywhere(comm, monkeypatch, ksp_type, started):
    asked = []
    deflate = TwoLevelSchwarz.deflate
    monkeypatch.setattr(TwoLevelSchwarz, "deflate", lambda self, b, x: (asked.append(1), deflate(self, b, x))[1])
    options = {"pc_type": "two_level", "pc_two_level_threshold": 0.5, "ksp_rtol": 1e-12, "ksp_max_it": 300}
    for key, value in {**options, "ksp_type": ksp_type}.items():
        PETSc.Options()[key] = value
    evaluator = CASES["subdomains"].build(comm)
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm))
    couplings = find_couplings(evaluator.surrogate, layout.layers, evaluator.samples, comm)
    blocks = decompose(layout.layers, "layer", None, 0, couplings.neighbours)
    system = System(evaluator, layout, blocks, None, couplings)
    preconditioner = Preconditioner(layout, blocks, "", None, 1e-4, couplings=couplings)
    steps = KrylovSteps(system, preconditioner, 1, "")
    theta = start(evaluator)
    linearization = evaluator.linearize(theta)
    matrix, gradient = linearization.gauss_newton_matrix(), evaluator.objective_gradient(theta)[1]
    steps.move_to(linearization, 0)
    for damping in (1e-2, 1e-4):  # of one linearization, as trials have them
        step = steps.factor(damping * steps.mean)(np.zeros(0), gradient)
        exact = np.linalg.solve(matrix + damping * steps.mean * np.eye(layout.size), gradient)
        own = slice(layout.start, layout.stop)
        # The tolerance of the solve, 1e-12, over the least damping.
        np.testing.assert_allclose(step[own], exact[own], rtol=0.0, atol=1e-7 * np.abs(exact).max())
    assert len(asked) == (2 if started else 0)
    steps.destroy()
    preconditioner.destroy()


def test_a_loose_tolerance_takes_fewer_products_and_descends(comm):
    krylov = []
    for tolerance in (0.5, 1e-10):
        options = {"tao_type": "lm", "tao_lm_space": "krylov", "tao_lm_ksp_rtol": tolerance, "pc_type": "kfac"}
        iterates, _, evaluators = run(comm, operator, **options)
        assert (np.diff([operator().objective(theta).objective for theta in iterates]) < 0.0).all()
        krylov.append(evaluators[-1].counters.krylov)
    assert krylov[0] < krylov[1]


def test_the_first_trial_of_an_operator_is_projected(comm):
    """λ, the step and the least squares in the output layer of the branch, once more from a dense J."""
    iterates, _, _ = run(comm, operator, (1,), **KRYLOV, tao_lm_damping=3.0)
    plain, _, _ = run(comm, operator, (1,), **KRYLOV, tao_lm_damping=3.0, tao_lm_project=False)
    evaluator = operator()
    theta, linearization = iterates[0], evaluator.linearize(iterates[0])
    jacobian = linearization.dense()
    matrix = jacobian.T @ jacobian
    damped = matrix + 3.0 * matrix.diagonal().mean() * np.eye(len(theta))
    step = -np.linalg.solve(damped, jacobian.T @ linearization.residual)
    np.testing.assert_allclose(plain[1] - theta, step, rtol=0.0, atol=1e-9 * np.abs(step).max())
    np.testing.assert_allclose(iterates[1], evaluator.project(theta + step), rtol=0.0, atol=1e-6)
    values = [evaluator.objective(point).objective for point in (theta, plain[1], iterates[1])]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("pc_type", ["none", "kfac"])
def test_a_restart_continues(comm, pc_type):
    options = {**KRYLOV, "ksp_rtol": 1e-8, "tao_lm_damping": 1.0, "tao_lm_project": False, "pc_type": pc_type}
    whole, _, _ = run(comm, operator, (3,), **options)
    parts, _, _ = run(comm, operator, (2, 1), **options)
    # φ of a linearization and of a trial differ by rounding, and so does λ.
    np.testing.assert_allclose(parts, whole, rtol=0.0, atol=1e-7 * np.abs(whole).max())


@pytest.mark.parametrize("pc_type", ["kfac", "asm"])
def test_a_preconditioner_takes_one_damping_after_another(comm, pc_type):
    """Applied to the damped matrix times a vector, whatever the λ before."""
    PETSc.Options()["pc_type"] = pc_type
    parts = setting(comm, "poisson")
    x, y = parts.layout.create_vec(), parts.layout.create_vec()
    parts.layout.set(x, np.random.default_rng(0).standard_normal(parts.layout.size))
    results = []
    for dampings in ((0.3,), (5.0, 1e-3, 0.3)):
        pre = Preconditioner(parts.layout, parts.blocks, "", None, 0.01)
        pre.refresh(parts.evaluator.linearize(parts.theta))
        for damping in dampings:
            pre.set_damping(damping)
            pre.apply(x, y)
        results.append(parts.layout.gather(y).copy())
        pre.destroy()
    np.testing.assert_allclose(*results, rtol=0.0, atol=1e-9 * np.abs(results[0]).max())


@pytest.mark.parallel(2, 3)
def test_a_redundant_factorisation_is_refused(comm):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, CASES["poisson"].build, (1,), **KRYLOV, pc_type="cholesky")
    assert "takes one λ only on several ranks" in str(caught.value.__cause__ or caught.value)


def test_bounds_are_refused(comm):
    theta = start(CASES["poisson"].build())
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, CASES["poisson"].build, (1,), (theta - 1.0, theta + 1.0), **KRYLOV)
    assert "krylov cannot hold parameters at their bounds" in str(caught.value.__cause__ or caught.value)
