"""Every method, with and without preconditioner, finds the known minimum of a linear least-squares problem."""

import itertools

import numpy as np
import pytest
from petsc4py import PETSc
from toys import LINEAR, jacobian_by_torch, least_squares_minimum, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.names import TAO_NEWTON, TAO_SLOT, known_types
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver
from pescitrain.solvers.tao import TaoSolver

SOLVERS = {"tao": TaoSolver, "snes": SnesSolver}

# Methods of first order that creep: the options that make them arrive, and how near.
SPECIAL = {
    "adagrad": ({"tao_adagrad_lr": 0.2, "tao_max_it": 1500}, 1e-5),
    "mladagrad": ({"tao_mladagrad_lr": 0.2, "tao_max_it": 1500}, 1e-5),
    "asadagrad": ({"tao_asadagrad_lr": 0.2, "tao_max_it": 1500}, 1e-5),
    "adam": ({"tao_adam_lr": 0.2, "tao_adam_decay": 0.99, "tao_max_it": 600}, 1e-4),
    "sgd": ({"tao_sgd_lr": 0.05, "tao_max_it": 500}, 1e-5),
    "nrichardson": ({}, 2e-5),
    "soap": ({"tao_soap_lr": 0.2, "tao_soap_decay": 0.99, "tao_max_it": 600}, 1e-4),
    "owlqn": ({"tao_owlqn_lambda": 0.0, "tao_max_it": 100}, 1e-2),
}
PRECISE = {
    "tao": {"tao_gatol": 1e-7, "tao_grtol": 0, "tao_max_it": 500},
    "snes": {"snes_atol": 1e-7, "snes_rtol": 0, "snes_stol": 0, "snes_max_it": 500},
}
# Undamped sweeps over blocks that couple need not converge; test_native_schwarz_parallel.py has them.
METHODS = [(kind, name) for kind in SOLVERS for name in known_types(kind) if name not in ("python", "nasm", "aspin")]


def create(comm, kind, name, overlap=0, settings=None, prefix="", seen=None, bounds=None, **options):
    for key, value in {f"{kind}_type": name, **PRECISE[kind], **options}.items():
        PETSc.Options()[prefix + key] = value
    system = system_of(LINEAR.build(comm), overlap=overlap)
    system.bounds = bounds

    def monitor(iterate):
        if seen is not None:
            seen.append((iterate.iteration, iterate.objective, iterate.gradient_norm, iterate.theta.copy()))
        return False

    levels = 1 if name in ("mladagrad", "rmtr", "fas") else 2  # there is no coarser network of one layer
    return SOLVERS[kind](system, prefix, settings or GaussNewtonSettings(levels=levels), monitor)


def solve(method, segment=10**6, start_at=0, memory=None, theta=None):
    layout = method.system.layout
    x = layout.vec_from(start(LINEAR.build()) if theta is None else theta)
    outcome, memory = method.run(x, start_at, segment, memory or {})
    result = layout.gather(x).copy()
    x.destroy()
    method.destroy()
    return result, outcome, memory


def test_the_problem_is_well_posed_and_its_minimum_is_not_zero():
    evaluator = LINEAR.build()
    first = evaluator.objective(start(evaluator)).objective
    best = least_squares_minimum().copy()  # for torch, which takes no array that cannot be written
    value, gradient = evaluator.objective_gradient(best)
    assert 0.01 < value.objective < 0.9 * first
    assert np.abs(gradient).max() < 1e-13
    assert np.linalg.cond(jacobian_by_torch(LINEAR.build(), best)) < 20
    assert [layer.name for layer in evaluator.parameters.layers] == ["first.output", "second.output", "unknowns"]


@pytest.mark.parametrize(("kind", "name"), METHODS)
@pytest.mark.parametrize("pc_type", ["none", pytest.param("asm", marks=pytest.mark.parallel)])
def test_every_method_reaches_the_minimum(comm, kind, name, pc_type):
    options, tolerance = SPECIAL.get(name, ({}, 1e-5))  # gradient 1e-7, eigenvalues of JᵀJ above 0.1
    seen = []
    method = create(comm, kind, name, seen=seen, pc_type=pc_type, **options)
    best = least_squares_minimum()
    theta, outcome, _ = solve(method)
    np.testing.assert_allclose(theta, best, rtol=0.0, atol=tolerance)
    assert not outcome.diverged
    assert outcome.budget == (outcome.reason in ("DIVERGED_MAXITS", "DIVERGED_MAX_IT"))
    if name not in SPECIAL:
        assert outcome.reason.startswith("CONVERGED")
    # The monitor sees the start, then the iterates in order, and the last one is the result.
    assert seen[0][0] == 0
    assert seen[-1][0] == outcome.iterations
    if outcome.iterations:  # SNES qn may arrive by its nonlinear preconditioner, before the first iteration
        assert np.array_equal(seen[-1][3], theta)
    exact = LINEAR.build()
    assert seen[-1][1] == pytest.approx(exact.objective(seen[-1][3]).objective, rel=1e-12)
    assert seen[0][2] == pytest.approx(np.linalg.norm(exact.objective_gradient(seen[0][3])[1]), rel=1e-12)
    takes_one = (kind == "snes" and name != "fas") or name in TAO_SLOT or name == "lmvm"
    assert method.pc_label == (pc_type if takes_one else "none")
    notice = " ".join(method.notices)
    assert ("takes no preconditioner" in notice) == (pc_type == "asm" and not takes_one)


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_the_monitor_sees_every_iteration_once(comm, kind, name):
    seen = []
    options, _ = SPECIAL.get(name, ({}, 0.0))
    limit = {f"{kind}_max_it": 6}
    solve(create(comm, kind, name, seen=seen, pc_type="none", **{**options, **limit}))
    assert [it[0] for it in seen] == list(range(len(seen)))


