"""The system that TAO and SNES see: φ, ∇φ, and where its linearization and damping are."""

import numpy as np
import pytest
from toys import CASES, random_vector, start, system_of

from pescitrain.algebra import Preconditioner

pytestmark = pytest.mark.parallel

TOLERANCE = 1e-11  # relative: orders of summation over ranks


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=TOLERANCE * np.abs(other).max())


def product(system, v):
    x, y = system.layout.vec_from(v), system.layout.create_vec()
    system.operator.mult(x, y)
    return system.layout.gather(y).copy()


def test_objective_and_gradient_are_those_of_the_evaluator(comm):
    system, serial = system_of(CASES["poisson"].build(comm)), CASES["poisson"].build()
    theta = start(serial)
    value, gradient = serial.objective_gradient(theta)
    x, g = system.layout.vec_from(theta), system.layout.create_vec()
    assert system.value(x).objective == pytest.approx(value.objective, rel=1e-13)
    close(system.value(x).terms, value.terms)
    assert system.objective_gradient(x, g) == system.objective(x)
    close(system.layout.gather(g), gradient)
    g.set(0.0)
    system.gradient(x, g)
    close(system.layout.gather(g), gradient)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_linearize_moves_the_operator_and_damps_it_relative_to_the_mean_diagonal(comm, preconditioned):
    system, serial = system_of(CASES["poisson"].build(comm)), CASES["poisson"].build()
    pre = Preconditioner(system.layout, system.blocks, "", None, 0.1) if preconditioned else None
    v = random_vector(system.layout.size)
    for theta in (start(serial), start(serial) + 0.1):
        x = system.layout.vec_from(theta)
        jacobian = serial.linearize(theta).dense()
        exact = jacobian.T @ jacobian
        mean = np.diag(exact).mean()
        system.linearize(x, pre, damping=0.25)
        close(product(system, v), exact @ v + 0.25 * mean * v)
        system.linearize(x, pre)  # the damping is that of the last call
        close(product(system, v), exact @ v)


def test_the_preconditioner_is_refreshed_when_it_is_asked_for(comm):
    system = system_of(CASES["poisson"].build(comm))
    pre = Preconditioner(system.layout, system.blocks, "", None, 0.1)
    first = start(CASES["poisson"].build())
    v = system.layout.vec_from(random_vector(system.layout.size))
    answers = []
    for theta, refresh in ((first, True), (first + 0.3, False), (first + 0.3, True)):
        system.linearize(system.layout.vec_from(theta), pre, refresh)
        out = system.layout.create_vec()
        pre.apply(v, out)
        answers.append(system.layout.gather(out).copy())
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[2] - answers[1]).max() > 1e-3 * np.abs(answers[1]).max()


def test_bounds_are_vecs_of_the_layout(comm):
    system = system_of(CASES["poisson"].build(comm))
    assert system.bound_vecs() is None
    lower, upper = -np.arange(1.0, 1.0 + system.layout.size), np.full(system.layout.size, np.inf)
    system.bounds = lower, upper
    vecs = system.bound_vecs()
    assert vecs is not None
    np.testing.assert_array_equal(system.layout.gather(vecs[0]).copy(), lower)
    np.testing.assert_array_equal(system.layout.gather(vecs[1]).copy(), upper)
