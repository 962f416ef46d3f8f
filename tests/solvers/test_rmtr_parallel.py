"""RMTR: coarse models, containment, descent, what it must be equal to, and what it costs."""

from itertools import pairwise

import numpy as np
import pytest
from petsc4py import PETSc
from toys import TWO_TERMS, Case, _two_terms, resnet, sentence_of, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.limited_memory_sr1 import LimitedMemorySR1
from pescitrain.solvers.multilevel.coarse_model import COARSE_MODELS, coarse_model
from pescitrain.solvers.multilevel.levels import create_levels
from pescitrain.solvers.multilevel.trust_region import (
    IsometricLevel,
    LevelSettings,
    RecursiveTrustRegion,
    Visit,
    read_level,
)
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel

DEEP = Case(_two_terms, resnet(width=4, depth=5))


def run(comm, lengths, levels=3, kind="depth", case=DEEP, **options):
    """Iterates (k, n), objectives, closures, in segments as after a restart."""
    for key, value in {"tao_type": "rmtr", "tao_gatol": 0, "tao_grtol": 0, **options}.items():
        PETSc.Options()[key] = value
    found, memory, position, theta, closures = [], {}, 0, start(case.build()), 0.0

    def watch(iterate):
        found.append((iterate.theta.copy(), iterate.objective))
        return False

    for length in lengths:
        system = system_of(case.build(comm))
        solver = TaoSolver(system, "", GaussNewtonSettings(coarsening=kind, levels=levels), watch)
        x = system.layout.vec_from(theta)
        _, memory = solver.run(x, position, length, memory)
        position, theta = position + length, system.layout.gather(x).copy()
        closures += system.evaluator.counters.closures
        solver.destroy()
    return np.array([one[0] for one in found]), np.array([one[1] for one in found]), closures


def isometric(comm, count, kind):
    levels, scale = [], np.ones(DEEP.build().parameters.size)
    for level in create_levels(system_of(DEEP.build(comm)), kind, count):
        levels.append(IsometricLevel(level, scale))
        scale = levels[-1].coarse_scale
    return levels


@pytest.mark.parametrize("kind", ["depth", "width", "both"])
def test_prolongation_is_an_isometry_on_every_level(comm, kind):
    *inner, _ = isometric(comm, 3, kind)
    for level in inner:
        u = np.random.default_rng(0).standard_normal(len(level.coarse_scale))
        assert np.linalg.norm(level.prolong(u)) == pytest.approx(np.linalg.norm(u), rel=1e-14)
        np.testing.assert_allclose(level.restrict(level.prolong(u)), u, rtol=0.0, atol=1e-14)


@pytest.mark.parametrize("kind", COARSE_MODELS)
def test_the_coarse_model_has_the_gradient_of_the_finer_one_on_three_levels(comm, kind):
    levels = isometric(comm, 3, "depth")
    model, theta = levels[0], start(levels[0].level.evaluator)
    for fine, coarse in pairwise(levels):
        value, gradient = model(theta)
        anchor = fine.restrict(theta)
        below = coarse_model(kind, coarse, anchor, coarse(anchor), (value, fine.restrict(gradient)))
        d = np.random.default_rng(1).standard_normal(len(anchor))
        d /= np.linalg.norm(d)
        h = 1e-5
        slope = (below(anchor + h * d)[0] - below(anchor - h * d)[0]) / (2 * h)
        assert slope == pytest.approx(below(anchor)[1] @ d, rel=1e-6, abs=1e-8)  # its own gradient
        if kind == "none":
            assert below(anchor)[0] == coarse(anchor)[0]
        else:
            assert slope == pytest.approx(gradient @ fine.prolong(d), rel=1e-6, abs=1e-8)
            assert below(anchor)[0] == pytest.approx(value, rel=1e-12)
        away = anchor + 0.1 * d
        numerical = (below(away + h * d)[0] - below(away - h * d)[0]) / (2 * h)
        assert numerical == pytest.approx(below(away)[1] @ d, rel=1e-6, abs=1e-8)
        model, theta = below, anchor


