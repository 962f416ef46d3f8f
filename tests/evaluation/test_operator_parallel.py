"""Operator data: J and JᵀJ from branch and trunk alone are those of all pairs of a function and a location."""

from functools import cache

import numpy as np
import pytest
import torch
from mpi4py import MPI
from toys import random_vector, start

from pescitrain.evaluation import Evaluator, SamplingPlan, output_layer, sample_terms
from pescitrain.evaluation import operator_jacobian as module
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.evaluation.metrics import OperatorErrorMetric
from pescitrain.evaluation.restriction import RestrictedEvaluator, closure_work
from pescitrain.geometry import Box, Sampling
from pescitrain.networks import MLP, ProductNetwork, ResNet, ScaleToUnitBox
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import OperatorData, OperatorProblem, OperatorSurrogate

pytestmark = pytest.mark.parallel

INPUTS = 3
SHAPES = {
    "more of all than basis functions": (7, 6, 2),
    "fewer functions than basis functions": (3, 6, 4),
    "fewer locations than basis functions": (7, 3, 4),
    "one function": (1, 5, 2),
}
"""Functions N, locations K, basis functions p."""
TOLERANCE = 1e-12  # relative to the largest entry: sums of some tens of products of size one


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=TOLERANCE * np.abs(other).max())


class ToyOperator(OperatorProblem):
    def __init__(self, functions, locations):
        random = np.random.default_rng(4)
        values = random.standard_normal((functions, locations)) * random.uniform(0.5, 3.0, (functions, 1))
        self.data = OperatorData(
            random.standard_normal((functions, INPUTS)), random.uniform(-1.0, 1.0, (locations, 2)), values
        )

    def domain(self):
        return Box(("x", "y"), (-1.0, -1.0), (1.0, 1.0))

    def factor(self, x, y):
        return (1.0 - x * x) * torch.exp(y)

    def training(self):
        return self.data

    def validation(self):
        return self.data


def build(shape="more of all than basis functions", comm=MPI.COMM_SELF, residual=False, hard=True, chunk_size=100):
    functions, locations, basis = SHAPES[shape]
    problem = ToyOperator(functions, locations)
    networks = {}
    for name, columns in (("branch", INPUTS), ("trunk", 2)):
        scaling = ScaleToUnitBox([-1.0] * columns, [2.0] * columns)
        kind = ResNet if residual else MLP
        networks[name] = kind(scaling, columns, basis, 3, 2, adaptive_slope=residual is True)
        if residual == "product" and name == "branch":
            networks[name] = ProductNetwork(scaling, columns, basis, 3, 2, gains=1, terms=4)
    surrogate = OperatorSurrogate(problem, networks, INPUTS, hard)
    parameters = FlatParameters(surrogate.networks)
    parameters.put(parameters.current() + 0.3 * np.random.default_rng(5).standard_normal(parameters.size))
    plan = SamplingPlan(Sampling(1), Sampling(1), 0)
    samples = sample_terms(problem, surrogate, problem.domain(), plan, comm, chunk_size)
    return Evaluator(problem, surrogate, parameters, samples, comm)


def residual_of_pairs(evaluator, theta):
    """(N K,): row by row as it is written in a paper, a pair at a time."""
    surrogate, data = evaluator.surrogate, evaluator.problem.data
    values = {e.name: theta[e.start : e.stop].view(e.parameter.shape) for e in evaluator.parameters.entries}

    def network(name, x):
        own = {k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(f"{name}.")}
        return torch.func.functional_call(surrogate.networks[name], own, (x[None],))[0]

    rows = []
    inputs, locations, outputs = (torch.from_numpy(a) for a in (data.inputs, data.locations, data.values))
    for a, s in zip(inputs, outputs, strict=True):
        norm = (len(inputs) * s.square().sum()).sqrt()
        for y, value in zip(locations, s, strict=True):
            basis = torch.tanh(network("trunk", y))
            if surrogate._factor is not None:
                basis = (1.0 - y[0] ** 2) * torch.exp(y[1]) * basis
            rows.append(((network("branch", a) * basis).sum() - value) / norm)
    return torch.stack(rows)


def jacobian_of_pairs(evaluator, theta):
    return torch.func.jacrev(lambda t: residual_of_pairs(evaluator, t))(torch.from_numpy(theta)).numpy()


@cache
def jacobian_at_start(shape, residual):
    """θ and J by `torch.func`."""
    serial = build(shape, residual=residual)
    return start(serial), jacobian_of_pairs(serial, start(serial))


