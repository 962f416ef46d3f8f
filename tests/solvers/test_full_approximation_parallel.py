"""PETSc's nonlinear multigrid on networks: it descends, alike on any number of ranks, on the levels of the networks."""

import itertools

import numpy as np
import pytest
from petsc4py import PETSc
from toys import Case, _classes, _two_terms, mlp, resnet, start, system_of

from pescitrain.errors import OptionError
from pescitrain.solvers.multilevel.full_approximation import NetworkHierarchy
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.snes import SnesSolver

pytestmark = pytest.mark.parallel

DEEP = Case(_two_terms, resnet(depth=9))
LABELLED = Case(_classes, resnet(depth=9))


def run(comm, case, steps, levels=3, **options):
    for key, value in {"snes_type": "fas", "snes_max_it": steps, **options}.items():
        PETSc.Options()[key] = value
    system, seen = system_of(case.build(comm)), []
    settings = GaussNewtonSettings(coarsening="depth", levels=levels)
    method = SnesSolver(system, "", settings, lambda it: seen.append(it.objective) or False)
    x = system.layout.vec_from(start(system.evaluator))
    outcome, _ = method.run(x, 0, steps, {})
    method.destroy()
    return np.array(seen), outcome, system.evaluator.counters


@pytest.mark.parametrize("case", [DEEP, LABELLED], ids=["squares", "classes"])
def test_cycles_descend_and_do_not_depend_on_the_ranks(comm, case):
    objectives, outcome, counters = run(comm, case, 4)
    alone, _, _ = run(PETSc.COMM_SELF.tompi4py(), case, 4)
    np.testing.assert_allclose(objectives, alone, rtol=1e-6)  # four cycles of trust regions and CG
    assert not outcome.diverged
    assert objectives[-1] < 0.3 * objectives[0]
    assert counters.closures != int(counters.closures)  # coarser networks cost a part


def test_other_smoothers_and_levels_are_options(comm):
    for options in (
        {"fas_levels_snes_type": "newtonls", "fas_levels_snes_linesearch_type": "bt"},
        {"fas_levels_snes_type": "qn", "fas_levels_snes_max_it": 3, "fas_levels_snes_linesearch_type": "bt"},
        {"snes_fas_levels": 2},
    ):
        objectives, _, _ = run(comm, DEEP, 2, **options)
        assert objectives[-1] < objectives[0]
        for key in options:
            PETSc.Options().delValue(key)


def test_transfers_are_those_of_the_hierarchy(comm):
    system = system_of(Case(_two_terms, mlp(width=8)).build(comm))
    hierarchy = NetworkHierarchy(system, "width", 3)
    dms = [hierarchy.dm]
    for _ in range(2):
        dms.append(dms[-1].coarsen())
    assert [hierarchy.system_of(dm).layout.size for dm in dms] == [one.layout.size for one in hierarchy.systems]
    for fine, coarse in itertools.pairwise(dms):
        prolongation, scale = coarse.createInterpolation(fine)
        x, up = prolongation.createVecRight(), prolongation.createVecLeft()
        x.setRandom()
        prolongation.mult(x, up)
        back = x.duplicate()
        prolongation.multTranspose(up, back)
        back.pointwiseMult(back, scale)
        back.axpy(-1.0, x)
        assert back.norm() <= 1e-14 * x.norm()  # ΠP = I
    hierarchy.destroy()


def test_a_hierarchy_that_is_too_deep_is_refused(comm):
    with pytest.raises(OptionError, match=r"lower -hier_levels to 4"):
        run(comm, DEEP, 1, levels=6)