@pytest.mark.parametrize("name", [*(name for name in TAO_NEWTON if name != "tron"), "newtonls"])
def test_a_newton_method_with_the_exact_inverse_takes_one_krylov_iteration(comm, name):
    kind = "snes" if name in known_types("snes") else "tao"
    settings = GaussNewtonSettings(shift=0.0)
    method = create(comm, kind, name, settings=settings, pc_type="cholesky", **{f"{kind}_max_it": 1})
    theta, _, _ = solve(method)
    assert method.system.evaluator.counters.krylov == 1
    if name != "ntr":  # whose first step may end at the trust radius
        np.testing.assert_allclose(theta, least_squares_minimum(), rtol=0.0, atol=1e-9)


@pytest.mark.parametrize(("kind", "name"), [("tao", "nls"), ("tao", "tron"), ("snes", "newtonls")])
def test_bare_krylov_options_reach_the_inner_solver(comm, kind, name):
    """Two iterations of CG on seven unknowns are not enough for one Newton step."""
    limit = {f"{kind}_max_it": 1, "ksp_max_it": 2, "ksp_rtol": 1e-12}
    method = create(comm, kind, name, pc_type="none", **limit)
    theta, _, _ = solve(method)
    assert method.system.evaluator.counters.krylov == 2
    assert np.abs(theta - least_squares_minimum()).max() > 1e-3


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("name", ["nls", "blmvm"])
def test_the_preconditioner_is_refreshed_every_lag_iterations(comm, monkeypatch, lag, name):
    method = create(comm, "tao", name, settings=GaussNewtonSettings(lag=lag), pc_type="asm", tao_max_it=7, tao_gatol=0)
    if name == "nls":  # steps too short to arrive
        PETSc.Options()["tao_ls_type"] = "unit"
        PETSc.Options()["ksp_max_it"] = 1
    refreshes = []
    assemble = method.preconditioner.matrix.assemble
    monkeypatch.setattr(method.preconditioner.matrix, "assemble", lambda l: refreshes.append(1) or assemble(l))
    _, outcome, _ = solve(method)
    assert outcome.iterations == 7
    # Newton types linearize once an iteration; quasi-Newton types refresh at the start and after every lag iterations.
    assert len(refreshes) == (-(-7 // lag) if name == "nls" else 1 + 7 // lag)


def test_a_budget_is_used_as_asked_and_is_no_divergence(comm):
    for kind, name in (("tao", "blmvm"), ("snes", "qn")):
        method = create(comm, kind, name, pc_type="none", **{f"{kind}_max_it": 20})
        _, outcome, _ = solve(method, segment=4)
        assert outcome.iterations == 4
        assert outcome.budget
        assert not outcome.diverged
        assert method.max_iterations == 20
        method = create(comm, kind, name, pc_type="none", **{f"{kind}_max_it": 20})
        assert solve(method, segment=10, start_at=17)[1].iterations == 3


@pytest.mark.parametrize(("kind", "name"), [("tao", "blmvm"), ("tao", "nls"), ("tao", "adam"), ("snes", "qn")])
def test_the_monitor_can_stop_a_method(comm, kind, name):
    method = create(comm, kind, name, pc_type="none")
    method.monitor = lambda iterate: iterate.iteration >= 2
    if name == "nls":
        PETSc.Options()["ksp_max_it"] = 1
    _, outcome, _ = solve(method)
    assert 2 <= outcome.iterations <= 3  # SNES types test for convergence before or after they report an iterate
    assert outcome.reason.startswith("CONVERGED")
    assert not outcome.budget


def test_lmvm_with_a_preconditioner_is_blmvm_and_says_so(comm):
    method = create(comm, "tao", "lmvm", pc_type="asm")
    assert (method.type, method.label) == ("blmvm", "blmvm")
    assert "blmvm is used instead" in method.notices[0]
    assert PETSc.Options()["tao_type"] == "blmvm"  # which TAO reads again
    PETSc.Options()["tao_type"] = "lmvm"
    plain = create(comm, "tao", "lmvm", pc_type="none")
    assert (plain.type, plain.label, plain.notices) == ("lmvm", "lmvm", [])


@pytest.mark.parametrize("name", ["nls", "cg", "lmvm", "adam", "soap", "ssbroyden"])
def test_a_method_that_ignores_bounds_is_refused_where_there_are_some(comm, name):
    PETSc.Options()["tao_type"] = name
    PETSc.Options()["pc_type"] = "none"
    system = system_of(LINEAR.build(comm))
    size = system.layout.size
    system.bounds = (np.full(size, -1.0), np.full(size, 1.0))
    with pytest.raises(OptionError, match=rf"-tao_type {name} ignores the bounds .* use one of blmvm, "):
        TaoSolver(system, "", GaussNewtonSettings(), lambda iterate: False)
    with pytest.raises(OptionError, match="SNES methods ignore the bounds"):
        SnesSolver(system, "", GaussNewtonSettings(), lambda iterate: False)


@pytest.mark.parallel
@pytest.mark.parametrize(
    ("name", "pc_type"),
    [
        *itertools.product(("blmvm", "bqnls", "bqnktr", "bnls", "bntr", "bntl", "tron", "bncg"), ("none", "asm")),
        # One method of each family: what a preconditioner does at a bound is alike in the others of the family.
        *itertools.product(("blmvm", "bqnls", "bntr", "tron"), ("cholesky", "kfac", "nystrom", "spectral", "woodbury")),
    ],
)
def test_a_bounded_method_stops_at_the_bound(comm, name, pc_type):
    best = least_squares_minimum()
    lower, upper = np.full_like(best, -np.inf), np.full_like(best, np.inf)
    upper[-1] = best[-1] - 0.3
    method = create(comm, "tao", name, bounds=(lower, upper), pc_type=pc_type)
    theta0 = start(LINEAR.build())
    theta0[-1] = min(theta0[-1], upper[-1])
    theta, _, _ = solve(method, theta=theta0)
    evaluator = LINEAR.build()
    gradient = evaluator.objective_gradient(theta)[1]
    assert theta[-1] == pytest.approx(upper[-1], abs=1e-12)
    np.testing.assert_allclose(gradient[:-1], 0.0, atol=2e-7)  # -tao_gatol 1e-7
    assert gradient[-1] < -1e-3


@pytest.mark.parametrize(("kind", "name"), [("tao", "blmvn"), ("snes", "newtonlz")])
def test_a_method_that_does_not_exist_is_refused_with_the_nearest_name(comm, kind, name):
    with pytest.raises(OptionError, match=rf"-{kind}_type {name} .* did you mean (blmvm|newtonls)\?"):
        create(comm, kind, name)


def test_a_preconditioner_without_a_matrix_is_refused(comm):
    with pytest.raises(OptionError, match=r"-gn_mat none leaves -pc_type asm without a matrix"):
        create(comm, "tao", "blmvm", settings=GaussNewtonSettings(matrix="none"), pc_type="asm")


def test_secant_pairs_that_nobody_gives_are_refused(comm):
    with pytest.raises(
        OptionError, match=r"^-pc_type lmvm is the identity here, .*use -tao_bnk_pc_type lmvm with bntr"
    ):
        create(comm, "tao", "bntr", pc_type="lmvm")


def test_no_matrix_means_no_preconditioner(comm):
    method = create(comm, "tao", "blmvm", settings=GaussNewtonSettings(matrix="none"))
    assert method.preconditioner is None
    assert method.pc_label == "none"


@pytest.mark.parametrize(("matrix", "kind"), [(None, "blocks"), ("blocks", "blocks"), ("dense", "dense")])
def test_the_matrix_is_the_one_that_is_asked_for(comm, matrix, kind):
    method = create(comm, "tao", "blmvm", settings=GaussNewtonSettings(matrix=matrix), pc_type="asm")
    assert method.preconditioner is not None
    assert method.preconditioner.matrix.kind == kind


@pytest.mark.parallel
@pytest.mark.parametrize("pc_type", ["kfac", "nystrom", "spectral", "woodbury"])
@pytest.mark.parametrize(("kind", "name"), [("tao", "blmvm"), ("tao", "nls"), ("snes", "newtontr"), ("snes", "qn")])
def test_own_preconditioners_lead_to_the_minimum_without_a_matrix(comm, kind, name, pc_type):
    method = create(comm, kind, name, settings=GaussNewtonSettings(matrix="none"), pc_type=pc_type)
    theta, outcome, _ = solve(method)
    assert method.pc_label == pc_type
    assert not outcome.diverged
    np.testing.assert_allclose(LINEAR.build().objective_gradient(theta)[1], 0.0, atol=1e-5)
