"""θ and gradients between neighbouring ranks beside those of all ranks."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import CASES, start

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.evaluation.couplings import find_couplings

pytestmark = pytest.mark.parallel

NAMES = [name for name in CASES if name.startswith("subdomains")]


def system_of(name, comm):
    evaluator = CASES[name].build(comm, chunk_size=7)
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm), "even")
    couplings = find_couplings(evaluator.surrogate, layout.layers, evaluator.samples, comm)
    return System(evaluator, layout, decompose(layout.layers, "layer", None, 0), None, couplings)


@pytest.mark.parametrize("name", NAMES)
def test_own_entries_are_those_of_all_ranks(comm, name):
    system = system_of(name, comm)
    evaluator, own = system.evaluator, slice(system.layout.start, system.layout.stop)
    theta = start(evaluator)
    linearization = evaluator.linearize(theta)
    w, v = np.sin(np.arange(linearization.rows) + comm.rank), np.cos(np.arange(len(theta)))
    value, gradient = evaluator.objective_gradient(theta)
    expected = [
        gradient,
        linearization.transpose_times(w),
        linearization.gauss_newton_times(v),
        linearization.gauss_newton_diagonal(),
    ]
    evaluator.forget()
    x = system.layout.vec_from(theta)

    system.see(linearization.seen())
    near = system.gather(x).copy()
    np.testing.assert_array_equal(near[own], theta[own])
    np.testing.assert_array_equal(near[linearization.seen()], theta[linearization.seen()])
    np.testing.assert_array_equal(system.whole(near), theta)
    again = evaluator.linearize(near)
    here, found = evaluator.objective_gradient(near)
    results = [found, again.transpose_times(w), again.gauss_newton_times(v), again.gauss_newton_diagonal()]
    for one, other in zip(results, expected, strict=True):
        # The sums of the same few numbers in another order.
        np.testing.assert_allclose(one[own], other[own], rtol=0.0, atol=1e-13 * np.abs(other).max())
        assert not np.delete(one, np.arange(own.start, own.stop)).any()
    assert here.objective == pytest.approx(value.objective, rel=1e-14)
    assert system.dot(near, near) == pytest.approx(theta @ theta, rel=1e-14)
    assert system.agree(True)
    assert not system.agree(comm.rank > 0)
    system.see(None)
    np.testing.assert_array_equal(system.gather(x), theta)
    x.destroy()
    system.destroy()


def test_points_are_known_again_by_what_all_ranks_own(comm):
    system = system_of(NAMES[0], comm)
    evaluator = system.evaluator
    theta = start(evaluator)
    x = system.layout.vec_from(theta)
    system.see(evaluator.linearize(theta).seen())
    first = system.value(x)
    spent = evaluator.counters.objective
    assert system.value(x) == first
    assert evaluator.counters.objective == spent
    moved = theta.copy()
    moved[-1] += 0.1  # one rank alone owns it
    system.layout.set(x, moved)
    assert system.value(x).objective != first.objective
    assert evaluator.counters.objective > spent
    system.layout.set(x, theta)
    spent = evaluator.counters.objective
    assert system.value(x) == first
    assert evaluator.counters.objective == spent
    x.destroy()
    system.destroy()
