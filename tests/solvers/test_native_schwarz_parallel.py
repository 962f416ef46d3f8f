"""PETSc's nasm and aspin on the blocks of θ, and Schwarz sweeps as nonlinear preconditioners."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import CASES, LINEAR, Case, jacobian_by_torch, resnet, samples_of, start, system_of

from pescitrain.evaluation.resampling import FreshPoints
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver

pytestmark = pytest.mark.parallel

CASE = Case(CASES["poisson"].problem, resnet())  # four layers


def run(comm, length=4, case=CASE, blocks=None, overlap=0, damping=None, **options):
    """All iterates (k, n), the outcome, and the closures with the length of their critical path."""
    for key, value in {"snes_rtol": 0, "snes_stol": 0, **options}.items():
        PETSc.Options()[key] = value
    iterates, outcome = [], NOTHING_LEFT
    system = system_of(case.build(comm), blocks, overlap)
    settings = GaussNewtonSettings(damping=damping)
    solver = SnesSolver(system, "", settings, lambda it: iterates.append(it.theta.copy()) or False)
    outcome, _ = solver.run(system.layout.vec_from(start(case.build())), 0, length, {})
    solver.destroy()
    counters = system.evaluator.counters
    return np.array(iterates), outcome, counters.closures, counters.closures_depth


def test_a_sweep_of_nasm_is_the_dense_solve_of_each_block(comm):
    """On a linear problem, undamped: every block takes its own step of Gauss–Newton from the same point."""
    options = {"snes_type": "nasm", "sub_snes_linesearch_type": "basic"}
    iterates, _, _, _ = run(comm, 1, LINEAR, damping=0.0, **options)
    evaluator = LINEAR.build()
    theta = start(evaluator)
    jacobian = jacobian_by_torch(evaluator, theta)
    gradient, expected = jacobian.T @ evaluator.residual(theta), theta.copy()
    for block in system_of(LINEAR.build(comm)).blocks:
        own = jacobian[:, block.active]
        expected[block.active] -= np.linalg.solve(own.T @ own, gradient[block.active])
    np.testing.assert_allclose(iterates[1], expected, rtol=0.0, atol=1e-10)


SCHWARZ = [
    {"snes_type": "nasm", "blocks": 2, "damping": 1.0},
    {"snes_type": "newtonls", "npc_snes_type": "nasm", "pc_type": "cholesky"},
    {"snes_type": "newtontr", "npc_snes_type": "nasm", "pc_type": "none"},
    {"snes_type": "ngmres", "npc_snes_type": "nasm"},
    {"snes_type": "qn", "npc_snes_type": "nasm"},
    {"snes_type": "aspin", "pc_type": "none", "damping": 1.0},
    {"snes_type": "qn", "npc_snes_type": "spqn", "npc_sub_tao_max_it": 3},
    {"snes_type": "ngmres", "npc_snes_type": "spqn", "npc_snes_spqn_kind": "multiplicative", "npc_sub_tao_max_it": 2},
    {"snes_type": "newtonls", "npc_snes_type": "spqn", "pc_type": "cholesky"},
    {"snes_type": "nrichardson", "npc_snes_type": "spqn", "npc_snes_spqn_sync": "single"},
]


@pytest.mark.parametrize(
    "options", SCHWARZ, ids=lambda options: f"{options['snes_type']}-{options.get('npc_snes_type')}"
)
def test_it_descends_and_does_not_depend_on_the_number_of_ranks(comm, options):
    spread, outcome, closures, depth = run(comm, 2, **options)
    assert outcome.budget, outcome
    assert len(spread) == 3
    evaluator = CASE.build()
    objectives = [evaluator.objective(theta).objective for theta in spread]
    assert objectives[-1] < objectives[0]
    alone, _, alone_closures, alone_depth = run(CASE.build().comm, 2, **options)
    np.testing.assert_allclose(spread, alone, rtol=0.0, atol=1e-7)  # two iterations of nested Newton methods
    assert (closures, depth) == (alone_closures, alone_depth)


def test_blocks_see_points_that_have_moved(comm):
    PETSc.Options()["snes_type"] = "nasm"
    system = system_of(CASE.build(comm))
    solver = SnesSolver(system, "", GaussNewtonSettings(), lambda _: False)
    functions, evaluator, theta = solver.block_functions, system.evaluator, start(CASE.build())
    assert functions is not None
    before = evaluator.objective_gradient(theta)[1]
    FreshPoints(samples_of(evaluator), 1).refresh(theta, 1)
    solver.points_moved({})
    after = evaluator.objective_gradient(theta)[1]
    assert np.linalg.norm(after - before) > 1e-2 * np.linalg.norm(before)
    for place, block in enumerate(functions.blocks):
        np.testing.assert_allclose(functions.gradient(place, theta), after[block.active], rtol=0.0, atol=1e-12)
    solver.destroy()