@pytest.mark.parallel(1)
def test_a_model_that_would_divide_by_nothing_is_none():
    zero = np.zeros(2)
    assert coarse_model("multiplicative", lambda y: (0.0, y), zero, (0.0, zero), (1.0, zero)) is None
    assert coarse_model("additive", lambda y: (0.0, y), zero, (0.0, zero), (1.0, zero)) is not None


class Quadratic:
    """½ xᵀAx − bᵀx, and columns of an isometry to the level below."""

    def __init__(self, matrix, linear, columns=None):
        self.matrix, self.linear, self.columns = matrix, linear, columns

    def __call__(self, x):
        return 0.5 * x @ self.matrix @ x - self.linear @ x, self.matrix @ x - self.linear

    def prolong(self, change):
        return self.columns @ change

    def restrict(self, vector):
        return self.columns.T @ vector


@pytest.mark.parallel(1)
def test_on_a_quadratic_the_correction_is_that_of_galerkin():
    random = np.random.default_rng(3)
    root = random.standard_normal((8, 8))
    a, b = root @ root.T + np.eye(8), random.standard_normal(8)
    p = np.linalg.qr(random.standard_normal((8, 3)))[0]
    method = RecursiveTrustRegion()
    method.settings = [LevelSettings(0, 0, 200, history=3)] * 2
    fine = Quadratic(a, b, p)
    method._levels = [fine, Quadratic(p.T @ a @ p, random.standard_normal(3))]
    theta = random.standard_normal(8)
    value, gradient = fine(theta)
    visit = Visit(fine, theta, value, gradient, 1e3, LimitedMemorySR1(3, PETSc.COMM_SELF), 0.0, method.settings[0])
    method._cycle(0, visit)
    exact = -p @ np.linalg.solve(p.T @ a @ p, p.T @ gradient)
    np.testing.assert_allclose(visit.theta - theta, exact, rtol=0.0, atol=1e-8 * np.abs(exact).max())


def test_one_level_is_the_one_level_method(comm):
    path, objectives, closures = run(comm, (20,), 1, tao_rmtr_coarse_its=1)
    single, values, spent = run(comm, (20,), 1, tao_type="trlsr1")
    np.testing.assert_allclose(path, single, rtol=0.0, atol=1e-7)  # twenty steps on sums in another order
    np.testing.assert_allclose(objectives, values, rtol=1e-8)
    assert closures == spent


def test_gauss_newton_steps_descend_faster_and_on_any_number_of_ranks(comm):
    path, objectives, _ = run(comm, (4,), tao_rmtr_hessian="gauss_newton")
    alone, *_ = run(comm.Split(comm.rank), (4,), tao_rmtr_hessian="gauss_newton")
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-7)
    cut, *_ = run(comm, (1, 3), tao_rmtr_hessian="gauss_newton")
    np.testing.assert_allclose(cut[-3:], path[-3:], rtol=0.0, atol=1e-11)
    _, secant, _ = run(comm, (4,), tao_rmtr_hessian="sr1")
    assert (np.diff(objectives) <= 0.0).all()
    assert objectives[-1] < secant[-1]


def test_a_level_has_settings_of_its_own(comm):
    for name, value in (
        ("tao_rmtr_history", 7),
        ("tao_rmtr_pre", 2),
        ("mg_levels_tao_rmtr_pre", 3),
        ("mg_levels_2_tao_rmtr_pre", 4),
        ("mg_coarse_tao_rmtr_coarse_its", 5),
        ("mg_coarse_tao_rmtr_hessian", "gauss_newton"),
    ):
        PETSc.Options()[name] = value
    coarse, middle, fine = (read_level("", number) for number in range(3))
    assert [level.pre for level in (coarse, middle, fine)] == [2, 3, 4]
    assert [level.history for level in (coarse, middle, fine)] == [7, 7, 7]
    assert [level.coarse_its for level in (coarse, middle, fine)] == [5, 10, 10]
    assert [level.hessian for level in (coarse, middle, fine)] == ["gauss_newton", "sr1", "sr1"]
    _, objectives, _ = run(comm, (2,))
    assert objectives[-1] < objectives[0]
    PETSc.Options()["mg_levels_1_tao_rmtr_post"] = -1
    with pytest.raises(OptionError, match="-mg_levels_1_tao_rmtr_post -1: it must be 0 or more"):
        read_level("", 1)


