"""The preconditioner is the initial inverse Hessian of the quasi-Newton methods: their steps, computed once more."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import TWO_TERMS, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.preconditioning import create_preconditioner
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = TWO_TERMS


def solver_for(comm, name, lag, seen, rows=0, **options):
    defaults = {"tao_type": name, "pc_type": "asm", "tao_gatol": 0, "tao_grtol": 0}
    for key, value in (defaults | options).items():
        PETSc.Options()[key] = value
    system = system_of(CASE.build(comm), overlap=1)
    return TaoSolver(
        system, "", GaussNewtonSettings(lag=lag, rows=rows), lambda it: seen.append(it.theta.copy()) or False
    )


def asm(system):
    preconditioner = create_preconditioner(system, "", GaussNewtonSettings(), True, [], "blmvm")
    assert preconditioner is not None
    return preconditioner


def dense_preconditioner(comm, theta):
    """M (n, n) of -pc_type asm at θ, column by column."""
    system = system_of(CASE.build(comm), overlap=1)
    preconditioner = asm(system)
    x = system.layout.vec_from(theta)
    system.linearize(x, preconditioner)
    columns, y = [], system.layout.create_vec()
    for unit in np.eye(len(theta)):
        x = system.layout.vec_from(unit)
        preconditioner.apply(x, y)
        columns.append(system.layout.gather(y).copy())
    preconditioner.destroy()
    return np.array(columns).T


def bfgs(initial, pairs):
    """The inverse Hessian of BFGS (Nocedal & Wright, eq. (6.17)) from an initial one and the secant pairs."""
    h = initial
    for s, y in pairs:
        v = np.eye(len(s)) - np.outer(s, y) / (s @ y)
        h = v @ h @ v.T + np.outer(s, s) / (s @ y)
    return h


@pytest.mark.parametrize("name", ["blmvm", "bqnls"])
@pytest.mark.parametrize("lag", [1, 2, 10])
def test_the_steps_are_those_of_bfgs_from_the_scaled_preconditioner(comm, name, lag):
    seen = []
    solver = solver_for(comm, name, lag, seen, tao_ls_type="unit")
    theta = start(CASE.build())
    solver.run(solver.system.layout.vec_from(theta), 0, 4, {})
    gradients = [CASE.build().objective_gradient(point)[1].copy() for point in seen]
    pairs, inverse = [], np.zeros(0)
    for k in range(len(seen) - 1):
        if k:
            pairs.append((seen[k] - seen[k - 1], gradients[k] - gradients[k - 1]))
            assert pairs[-1][0] @ pairs[-1][1] > 0.0
        if k % lag == 0:
            inverse = dense_preconditioner(comm, seen[k])
        scale = 1.0
        if pairs:
            s, y = pairs[-1]
            scale = (s @ y) / (y @ inverse @ y)
        step = -bfgs(scale * inverse, pairs) @ gradients[k]
        # Two inverses of blocks with condition numbers up to 1e4, summed in different orders.
        np.testing.assert_allclose(seen[k + 1] - seen[k], step, rtol=1e-6, atol=1e-9 * np.abs(step).max())
    assert len(seen) == 5


def test_a_pair_without_curvature_leaves_the_scale(comm):
    system = system_of(CASE.build(comm))
    preconditioner = asm(system)
    x = system.layout.vec_from(start(CASE.build()))
    system.linearize(x, preconditioner)
    preconditioner.scale = 3.0
    step, change = x.copy(), x.copy()
    change.scale(-1.0)
    preconditioner.rescale(step, change)
    assert preconditioner.scale == 3.0
    preconditioner.rescale(step, x)
    assert preconditioner.scale != 3.0
    preconditioner.destroy()


@pytest.mark.parametrize("rows", [0, 15])
@pytest.mark.parametrize("name", ["blmvm", "nls"])
def test_a_run_that_is_cut_between_two_refreshes_continues(comm, name, rows):
    """The preconditioner is made again at the point where it was made, not at the cut, and from the same rows."""
    if name == "nls":  # refreshes at each iteration
        PETSc.Options()["ksp_max_it"] = 3
    paths = []
    for lengths in ([7], [4, 3]):
        seen, memory, position, theta = [], {}, 0, start(CASE.build())
        for length in lengths:
            solver = solver_for(comm, name, 3 if name == "blmvm" else 1, seen, rows)
            x = solver.system.layout.vec_from(theta)
            _, memory = solver.run(x, position, length, memory)
            position, theta = position + length, solver.system.layout.gather(x).copy()
        paths.append(np.array(seen))
    np.testing.assert_allclose(paths[1], paths[0], rtol=0.0, atol=1e-10)


def test_line_search_options_hold_after_a_restart(comm):
    paths = []
    for lengths in ([12], [6, 6]):
        seen, memory, position, theta = [], {}, 0, start(CASE.build())
        for length in lengths:
            solver = solver_for(comm, "blmvm", 10, seen, tao_ls_stepmax=0.3, tao_ls_type="more-thuente")
            x = solver.system.layout.vec_from(theta)
            _, memory = solver.run(x, position, length, memory)
            position, theta = position + length, solver.system.layout.gather(x).copy()
        paths.append(np.array(seen))
    np.testing.assert_allclose(paths[1], paths[0], rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("settings", [{"tao_blmvm_mat_lmvm_J0_pc_type": "none"}])
def test_the_prefix_of_the_method_wins_over_the_one_preconditioner(comm, settings):
    seen = []
    solver = solver_for(comm, "blmvm", 10, seen, tao_ls_type="unit", **settings)
    theta = start(CASE.build())
    solver.run(solver.system.layout.vec_from(theta), 0, 1, {})
    np.testing.assert_allclose(seen[1] - seen[0], -CASE.build().objective_gradient(theta)[1], rtol=1e-10)


@pytest.mark.parametrize(("name", "prefix"), [("blmvm", ""), ("bqnls", ""), ("bqnls", "tao_bqnls_mat_lmvm_J0_")])
def test_a_krylov_solver_for_the_initial_matrix_is_taken_from_the_options_and_counted(comm, name, prefix):
    seen = []
    solver = solver_for(comm, name, 10, seen, **{f"{prefix}ksp_type": "cg", f"{prefix}ksp_max_it": 5})
    solver.run(solver.system.layout.vec_from(start(CASE.build())), 0, 2, {})
    assert solver.system.evaluator.counters.krylov >= 5


def test_a_new_start_takes_the_preconditioner_as_it_is(comm):
    """The scale to the last secant pair of an earlier solve is no property of the new one."""
    seen = []
    solver = solver_for(comm, "blmvm", 10, seen, tao_ls_type="unit")
    theta = start(CASE.build())
    for scale in (1.0, 5.0):
        assert solver.preconditioner is not None
        solver.preconditioner.scale = scale
        solver.run(solver.system.layout.vec_from(theta), 0, 1, {})
    # Sums over ranks come in any order, 1e-14 apart on busy cores.
    np.testing.assert_allclose(seen[1], seen[3], rtol=0.0, atol=0.0 if comm.size == 1 else 1e-13)


@pytest.mark.parametrize("name", ["bntr", "nls"])
def test_a_newton_method_without_preconditioner_has_none(comm, name):
    solver = solver_for(comm, name, 1, [], pc_type="none")
    tao = solver._create()
    x = solver.system.layout.vec_from(start(CASE.build()))
    tao.setSolution(x)
    tao.setFromOptions()
    tao.setUp()
    solver._wire(tao)
    assert tao.getKSP().getPC().getType() == "none"
    tao.destroy()


def test_the_lag_is_counted_from_the_start_of_each_segment(comm):
    """One solver for two segments does what two solvers do: a restart knows nothing of the first."""
    paths = []
    for again in (True, False):
        seen, theta = [], start(CASE.build())
        solver = solver_for(comm, "bntr", 2, seen)
        for position in (0, 3):
            solver = solver if again else solver_for(comm, "bntr", 2, seen)
            x = solver.system.layout.vec_from(theta)
            solver.run(x, position, 3, {})
            theta = solver.system.layout.gather(x).copy()
        paths.append(np.array(seen))
    assert paths[0].shape == paths[1].shape
    np.testing.assert_allclose(paths[0], paths[1], rtol=0.0, atol=1e-10)


def test_a_preconditioner_that_is_not_symmetric_is_refused(comm):
    solver = solver_for(comm, "blmvm", 10, [], pc_type="fieldsplit", pc_fieldsplit_type="multiplicative")
    with pytest.raises(OptionError, match="not symmetric"):
        solver.run(solver.system.layout.vec_from(start(CASE.build())), 0, 1, {})


def test_tolerances_hold_after_a_restart(comm):
    seen, memory, position, theta, outcome = [], {}, 0, start(CASE.build()), None
    for length in (6, 200):
        solver = solver_for(comm, "blmvm", 10, seen, tao_gatol=0.1)
        x = solver.system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        position, theta = position + length, solver.system.layout.gather(x).copy()
    assert outcome is not None
    assert outcome.reason == "CONVERGED_GATOL"
    assert 0 < outcome.iterations < 200


def test_a_krylov_option_that_is_passed_on_counts_as_used(comm):
    """Even where the inner solver has no use for it: it is no typo."""
    solver = solver_for(comm, "bntr", 1, [], ksp_gmres_restart=7)
    solver.run(solver.system.layout.vec_from(start(CASE.build())), 0, 1, {})
    assert PETSc.Options().used("ksp_gmres_restart")
    assert PETSc.Options().used("tao_bnk_ksp_gmres_restart")
