"""What the SNES methods are told: where they stop and why, under which prefix, and what they minimise."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import LINEAR, TWO_TERMS, start, system_of

from pescitrain.algebra.preconditioner import Preconditioner
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver

pytestmark = pytest.mark.parallel


def run(comm, case=TWO_TERMS, prefix="", stop_at=None, memory=None, begin=0, segment=10**6, **options):
    for key, value in {"snes_type": "newtonls", "snes_atol": 0, "snes_rtol": 0, "snes_stol": 0, **options}.items():
        PETSc.Options()[prefix + key] = value
    seen = []

    def monitor(iterate):
        seen.append(iterate)
        return iterate.iteration == stop_at

    solver = SnesSolver(system_of(case.build(comm)), prefix, GaussNewtonSettings(), monitor)
    x = solver.system.layout.vec_from(start(case.build()))
    outcome, memory = solver.run(x, begin, segment, memory or {})
    return solver, outcome, memory, seen


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"snes_atol": 1e3}, "CONVERGED_FNORM_ABS"),
        ({"snes_rtol": 0.5}, "CONVERGED_FNORM_RELATIVE"),
        ({"snes_stol": 1e3}, "CONVERGED_SNORM_RELATIVE"),
    ],
)
def test_each_tolerance_stops_it_for_its_own_reason(comm, options, reason):
    _, outcome, _, seen = run(comm, snes_max_it=30, **options)
    assert outcome.reason == reason
    assert not outcome.diverged
    assert outcome.iterations == len(seen) - 1 <= 20


def test_the_tolerance_is_relative_to_the_start_of_the_stage_and_not_of_the_segment(comm):
    _, _, memory, _ = run(comm, snes_max_it=30, segment=2)
    norm = memory["norm_at_start"][0][0]
    assert norm == pytest.approx(np.linalg.norm(TWO_TERMS.build().objective_gradient(start(TWO_TERMS.build()))[1]))
    _, outcome, _, _ = run(
        comm, snes_max_it=30, begin=2, memory={"norm_at_start": [np.array([1e9 * norm])]}, snes_rtol=1e-6
    )
    assert (outcome.reason, outcome.iterations) == ("CONVERGED_FNORM_RELATIVE", 1)


def test_a_gradient_that_grew_too_much_is_divergence(comm):
    _, outcome, _, _ = run(comm, snes_max_it=30, begin=2, memory={"norm_at_start": [np.array([1e-9])]})
    assert (outcome.reason, outcome.iterations, outcome.diverged) == ("DIVERGED_DTOL", 1, True)


def test_nothing_is_left_to_do_at_the_end_of_the_budget(comm):
    memory = {"norm_at_start": [np.array([1.0])]}
    solver, outcome, returned, seen = run(comm, snes_max_it=4, begin=4, memory=memory)
    assert (outcome.iterations, outcome.budget, seen) == (0, True, [])
    assert returned is memory
    assert solver.max_iterations == 4


def test_a_monitor_stops_it_politely(comm):
    _, outcome, _, seen = run(comm, snes_max_it=30, stop_at=2)
    assert (outcome.reason, outcome.iterations, outcome.budget) == ("CONVERGED_ITS", 2, False)
    assert not outcome.diverged
    assert len(seen) == 3


def test_its_options_are_read_under_the_prefix_of_the_stage(comm):
    solver, outcome, _, _ = run(comm, prefix="main_", snes_max_it=3)
    assert (outcome.iterations, solver.max_iterations) == (3, 3)


def test_the_trust_region_measures_the_objective_and_not_the_gradient(comm):
    solver, _, _, _ = run(comm, case=LINEAR, snes_type="newtontr", snes_max_it=2)
    snes = solver._create()
    assert snes.getObjective() is not None
    assert snes.getType() == "newtontr"
    snes.destroy()


@pytest.mark.parametrize(("lag", "refreshes"), [(1, 4), (2, 2), (10, 1)])
def test_the_preconditioner_is_refreshed_every_lag_linearizations(comm, monkeypatch, lag, refreshes):
    seen, refresh = [], Preconditioner.refresh
    monkeypatch.setattr(Preconditioner, "refresh", lambda self, at, draw: seen.append(draw) or refresh(self, at, draw))
    PETSc.Options()["snes_type"], PETSc.Options()["snes_max_it"] = "newtonls", 4
    solver = SnesSolver(system_of(TWO_TERMS.build(comm)), "", GaussNewtonSettings(lag=lag), lambda _: False)
    x = solver.system.layout.vec_from(start(TWO_TERMS.build()))
    outcome, _ = solver.run(x, 0, 4, {})
    assert outcome.iterations == 4
    assert len(seen) == refreshes
    x = solver.system.layout.vec_from(start(TWO_TERMS.build()))
    solver.run(x, 0, 1, {})
    assert len(seen) == refreshes + 1  # a new segment starts with a new one
