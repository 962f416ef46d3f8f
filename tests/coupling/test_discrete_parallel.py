"""A host's equations as a term: derivatives, the same numbers on any number of ranks, and what it refuses."""

import numpy as np
import pytest
from coupling.hosts import Bratu
from petsc4py import PETSc
from toys import random_vector  # noqa: F401

from pescitrain import Box, HostProblem, OperatorData, OperatorProblem, OptionError, PETScResidual, ProblemError, Solver
from pescitrain.coupling.locations import locations_of
from pescitrain.run.checks import check_derivatives

pytestmark = pytest.mark.parallel
SMALL = {"net_width": 6, "net_depth": 2, "tao_type": "lm", "tao_max_it": 3, "tao_gatol": 0.0, "tao_grtol": 0.0}


def relative(host, solver, exact):
    """Of the network, at the host's nodes against the host's own solution."""
    difference = exact.duplicate()
    difference.setArray(solver(locations_of(host.da)).reshape(-1))
    difference.axpy(-1.0, exact)
    return difference.norm() / exact.norm()


@pytest.mark.parametrize("network", [{}, {"net_type": "subdomain", "net_subdomains": "2"}])
@pytest.mark.parametrize("inverse", [None, "lu"])
def test_the_derivatives_of_a_hosts_equations_are_right(inverse, network):
    host = Bratu()
    term = PETScResidual(host.snes, inverse=inverse)
    with Solver(HostProblem(term), {**SMALL, **network}) as solver:
        for check in check_derivatives(solver.setup.evaluator, solver.theta):
            assert check.passed, str(check)


def test_products_are_those_of_the_dense_jacobian(comm):
    host = Bratu()
    with Solver(HostProblem(PETScResidual(host.snes)), SMALL) as solver:
        linearization = solver.setup.evaluator.linearize(solver.theta)
        dense = linearization.dense()
        random = np.random.default_rng(3)
        v, whole = random.standard_normal(dense.shape[1]), random.standard_normal(host.size**2)
        np.testing.assert_allclose(linearization.times(v), dense @ v, rtol=0.0, atol=1e-12)  # round-off of O(1) sums
        first, last = host.residual.getOwnershipRange()
        w = whole[first:last]
        products = comm.allreduce(dense.T @ w)
        np.testing.assert_allclose(linearization.transpose_times(w), products, rtol=0.0, atol=1e-12)
        gram = comm.allreduce(dense.T @ dense)
        np.testing.assert_allclose(linearization.gauss_newton_matrix(), gram, rtol=0.0, atol=1e-12)


def test_the_objective_is_half_the_square_of_the_hosts_residual():
    host = Bratu()
    with Solver(HostProblem(PETScResidual(host.snes, weight=3.0)), SMALL) as solver:
        u, f = host.residual.duplicate(), host.residual.duplicate()
        u.setArray(solver(locations_of(host.da)).reshape(-1))
        host.snes.computeFunction(u, f)
        objective = solver.setup.evaluator.objective(solver.theta).objective
        assert objective == pytest.approx(1.5 * f.norm() ** 2, rel=1e-13)


def test_training_is_the_same_on_any_number_of_ranks(comm):
    host, alone = Bratu(), Bratu(comm=PETSc.COMM_SELF)
    results = []
    for one, where in ((host, PETSc.COMM_WORLD), (alone, PETSc.COMM_SELF)):
        with Solver(HostProblem(PETScResidual(one.snes)), SMALL, comm=where) as solver:
            results.append(solver.solve().objective)
    assert results[0] == pytest.approx(results[1], rel=1e-8)  # three steps of sums in another order


def test_the_host_is_solved_without_data():
    """Measured 8e-4 after 60 steps with two layers of 10."""
    host = Bratu(17)
    exact = host.solve()
    term = PETScResidual(host.snes, inverse="lu")
    options = {**SMALL, "net_width": 10, "tao_max_it": 60}
    with Solver(HostProblem(term), options) as solver:
        solver.solve()
        assert relative(host, solver, exact) < 3e-3
    again = host.solve()
    again.axpy(-1.0, exact)
    assert again.norm() == 0.0  # the host computes what it did before


def test_a_matrix_and_a_right_hand_side_are_equations(comm):
    host = Bratu()
    exact = host.da.createGlobalVec()
    nodes = locations_of(host.da)
    exact.setArray(np.sin(np.pi * nodes[:, 0]) * nodes[:, 1])
    host.snes.computeJacobian(exact, host.matrix)
    rhs = exact.duplicate()
    host.matrix.mult(exact, rhs)
    with Solver(HostProblem(PETScResidual(host.matrix, rhs, locations=nodes)), {**SMALL, "tao_max_it": 30}) as solver:
        solver.solve()
        assert relative(host, solver, exact) < 2e-3  # measured 2.3e-4


def test_several_fields_live_at_a_node():
    da = PETSc.DMDA().create([4, 3], dof=2, comm=PETSc.COMM_WORLD)
    da.setUniformCoordinates(0.0, 1.0, 0.0, 2.0)
    matrix, rhs = da.createMat(), da.createGlobalVec()
    matrix.shift(2.0)
    nodes = locations_of(da)
    rhs.setArray(np.stack((2.0 * nodes[:, 0], -2.0 * nodes[:, 1]), axis=1).reshape(-1))
    with Solver(HostProblem(PETScResidual(matrix, rhs, locations=nodes)), {**SMALL, "tao_max_it": 60}) as solver:
        assert solver.setup.problem.fields == ("u_0", "u_1")
        solver.solve()
        np.testing.assert_allclose(solver(nodes), np.stack((nodes[:, 0], -nodes[:, 1]), axis=1), atol=1e-3)