def rows_of_rank(comm, shape):
    functions, locations, _ = SHAPES[shape]
    return slice(functions * comm.rank // comm.size * locations, functions * (comm.rank + 1) // comm.size * locations)


KINDS = [(shape, residual) for shape in SHAPES for residual in (False, True)]


@pytest.fixture(params=[*KINDS, ("more of all than basis functions", "product")], ids=str)
def linearized(request, comm):
    """(evaluator, θ, its linearization, all rows of J, this rank's)."""
    shape, residual = request.param
    (theta, jacobian), evaluator = jacobian_at_start(shape, residual), build(shape, comm, residual, chunk_size=2)
    return evaluator, theta, evaluator.linearize(theta), jacobian, rows_of_rank(comm, shape)


def test_products_are_those_of_the_jacobian_of_all_pairs(linearized):
    evaluator, theta, linearization, jacobian, mine = linearized
    r = residual_of_pairs(evaluator, torch.from_numpy(theta)).numpy()
    v, w = random_vector(len(theta), 1), random_vector(len(jacobian), 2)
    np.testing.assert_allclose(linearization.residual, r[mine], rtol=0.0, atol=TOLERANCE)
    np.testing.assert_allclose(linearization.times(v), (jacobian @ v)[mine], rtol=0.0, atol=1e-11)
    close(linearization.transpose_times(w[mine]), jacobian.T @ w)
    close(linearization.gauss_newton_times(v), jacobian.T @ (jacobian @ v))
    np.testing.assert_allclose(linearization.dense(), jacobian[mine], rtol=0.0, atol=TOLERANCE)
    value, gradient = evaluator.objective_gradient(theta)
    close(gradient, jacobian.T @ r)
    assert value.objective == pytest.approx(0.5 * r @ r, rel=1e-13)


def test_matrices_are_those_of_the_jacobian_of_all_pairs(linearized, monkeypatch):
    _, theta, linearization, jacobian, _ = linearized
    gauss_newton = jacobian.T @ jacobian
    close(linearization.gauss_newton_diagonal(), np.diag(gauss_newton))
    close(linearization.gauss_newton_matrix(), gauss_newton)
    monkeypatch.setattr(module, "PIECE", 100)  # many pieces
    close(linearization.gauss_newton_matrix(), gauss_newton)
    v = random_vector(2 * len(theta)).reshape(-1, 2)
    close(linearization.gauss_newton_products(v), gauss_newton @ v)
    n = len(theta)
    sets = [np.arange(n // 3), np.arange(2 * n // 3, n), np.arange(1, n, 3), np.array([0, n - 1])]
    for indices, block in zip(sets, linearization.gauss_newton_blocks(sets, [0] * len(sets)), strict=True):
        if linearization.comm.rank == 0:
            exact = gauss_newton[np.ix_(indices, indices)]
            np.testing.assert_allclose(block, exact, rtol=0.0, atol=TOLERANCE * np.abs(gauss_newton).max())
    close(linearization.sample_gram_matrix(), jacobian @ jacobian.T)


def test_kronecker_factors_are_moments_of_inputs_and_of_cotangents_in_the_norm_of_all_pairs(linearized):
    """A cotangent of a layer is the derivative by its bias."""
    evaluator, _, linearization, jacobian, _ = linearized
    factors = linearization.kronecker_factors()
    assert factors is not None
    affine = [entry for entry in evaluator.parameters.entries if entry.parameter.ndim == 2]
    assert [factor.weight.name for factor in factors] == [entry.name for entry in affine]
    for factor in factors:
        assert factor.bias is not None
        of_bias = jacobian[:, factor.bias.start : factor.bias.stop]
        close(factor.cotangents.numpy(), of_bias.T @ of_bias)


def output_of_branch(evaluator):
    """Weight and bias of that layer."""
    layer = evaluator.surrogate.networks["branch"].output_layer()
    return evaluator.parameters.find(layer.weight), evaluator.parameters.find(layer.bias)


def test_the_kronecker_factors_of_the_output_of_the_branch_are_its_block(linearized):
    evaluator, _, linearization, jacobian, _ = linearized
    weight, bias = output_of_branch(evaluator)
    assert weight is not None
    assert bias is not None
    (factor,) = (factor for factor in linearization.kronecker_factors() or () if factor.weight is weight)
    own = np.arange(weight.start, weight.stop).reshape(weight.parameter.shape)
    order = np.hstack((own, np.arange(bias.start, bias.stop)[:, None])).ravel()
    product = np.kron(factor.cotangents, factor.inputs) / float(factor.count)
    close(product, jacobian[:, order].T @ jacobian[:, order])


@pytest.mark.parametrize(("shape", "residual"), KINDS)
def test_the_projection_is_the_least_squares_solution_in_the_output_of_the_branch(comm, shape, residual, monkeypatch):
    monkeypatch.setattr(output_layer, "RIDGE", 1e-13)
    serial, evaluator = build(shape, residual=residual), build(shape, comm, residual, chunk_size=2)
    theta = start(serial)
    weight, bias = output_of_branch(serial)
    assert weight is not None
    assert bias is not None
    own = np.arange(weight.start, bias.stop)
    jacobian, r = jacobian_of_pairs(serial, theta)[:, own], residual_of_pairs(serial, torch.from_numpy(theta)).numpy()
    expected = theta.copy()
    expected[own] -= np.linalg.lstsq(jacobian, r, rcond=1e-10)[0]
    projected = evaluator.project(theta)
    rest = np.delete(np.arange(len(theta)), own)
    assert np.array_equal(projected[rest], theta[rest])
    least = serial.objective(expected).objective
    assert serial.objective(projected).objective == pytest.approx(least, rel=1e-6, abs=1e-9)
    assert serial.objective(theta).objective > least + 1e-3


def test_there_is_no_projection_where_the_output_of_the_branch_is_not_trained(comm):
    whole = build(comm=comm, chunk_size=2)
    theta = start(whole)
    trunk = np.concatenate([np.arange(x.start, x.stop) for x in whole.parameters.layers if x.network == "trunk"])
    local = RestrictedEvaluator(whole, trunk)
    with local.frozen(theta):
        assert np.array_equal(local.project(theta[trunk]), theta[trunk])


@pytest.mark.parallel(1)
def test_the_gram_factors_have_a_column_a_sample_and_basis_function():
    evaluator = build()
    functions, locations, basis = SHAPES["more of all than basis functions"]
    (chunk,) = evaluator.linearize(start(evaluator)).chunks
    columns = sum(factor.shape[1] for factor in chunk.gram_factors(evaluator.parameters.entries))
    assert columns == (functions + locations) * basis


def test_a_linearization_stays_at_its_point(linearized):
    evaluator, theta, linearization, jacobian, mine = linearized
    evaluator.objective_gradient(theta + 1.0)
    v = random_vector(len(theta), 1)
    close(linearization.gauss_newton_matrix(), jacobian.T @ jacobian)
    np.testing.assert_allclose(linearization.times(v), (jacobian @ v)[mine], rtol=0.0, atol=1e-11)
    assert np.array_equal(evaluator.parameters.current(), theta + 1.0)


def test_rows_are_drawn_by_whole_functions_on_any_number_of_ranks(comm):
    serial, evaluator = build(), build(comm=comm, chunk_size=2)
    theta = start(serial)
    whole, part = (e.linearize(theta).subset(12, draw=3) for e in (serial, evaluator))
    assert comm.allreduce(part.rows) == whole.rows == 2 * SHAPES["more of all than basis functions"][1]
    close(part.gauss_newton_matrix(), whole.dense().T @ whole.dense())
    w = comm.allgather(len(part.residual))
    cotangent = random_vector(whole.rows)[sum(w[: comm.rank]) :][: part.rows]
    close(part.transpose_times(cotangent), whole.transpose_times(random_vector(whole.rows)))


@pytest.mark.parametrize("residual", [False, True])
def test_a_block_sees_its_columns(comm, residual):
    whole = build(comm=comm, residual=residual, chunk_size=2)
    theta = start(whole)
    jacobian = jacobian_of_pairs(build(residual=residual), theta)
    value, gradient = whole.objective_gradient(theta)
    for layer in whole.parameters.layers:
        active = np.arange(layer.start, layer.stop)
        for samples in (LocalSamples.of(whole), LocalSamples.seen(whole, [active], MPI.COMM_SELF)):
            local = RestrictedEvaluator(whole, active, samples)
            with local.frozen(theta):
                here, own = local.objective_gradient(theta[active])
                linearization = local.linearize(theta[active])
                block = linearization.gauss_newton_matrix()
                product = linearization.gauss_newton_times(np.ones(len(active)))
            assert here.objective == pytest.approx(value.objective, rel=1e-13)
            close(own, gradient[active])
            np.testing.assert_allclose(
                block, jacobian[:, active].T @ jacobian[:, active], rtol=0.0, atol=TOLERANCE * np.abs(block).max()
            )
            close(product, block.sum(1))
    branch = sum(layer.size for layer in whole.parameters.layers if layer.network == "branch")
    part, everything = closure_work(whole, [np.arange(n) for n in (branch, whole.parameters.size)])
    assert part / everything == pytest.approx(branch / whole.parameters.size)


def test_the_error_is_the_mean_of_relative_errors(comm):
    evaluator = build("more of all than basis functions", comm, hard=False)
    data = evaluator.problem.data
    errors = OperatorErrorMetric(evaluator.surrogate, data, comm).evaluate()
    with torch.no_grad():
        u = evaluator.surrogate(torch.from_numpy(data.inputs), torch.from_numpy(data.locations)).numpy()
    relative = np.linalg.norm(u - data.values, axis=1) / np.linalg.norm(data.values, axis=1)
    assert errors.rel_l2 == pytest.approx(relative.mean(), rel=1e-13)
    assert errors.maximum == pytest.approx(np.abs(u - data.values).max(), rel=1e-13)
    # φ is half the mean of the squares
    assert evaluator.objective(start(evaluator)).objective == pytest.approx(0.5 * (relative**2).mean(), rel=1e-13)