def test_injection_takes_the_gradient_of_one_child(comm):
    fine, _ = isometric(comm, 2, "depth")
    gradient = np.random.default_rng(1).standard_normal(len(fine.scale))
    matrix = fine.level.prolongation.toarray()
    expected = [gradient[np.flatnonzero(column)[0]] for column in matrix.T] / fine.coarse_scale
    np.testing.assert_allclose(fine.inject(gradient), expected, rtol=1e-15)
    _, objectives, _ = run(comm, (4,), tao_rmtr_restriction="injection")
    assert (np.diff(objectives) <= 0.0).all()


@pytest.mark.parametrize("model", COARSE_MODELS)
@pytest.mark.parametrize(("cycle", "kind"), [("v", "depth"), ("w", "both")])
def test_it_never_rises_and_coarse_steps_stay_in_the_finer_region(comm, model, cycle, kind, monkeypatch):
    corrections, steps = [], []
    attempt = RecursiveTrustRegion._try

    def watch(self, visit, step, predicted):
        radius = visit.radius
        attempt(self, visit, step, predicted)
        if visit.anchor is not None:
            corrections.append(np.linalg.norm(visit.theta - visit.anchor) / visit.bound)
        steps.append(np.linalg.norm(step) / radius)

    monkeypatch.setattr(RecursiveTrustRegion, "_try", watch)
    _, objectives, _ = run(comm, (4,), kind=kind, tao_rmtr_cycle=cycle, tao_rmtr_coarse_model=model)
    assert (np.diff(objectives) <= 0.0).all()
    assert objectives[-1] < objectives[0]
    assert corrections
    assert max(steps) <= 1 + 1e-12
    assert max(corrections) <= 1 + 1e-12


def test_a_cycle_costs_what_its_networks_are_in_size(comm):
    sizes = [level.evaluator.parameters.size for level in create_levels(system_of(DEEP.build()), "depth", 2)]
    _, _, closures = run(comm, (1,), 2, tao_rmtr_coarse_its=4)
    share = sizes[1] / sizes[0]
    # the start; a step before, the correction, a step after; Πθ and four coarse steps, whose first gradient is free
    assert closures == pytest.approx(1 + 3 + share * 5, rel=1e-12)


def test_the_path_is_that_of_one_rank_and_goes_on_after_a_restart(comm):
    path, *_ = run(comm, (6,))
    alone, *_ = run(comm.Split(comm.rank), (6,))
    np.testing.assert_allclose(path, alone, rtol=0.0, atol=1e-7)
    cut, *_ = run(comm, (2, 4))
    np.testing.assert_allclose(cut[-4:], path[-4:], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("cycle", "x", "-tao_rmtr_cycle x: choose from v, w"),
        ("coarse_model", "tau", "-tao_rmtr_coarse_model tau: choose from additive"),
        ("pre", -1, "-tao_rmtr_pre -1: it must be 0 or more"),
        ("coarse_its", 0, "-tao_rmtr_coarse_its 0: it must be 1 or more"),
        ("radius", 0, "-tao_rmtr_radius 0: it must be above 0"),
        ("hessian", "exact", "-tao_rmtr_hessian exact: choose from sr1, gauss_newton"),
        ("cg_rtol", 1, "-tao_rmtr_cg_rtol 1: it must be at least 0 and below 1"),
    ],
)
def test_senseless_options_are_refused(comm, option, value, sentence):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), **{f"tao_rmtr_{option}": value})
    assert sentence in sentence_of(caught.value)


def test_a_network_without_coarser_ones_is_refused(comm):
    with pytest.raises((OptionError, PETSc.Error)) as caught:
        run(comm, (1,), 4, case=TWO_TERMS)
    assert "lower -hier_levels to 1" in sentence_of(caught.value)
