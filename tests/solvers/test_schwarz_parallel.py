"""Nonlinear Schwarz: what it must be equal to, what it must never do, and what it costs."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import LINEAR, TWO_TERMS, Case, Toy, jacobian_by_torch, mlp, resnet, start, system_of

from pescitrain.errors import OptionError
from pescitrain.problem import Data, Residual
from pescitrain.solvers.outcome import NOTHING_LEFT, GaussNewtonSettings
from pescitrain.solvers.schwarz.search import point_at
from pescitrain.solvers.schwarz.synchronisation import SYNCHRONISATIONS, Synchronisation, weights_of
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

CASE = Case(TWO_TERMS.problem, resnet())  # four layers
LAYERS = 4


class Run:
    """All iterates (k, n) of spqn, and what it cost, in segments as after a restart."""

    def __init__(self, comm, lengths=(4,), case=CASE, blocks=None, overlap=0, **options):
        defaults = {"tao_type": "spqn", "tao_gatol": 0, "tao_grtol": 0, "sub_tao_max_it": 3}
        for key, value in {**defaults, **options}.items():
            PETSc.Options()[key] = value
        self.iterates, self.memory, position = [], {}, 0
        alone = case.build()
        self.outcome, theta = NOTHING_LEFT, start(alone)
        self.closures = self.depth = 0.0
        for length in lengths:
            system = system_of(case.build(comm), blocks, overlap)
            solver = TaoSolver(system, "", GaussNewtonSettings(), self._watch)
            x = system.layout.vec_from(theta)
            self.outcome, self.memory = solver.run(x, position, length, self.memory)
            position, theta = position + length, system.layout.gather(x).copy()
            self.closures += system.evaluator.counters.closures
            self.depth += system.evaluator.counters.closures_depth
            solver.destroy()
        self.iterates = np.array(self.iterates)
        self.objectives = np.array([alone.objective(theta).objective for theta in self.iterates])

    def _watch(self, iterate):
        self.iterates.append(iterate.theta.copy())
        return False


def lbfgs(comm, length, **options):
    """Iterates of plain L-BFGS."""
    PETSc.Options()["tao_type"] = "lbfgs"
    return Run(comm, (length,), **{"tao_type": "lbfgs", "tao_max_it": length, **options}).iterates


@pytest.mark.parametrize(
    ("sync", "secant"), [*((sync, "global") for sync in SYNCHRONISATIONS), ("single", "half"), ("single", "mixed")]
)
def test_without_local_steps_it_is_plain_lbfgs(comm, sync, secant):
    options = {"sub_tao_max_it": 0, "tao_spqn_sync": sync, "tao_spqn_secant": secant, "tao_spqn_coarse": "output"}
    path = Run(comm, (6,), **options, coarse_tao_max_it=0, global_tao_lbfgs_history=4)
    np.testing.assert_allclose(path.iterates, lbfgs(comm, 6, tao_lbfgs_history=4), rtol=0.0, atol=1e-12)


def test_global_steps_alone_are_plain_lbfgs(comm):
    """Several for each iteration, with the memory of all."""
    path = Run(comm, (2,), sub_tao_max_it=0, tao_spqn_sync="copy", global_tao_max_it=3)
    np.testing.assert_allclose(path.iterates, lbfgs(comm, 6)[::3], rtol=0.0, atol=1e-12)


def test_one_block_in_turn_without_a_global_step_is_plain_lbfgs(comm):
    options = {"tao_spqn_kind": "multiplicative", "tao_spqn_global": False, "tao_spqn_warmup": 0}
    kept = Run(comm, (3,), blocks=1, **options, tao_spqn_memory="keep")
    plain = lbfgs(comm, 9)
    np.testing.assert_allclose(kept.iterates, plain[::3], rtol=0.0, atol=1e-12)
    PETSc.Options()["tao_spqn_memory"] = "restart"
    np.testing.assert_allclose(Run(comm, (1,), blocks=1, **options).iterates[1], plain[3], rtol=0.0, atol=1e-12)


def test_of_one_block_additive_and_multiplicative_are_the_same(comm):
    paths = [
        Run(comm, (4,), blocks=1, tao_spqn_kind=kind, tao_spqn_sync="copy").iterates
        for kind in ("additive", "multiplicative")
    ]
    np.testing.assert_allclose(*paths, rtol=0.0, atol=1e-12)


def test_blocks_that_overlap_wholly_are_one_block(comm):
    options = {"tao_spqn_sync": "single", "tao_spqn_weights": "average"}
    many = Run(comm, (3,), blocks=3, overlap=LAYERS, **options).iterates
    np.testing.assert_allclose(many, Run(comm, (3,), blocks=1, **options).iterates, rtol=0.0, atol=1e-12)


def test_blocks_that_do_not_meet_may_be_trained_in_any_way(comm):
    """φ(u) + φ(v) of two affine networks: side by side is one after the other."""
    points = np.random.default_rng(0).uniform(-1, 1, (7, 2))

    def apart():
        terms = [Data(points, np.sin(points.sum(1)), field=name, name=name) for name in ("u", "v")]
        return Toy(terms, fields=("u", "v"), networks={"first": ("u",), "second": ("v",)})

    case = Case(apart, mlp(depth=0))
    options = {"case": case, "blocks": 2, "tao_spqn_warmup": 0, "tao_spqn_sync": "copy"}
    paths = [Run(comm, (3,), tao_spqn_kind=kind, **options).iterates for kind in ("additive", "multiplicative")]
    np.testing.assert_allclose(*paths, rtol=0.0, atol=1e-13)


def secant_errors(path, case):
    evaluator = case.build()
    jacobian = jacobian_by_torch(evaluator, start(evaluator))
    matrix = jacobian.T @ jacobian
    steps, changes = path.memory["global secant_steps"], path.memory["global secant_changes"]
    assert len(steps) > 1
    return [np.linalg.norm(y - matrix @ s) / np.linalg.norm(y) for s, y in zip(steps, changes, strict=True)]


@pytest.mark.parametrize(("secant", "true"), [("global", True), ("half", True), ("mixed", False)])
def test_the_pairs_of_the_global_memory_are_secants(comm, secant, true):
    """On a quadratic y = A s; the mixed pair, kept for comparison, breaks it."""
    path = Run(comm, (6,), case=LINEAR, tao_spqn_secant=secant)
    assert (max(secant_errors(path, LINEAR)) < 1e-8) == true


def test_the_subspace_of_a_quadratic_is_solved_by_one_trial(comm):
    """The reduced Hessian is exact, so that its step is; it costs a gradient for each direction."""
    system = system_of(LINEAR.build(comm))
    weights = weights_of("sum", system.blocks, system.layout.size)
    synchronisation = Synchronisation("subspace", weights, system, "", lambda _: None)
    before = point_at(system, start(LINEAR.build()))
    corrections = []
    for block in system.blocks:
        correction = np.zeros_like(before.theta)
        correction[block.active] = -0.1 * before.gradient[block.active]
        corrections.append(correction)
    spent = system.evaluator.counters.closures
    after = synchronisation.join(before, corrections)
    assert system.evaluator.counters.closures - spent == len(corrections) + 1
    for correction in corrections:
        assert abs(after.gradient @ correction) < 1e-12 * np.linalg.norm(before.gradient) * np.linalg.norm(correction)


@pytest.mark.parametrize("others", [True, False])
def test_the_subspace_leaves_out_a_correction_to_where_there_is_no_objective(comm, others):
    system = system_of(CASE.build(comm))
    synchronisation = Synchronisation("subspace", [], system, "", lambda _: None)
    before = point_at(system, start(CASE.build()))
    good, bad = -0.01 * before.gradient, -1e140 * before.gradient
    after = synchronisation.join(before, [good, bad] if others else [bad])
    assert (after.value.objective < before.value.objective) == others
    assert np.isfinite(after.gradient).all()


@pytest.mark.parametrize(
    "options",
    [
        {"tao_spqn_kind": "multiplicative"},
        {"tao_spqn_kind": "multiplicative", "tao_spqn_order": "symmetric"},
        {"tao_spqn_kind": "multiplicative", "tao_spqn_order": "random"},
        {"tao_spqn_kind": "hybrid", "tao_spqn_sync": "single"},
        {"tao_spqn_sync": "single", "overlap": 1},
        {"tao_spqn_sync": "single", "overlap": 1, "tao_spqn_weights": "restrict"},
        {"tao_spqn_sync": "subdomain", "overlap": 1},
        {"tao_spqn_sync": "subspace"},
        {"tao_spqn_coarse": "first", "blocks": 2},
        {"tao_spqn_coarse": "interface", "overlap": 1, "tao_spqn_coarse_accept": "copy"},
        {"tao_spqn_coarse": "gains"},
        {"tao_spqn_coarse": "network"},
        {"sub_tao_type": "lm", "sub_tao_max_it": 1},
        {"sub_tao_type": "bntr", "sub_tao_max_it": 1, "global_tao_type": "blmvm"},
        {"tao_spqn_preset": "aspqn"},
        {"tao_spqn_preset": "two_level"},
    ],
)
def test_the_objective_never_rises(comm, options):
    path = Run(comm, (3,), **options)
    assert len(path.objectives) == 4
    assert (np.diff(path.objectives) < 0).all()


def test_a_local_solve_moves_its_own_layers_alone(comm):
    system = system_of(CASE.build(comm), 2)
    seen = []
    options = {"tao_spqn_kind": "multiplicative", "tao_spqn_global": False, "tao_spqn_warmup": 0}
    for key, value in {"tao_type": "spqn", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    moved = system.evaluator.objective_gradient
    system.evaluator.objective_gradient = lambda theta: seen.append(theta.copy()) or moved(theta)
    solver = TaoSolver(system, "", GaussNewtonSettings(), lambda _: False)
    solver.run(system.layout.vec_from(start(CASE.build())), 0, 1, {})
    first, second = system.blocks
    steps = [step for step in np.diff(np.array(seen), axis=0) if step.any()]
    assert not steps[0][second.active].any()
    assert not steps[1][first.active].any()


@pytest.mark.parametrize(
    ("options", "closures", "depth"),
    [
        ({"tao_spqn_sync": "single"}, lambda n, k: n * k + 2, lambda n, k: k + 2),
        ({"tao_spqn_sync": "subdomain"}, lambda n, k: n * k + n + 1, lambda n, k: k + n + 1),
        ({"tao_spqn_sync": "copy"}, lambda n, k: n * k + 2, lambda n, k: k + 2),
        ({"tao_spqn_kind": "multiplicative"}, lambda n, k: n * (k + 1) + 1, lambda n, k: n * (k + 1) + 1),
        ({"tao_spqn_sync": "single", "global_tao_max_it": 4}, lambda n, k: n * k + 5, lambda n, k: k + 5),
        ({"tao_spqn_sync": "single", "tao_spqn_coarse": "output"}, lambda n, k: n * k + k + 3, lambda n, k: 2 * k + 3),
    ],
)
def test_closures_are_those_of_the_formulas(comm, options, closures, depth):
    """One start, then per iteration what each phase costs where every trial is accepted at once."""
    steps = 3
    unit = {f"{inner}tao_ls_type": "unit" for inner in ("sub_", "coarse_", "sync_", "global_")}
    tiny = {f"{inner}tao_type": "adam" for inner in ("sub_", "coarse_", "global_")}  # steps that always descend a bit
    rates = {f"{inner}tao_adam_lr": 1e-5 for inner in ("sub_", "coarse_", "global_")}
    path = Run(
        comm,
        (3,),
        tao_spqn_warmup=0,
        **unit,
        **tiny,
        **rates,
        **options,
        sub_tao_max_it=steps,
        coarse_tao_max_it=steps,
    )
    assert path.closures == 1 + 3 * closures(LAYERS, steps)
    assert path.depth == 1 + 3 * depth(LAYERS, steps)


OPTIONS = [
    {
        "tao_spqn_kind": "additive",
        "tao_spqn_memory": "keep",
        "tao_spqn_coarse": "first",
        "global_tao_lbfgs_momentum": 0.9,
    },
    {"tao_spqn_kind": "multiplicative", "tao_spqn_memory": "keep", "tao_spqn_order": "random"},
    {"tao_spqn_sync": "subspace", "tao_spqn_secant": "half"},
    {"tao_spqn_kind": "hybrid", "tao_spqn_sync": "single", "tao_spqn_memory": "keep"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_path_does_not_depend_on_the_number_of_ranks(comm, options):
    spread = Run(comm, (3,), **options)
    alone = Run(system_of(CASE.build()).evaluator.comm, (3,), **options)
    # In the subspace, eigenvalues of the reduced Hessian down to 1e-8 of the largest magnify what sums round.
    tolerance = 1e-8 if options.get("tao_spqn_sync") == "subspace" else 1e-10
    np.testing.assert_allclose(spread.iterates, alone.iterates, rtol=0.0, atol=tolerance)
    assert (spread.closures, spread.depth) == (alone.closures, alone.depth)


def test_fewer_blocks_than_ranks_share_them(comm):
    options = {"blocks": 1, "tao_spqn_sync": "single"}
    alone = Run(system_of(CASE.build()).evaluator.comm, (3,), **options)
    np.testing.assert_allclose(Run(comm, (3,), **options).iterates, alone.iterates, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_restart_continues(comm, options):
    whole, parts = Run(comm, (5,), **options), Run(comm, (3, 2), **options)
    assert np.array_equal(parts.iterates, whole.iterates)
    assert np.abs(np.diff(whole.iterates, axis=0)).max(axis=1).min() > 1e-8


def test_a_coarse_step_of_all_layers_is_plain_lbfgs(comm):
    options = {"tao_spqn_coarse": "first", "tao_spqn_coarse_accept": "copy", "tao_spqn_global": False}
    path = Run(comm, (1,), **options, tao_spqn_warmup=0, sub_tao_max_it=0, coarse_tao_max_it=5)
    np.testing.assert_allclose(path.iterates[1], lbfgs(comm, 5)[5], rtol=0.0, atol=1e-13)


def test_a_block_that_fails_has_no_correction_and_the_rest_goes_on(comm, capfd):
    """The residual of one block's trial is NaN far from the start: its search steps back or gives up."""

    def steep():
        return Toy([Residual(lambda u, x: (u.laplacian + u - x).where(u.value.abs() < 1e3, float("nan")))])

    path = Run(comm, (3,), case=Case(steep, resnet()), sub_tao_type="adam", sub_tao_adam_lr=1e6)
    assert (np.diff(path.objectives) < 0).all()
    said = comm.bcast(capfd.readouterr().out)
    assert "note: block" in said
    assert "had no correction in an iteration: the objective or its gradient became infinite or NaN (said once)" in said