def test_what_does_not_fit_is_told_in_a_sentence(comm):
    host = Bratu()
    nodes = locations_of(host.da)
    with pytest.raises(ProblemError, match=r"locations .* do not fit"):
        PETScResidual(host.snes, locations=np.concatenate((nodes, nodes, nodes))[: len(nodes) + 1])
    with pytest.raises(ProblemError, match="needs its right-hand side"):
        PETScResidual(host.matrix)
    bare = PETSc.SNES().create()
    with pytest.raises(ProblemError, match="the SNES has no DM of nodes; give locations"):
        PETScResidual(bare)
    with pytest.raises(ProblemError, match="1 values at each node"):
        HostProblem(PETScResidual(host.snes), fields=("u", "v"))


@pytest.mark.parallel(2, 3)
def test_local_solves_refuse_equations_that_are_spread_over_ranks():
    host = Bratu()
    with (
        Solver(HostProblem(PETScResidual(host.snes)), {**SMALL, "tao_type": "spqn"}) as solver,
        pytest.raises(OptionError, match="is spread over the ranks"),
    ):
        solver.solve()


def test_newton_types_with_asm_train_on_a_hosts_equations():
    host = Bratu()
    options = {**SMALL, "tao_type": "bntr", "pc_type": "asm", "tao_max_it": 5}
    with Solver(HostProblem(PETScResidual(host.snes)), options) as solver:
        before = solver.setup.evaluator.objective(solver.theta).objective
        assert solver.solve().objective < 0.1 * before


def test_a_residual_that_is_not_finite_is_no_error(comm):
    """Steps into the exponential's overflow are refused by the method, and the host never hears of them."""
    host = Bratu(rate=5.0)
    with Solver(HostProblem(PETScResidual(host.snes)), SMALL) as solver, np.errstate(over="ignore", invalid="ignore"):
        value, gradient = solver.setup.evaluator.objective_gradient(1e6 * np.ones_like(solver.theta))
        assert value.objective == np.inf
        assert not gradient.any()


# ---------------------------------------------------------------------------------------------- operators without data

RATES = np.array([[0.5], [1.5], [3.0]])


def without_data(host, **options):
    """A map from the rate of the host to its solution."""
    term = PETScResidual(host.snes, inputs=RATES, set_inputs=lambda a: setattr(host, "rate", float(a[0])), weight=100.0)

    class Equations(OperatorProblem):
        coordinates = ("x", "y")

        def terms(self):
            return [term]

        def training(self):
            return OperatorData(RATES, locations_of(host.da), np.ones((3, len(locations_of(host.da)))), self.comm)

        def validation(self):
            return None

        def domain(self):
            return Box(("x", "y"), (0.0, 0.0), (1.0, 1.0))

        comm = host.da.getComm().tompi4py()

    return Solver(Equations(), {**SMALL, **options}, comm=host.da.getComm())


def test_the_derivatives_of_an_operator_on_a_hosts_equations_are_right(comm):
    host = Bratu(7)
    with without_data(host) as solver:
        evaluator, theta = solver.setup.evaluator, solver.theta
        for check in check_derivatives(evaluator, theta):
            assert check.passed, str(check)
        linearization = evaluator.linearize(theta)
        dense = linearization.dense()
        gram = comm.allreduce(dense.T @ dense)
        np.testing.assert_allclose(linearization.gauss_newton_matrix(), gram, rtol=0.0, atol=1e-11)
        few = linearization.subset(1.9 * host.size**2, 3)
        assert comm.allreduce(few.rows) == 2 * host.size**2
        v = np.random.default_rng(2).standard_normal(len(theta))
        np.testing.assert_allclose(few.times(v), few.dense() @ v, rtol=0.0, atol=1e-11)


def test_an_operator_learns_from_the_equations_alone():
    host = Bratu(7)
    with without_data(host, tao_max_it=40) as solver:
        result = solver.solve()
        errors = []
        for rate in RATES:
            exact = host.solve(float(rate[0]))
            values = exact.duplicate()
            values.setArray(solver([rate], locations_of(host.da)).reshape(-1))
            values.axpy(-1.0, exact)
            errors.append(values.norm() / exact.norm())
    assert result.converged
    assert max(errors) < 4e-2  # measured 1.3e-2 after 40 steps


def test_inputs_that_do_not_fit_are_told():
    host = Bratu(5)
    with pytest.raises(ProblemError, match=r"inputs \(2,\) must be \(N, s\)"):
        PETScResidual(host.snes, inputs=[1.0, 2.0], set_inputs=print)
    with pytest.raises(ProblemError, match="with a function set_inputs"):
        PETScResidual(host.snes, inputs=RATES)
    with pytest.raises(ProblemError, match="equations with inputs go with an operator"):
        Solver(HostProblem(PETScResidual(host.snes, inputs=RATES, set_inputs=print)), SMALL)
