"""A run that stops and goes on from what it remembers makes the steps of the run that did not stop."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import TWO_TERMS, start, system_of

from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver
from pescitrain.solvers.tao import TaoSolver

pytestmark = pytest.mark.parallel


def segments(comm, kind, lengths, lag=None, total=20, **options):
    """Iterates of one run in several segments, each by a new solver on a new system, as after a restart."""
    for key, value in {f"{kind}_max_it": total, **options}.items():
        PETSc.Options()[key] = value
    if kind == "tao":
        PETSc.Options()["tao_gatol"] = PETSc.Options()["tao_grtol"] = 0
    else:
        PETSc.Options()["snes_atol"] = PETSc.Options()["snes_stol"] = PETSc.Options()["snes_rtol"] = 0
    iterates, closures, memory, position = [], 0.0, {}, 0
    theta = start(TWO_TERMS.build())
    for length in lengths:
        system = system_of(TWO_TERMS.build(comm), overlap=1)
        solver = {"tao": TaoSolver, "snes": SnesSolver}[kind](
            system,
            "",
            GaussNewtonSettings(lag=lag),
            lambda it: iterates.append((it.iteration, it.theta.copy())) or False,
        )
        x = system.layout.vec_from(theta)
        outcome, memory = solver.run(x, position, length, memory)
        assert outcome.iterations == length, outcome
        position += length
        theta = system.layout.gather(x).copy()
        closures += system.evaluator.counters.closures
    assert [number for number, _ in iterates] == list(range(position + 1))
    return np.array([theta for _, theta in iterates]), closures


def difference(one, other):
    return np.abs(one - other).max(axis=1)


@pytest.mark.parametrize("lag", [1, 3, 6])
def test_blmvm_with_a_preconditioner_continues_when_the_lag_divides_the_segment(comm, lag):
    options = {"tao_type": "blmvm", "pc_type": "asm"}
    whole, _ = segments(comm, "tao", [12], lag, **options)  # more than the five pairs that are kept
    parts, _ = segments(comm, "tao", [6, 6], lag, **options)
    # The same operations in the same order; sums in another evaluator's memory may be aligned otherwise, and the 12
    # steps magnify their round-off.
    assert difference(parts, whole).max() <= 1e-10
    moved = np.abs(np.diff(whole, axis=0)).max(axis=1)
    assert moved[6:].min() > 1e-8  # it was still moving, so the comparison says something


def test_blmvm_without_a_preconditioner_continues(comm):
    options = {"tao_type": "blmvm", "pc_type": "none"}
    whole, _ = segments(comm, "tao", [12], **options)
    parts, _ = segments(comm, "tao", [7, 5], **options)
    assert difference(parts, whole).max() <= 1e-10


def test_without_its_memory_a_quasi_newton_method_goes_another_way(comm):
    """What keeps the tests above honest."""
    options = {"tao_type": "blmvm", "pc_type": "asm"}
    whole, _ = segments(comm, "tao", [20], 10, **options)
    theta = whole[10]
    system = system_of(TWO_TERMS.build(comm), overlap=1)
    seen = []
    solver = TaoSolver(system, "", GaussNewtonSettings(lag=10), lambda it: seen.append(it.theta.copy()) or False)
    solver.run(system.layout.vec_from(theta), 10, 10, {})
    assert difference(np.array(seen), whole[11:]).max() > 1e-6


def test_a_restart_costs_one_closure(comm):
    options = {"tao_type": "blmvm", "pc_type": "asm"}
    whole, parts = (segments(comm, "tao", lengths, 2, **options)[1] for lengths in ([4], [2, 2]))
    assert parts - whole == 1


def test_newton_with_a_line_search_has_nothing_to_remember_but_continues(comm):
    options = {"snes_type": "newtonls", "pc_type": "asm", "ksp_max_it": 3}
    whole, _ = segments(comm, "snes", [6], total=6, **options)
    parts, _ = segments(comm, "snes", [3, 3], total=6, **options)
    assert difference(parts, whole).max() <= 1e-12