def test_weights_of_overlapping_blocks(comm):
    system = system_of(CASE.build(comm), 3, 1)
    size, blocks = system.layout.size, system.blocks
    active = np.zeros((len(blocks), size))
    for row, block in zip(active, blocks, strict=True):
        row[block.active] = 1.0
    by_kind = {kind: np.array(weights_of(kind, blocks, size)) for kind in ("average", "mean", "restrict", "sum")}
    np.testing.assert_allclose((by_kind["average"] * active).sum(0), 1.0, rtol=1e-15)
    np.testing.assert_allclose((by_kind["restrict"] * active).sum(0), 1.0, rtol=1e-15)
    np.testing.assert_allclose(by_kind["mean"], 1.0 / active.sum(0).mean(), rtol=1e-15)
    assert np.array_equal(by_kind["sum"] * active, active)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tao_spqn_kind": "both"}, "choose from additive, multiplicative, hybrid"),
        ({"tao_spqn_sync": "all"}, "choose from single, subdomain, subspace, copy"),
        ({"tao_spqn_coarse": "all"}, "choose from none, first"),
        ({"tao_spqn_preset": "paper"}, "choose from none, aspqn"),
        ({"global_tao_max_it": 0}, "-global_tao_max_it 0: it must be at least 1"),
        ({"tao_spqn_global_every": 0}, "-tao_spqn_global_every 0: it must be at least 1"),
        ({"sub_tao_type": "lmfit"}, "-sub_tao_type lmfit"),
        ({"tao_spqn_coarse": "gains", "coarse_tao_type": "lm"}, "in a subspace use"),
        ({"tao_spqn_secant": "half", "global_tao_type": "adam"}, "is for -global_tao_type lbfgs"),
    ],
)
def test_a_senseless_option_is_refused(comm, options, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        Run(comm, (1,), **options)
    assert sentence in str(caught.value.__cause__ or caught.value)
