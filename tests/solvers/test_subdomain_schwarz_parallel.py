"""Nonlinear Schwarz on networks of subdomains: what it must be equal to, its coarse steps, any number of ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from toys import CASES, LINEAR, Case, resnet, start, subdomains, system_of

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.errors import OptionError
from pescitrain.evaluation.couplings import find_couplings
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.schwarz.coarse import create_coarse_step
from pescitrain.solvers.schwarz.local import LocalProblems
from pescitrain.solvers.schwarz.preconditioner import NonlinearSchwarz, local_defaults
from pescitrain.solvers.schwarz.search import point_at
from pescitrain.solvers.snes import SnesSolver
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

ROW = Case(CASES["poisson"].problem, subdomains(((4, 1),), width=2))
GRID = Case(CASES["poisson"].problem, subdomains(((3, 3),), width=2))
LEVELS = Case(CASES["poisson"].problem, subdomains(((1, 1), (2, 1)), width=2))


def system(case, comm=MPI.COMM_SELF, overlap=0):
    """With its couplings, as in a run."""
    evaluator = case.build(comm, interior=30, boundary=6)
    layers = evaluator.parameters.layers
    couplings = find_couplings(evaluator.surrogate, layers, evaluator.samples, comm)
    assert couplings is not None
    blocks = decompose(layers, "layer", None, overlap, couplings.neighbours)
    return System(evaluator, ParameterLayout(evaluator.parameters, PETSc.Comm(comm)), blocks, None, couplings)


def put_options(**options):
    for key, value in options.items():
        PETSc.Options()[key] = value


def train(case, comm, length=2, overlap=0, **options):
    """The iterates (k, n) of spqn or of a SNES type, and the closures with their critical path."""
    put_options(**{"tao_gatol": 0, "tao_grtol": 0, "snes_rtol": 0, "snes_stol": 0, **options})
    whole, iterates = system(case, comm, overlap), []
    kind = SnesSolver if "snes_type" in options else TaoSolver
    solver = kind(whole, "", GaussNewtonSettings(), lambda it: iterates.append(it.theta.copy()) or False)
    solver.run(whole.layout.vec_from(start(whole.evaluator)), 0, length, {})
    solver.destroy()
    counters = whole.evaluator.counters
    return np.array(iterates), (counters.closures, counters.closures_depth, counters.linearization)


def test_the_colours_of_a_grid_share_no_sample(comm):
    put_options(tao_spqn_kind="hybrid", sub_tao_max_it=1)
    whole = system(GRID, comm)
    schwarz = NonlinearSchwarz(whole, "", "tao_spqn_")
    assert [problems.count for problems, _ in schwarz.together] == [4, 2, 2, 1]
    here = point_at(whole, start(whole.evaluator))
    for problems, _ in schwarz.together:
        changes = [correction.change for correction in problems.solve(here, False)]
        apart = [here.value.objective - point_at(whole, here.theta + c).value.objective for c in changes]
        there = point_at(whole, here.theta + np.sum(changes, axis=0))
        assert min(apart) > 0.0
        assert here.value.objective - there.value.objective == pytest.approx(sum(apart), rel=1e-10)
        here = there
    schwarz.destroy()


def test_two_colours_are_blocks_in_turn(comm):
    case = Case(CASES["poisson"].problem, subdomains(((2, 1),)))
    options = {"tao_type": "spqn", "sub_tao_max_it": 3}
    paths = [train(case, comm, tao_spqn_kind=kind, **options)[0] for kind in ("hybrid", "multiplicative")]
    np.testing.assert_allclose(*paths, rtol=0.0, atol=1e-11)


SPQN = {"tao_type": "spqn", "tao_spqn_warmup": 0, "sub_tao_type": "lm", "sub_tao_max_it": 1}
METHODS = [
    (ROW, SPQN | {"tao_spqn_kind": "additive", "tao_spqn_coarse": "output"}, 0),
    (ROW, SPQN | {"tao_spqn_kind": "multiplicative", "tao_spqn_global": False}, 1),
    (LEVELS, SPQN | {"tao_spqn_kind": "hybrid", "tao_spqn_coarse": "level", "coarse_tao_type": "lm"}, 0),
    (ROW, {"snes_type": "newtonls", "npc_snes_type": "nasm", "pc_type": "cholesky"}, 0),
    (ROW, {"snes_type": "qn", "npc_snes_type": "spqn", "npc_snes_spqn_coarse": "output"}, 1),
]


@pytest.mark.parametrize(("case", "options", "overlap"), METHODS)
def test_it_descends_and_does_not_depend_on_the_number_of_ranks(comm, case, options, overlap):
    spread, spent = train(case, comm, 2, overlap, **options)
    evaluator = case.build(interior=30, boundary=6)
    objectives = [evaluator.objective(theta).objective for theta in spread]
    assert objectives[2] < objectives[1] < objectives[0]
    alone, spent_alone = train(case, MPI.COMM_SELF, 2, overlap, **options)
    np.testing.assert_allclose(spread, alone, rtol=0.0, atol=1e-7)
    assert spent == pytest.approx(spent_alone, rel=1e-12)


def test_more_ranks_than_blocks(comm):
    case = Case(CASES["poisson"].problem, subdomains(((1, 1),)))
    put_options(sub_tao_max_it=2)
    local_defaults("sub_", {})
    results = []
    for ranks in (comm, MPI.COMM_SELF):
        whole = system(case, ranks)
        problems = LocalProblems(whole, whole.blocks, "sub_")
        (correction,) = problems.solve(point_at(whole, start(whole.evaluator)), False)
        results.append(correction.change)
        problems.destroy()
    np.testing.assert_allclose(*results, rtol=0.0, atol=1e-11)


def test_blocks_in_turn_take_no_closure_of_all_between_them(comm):
    options = {"tao_type": "spqn", "tao_spqn_warmup": 0, "tao_spqn_global": False, "tao_spqn_kind": "multiplicative"}
    whole = system(ROW, comm)
    put_options(**options, sub_tao_max_it=1)
    schwarz = NonlinearSchwarz(whole, "", "tao_spqn_")
    here = point_at(whole, start(whole.evaluator))
    before = whole.evaluator.counters.closures
    schwarz.apply(here, 0)
    local = sum(problem.evaluator.counters.closures for problem in schwarz.in_turn)
    assert whole.evaluator.counters.closures - before == pytest.approx(local + 1.0)
    schwarz.destroy()


def test_the_coarse_step_solves_for_all_output_layers(comm):
    """Of linear equations, up to its ridge."""
    case = Case(LINEAR.problem, subdomains(((3, 1),), width=2))
    whole = system(case, comm)
    step = create_coarse_step("output", "copy", whole, whole.blocks, "")
    assert step is not None
    here = point_at(whole, start(whole.evaluator))
    there = step.move(here, False)
    moved = np.flatnonzero(there.theta != here.theta)
    outputs = np.concatenate([np.arange(layer.stop - 3, layer.stop) for layer in whole.layout.layers[:-1]])
    assert set(moved) <= set(outputs.tolist())
    assert np.abs(there.gradient[outputs]).max() < 1e-4 * np.abs(here.gradient[outputs]).max()


def test_the_coarse_step_trains_the_coarsest_level(comm):
    put_options(coarse_tao_type="lm", coarse_tao_max_it=2)
    whole = system(LEVELS, comm)
    step = create_coarse_step("level", "search", whole, whole.blocks, "")
    assert step is not None
    here = point_at(whole, start(whole.evaluator))
    there = step.move(here, False)
    coarsest = whole.layout.layers[0]
    assert set(np.flatnonzero(there.theta != here.theta)) <= set(range(coarsest.stop))
    assert there.value.objective < here.value.objective


def test_one_level_has_no_coarsest(comm):
    whole = system(ROW, comm)
    with pytest.raises(OptionError, match=r"needs more than one: give -net_subdomains 1,8"):
        create_coarse_step("level", "search", whole, whole.blocks, "")


def test_the_search_after_a_coarse_step_goes_along_that_step(comm):
    """Not along the gradient of a solver that shares its options."""
    case = Case(CASES["poisson"].problem, resnet())
    whole = system_of(case.build(comm))
    local_defaults("coarse_", {})
    put_options(coarse_tao_max_it=3)
    step = create_coarse_step("output", "search", whole, whole.blocks, "")
    assert step is not None
    here = point_at(whole, start(whole.evaluator))
    there = step.move(here, False)
    output = whole.layout.layers[-1]
    moved = np.flatnonzero(there.theta != here.theta)
    assert len(moved) == output.size
    assert moved[0] == output.start
    assert there.value.objective < here.value.objective
