"""J and the Gauss–Newton matrix as PETSc Mats, against dense differentiation."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import CASES, jacobian_by_torch, random_vector, setting, start, system_of

from pescitrain.algebra import AssembledGaussNewton, create_gauss_newton, create_jacobian

pytestmark = pytest.mark.parallel

TOLERANCE = 1e-11  # relative: orders of summation over ranks and layers, terms up to 1e2 times the result


def close(one, other, tolerance=TOLERANCE):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


@pytest.fixture(params=["blocks", "even"])
def parts(request, comm):
    return setting(comm, "inverse", request.param)


def entries(layout, mat):
    """A matrix, row by row on the rank that owns it, as one dense array on all ranks."""
    start, stop = mat.getOwnershipRange()
    local = np.zeros((stop - start, layout.size))
    for row in range(start, stop):
        columns, values = mat.getRow(row)
        local[row - start, columns] = values
    return np.concatenate(layout.mpi_comm.allgather(local))


def test_the_jacobian_is_that_of_the_residual(parts, comm):
    layout = parts.layout
    linearization = parts.evaluator.linearize(parts.theta)
    mat = create_jacobian(layout, linearization)
    jacobian = jacobian_by_torch(parts.serial, parts.theta)
    assert mat.getSize() == jacobian.shape
    assert mat.getLocalSize() == (linearization.rows, layout.local_size)
    v = random_vector(layout.size)
    x, r = mat.createVecs()
    layout.set(x, v)
    mat.mult(x, r)
    np.testing.assert_allclose(r.norm(), np.linalg.norm(jacobian @ v), rtol=TOLERANCE)
    close(r.array_r, linearization.times(v))
    r.setArray(linearization.residual)
    mat.multTranspose(r, x)
    close(layout.gather(x), parts.serial.objective_gradient(parts.theta)[1])


def test_the_gauss_newton_operator_is_matrix_free_and_symmetric(parts):
    layout, v = parts.layout, random_vector(parts.layout.size)
    mat = create_gauss_newton(layout, parts.evaluator, damping=0.25)
    dense = parts.dense_gauss_newton() + 0.25 * np.eye(layout.size)
    x, y = layout.vec_from(v), layout.create_vec()
    for product in (mat.mult, mat.multTranspose):
        y.set(7.0)
        product(x, y)
        close(layout.gather(y), dense @ v)
        assert np.array_equal(layout.gather(x), v)
    mat.getDiagonal(y)
    close(layout.gather(y), np.diag(dense))
    assert parts.evaluator.counters.linearization == 1
    assert mat.isSymmetricKnown() == (True, True)


def test_a_shift_lasts_until_theta_moves(parts):
    layout, v = parts.layout, random_vector(parts.layout.size)
    mat = create_gauss_newton(layout, parts.evaluator, damping=0.5)
    context = mat.getPythonContext()
    x, y = layout.vec_from(v), layout.create_vec()
    dense = parts.dense_gauss_newton()
    mat.shift(1.5)
    mat.shift(1.0)
    mat.mult(x, y)
    close(layout.gather(y), dense @ v + 3.0 * v)
    mat.getDiagonal(y)
    close(layout.gather(y), np.diag(dense) + 3.0)
    context.move_to(parts.theta)
    mat.mult(x, y)
    close(layout.gather(y), dense @ v + 0.5 * v)


def test_the_operator_linearizes_once_for_each_theta_and_only_when_asked(parts):
    layout, counters = parts.layout, parts.evaluator.counters
    context = create_gauss_newton(layout, parts.evaluator).getPythonContext()
    first, second = parts.theta.copy(), parts.theta + 0.1
    context.move_to(second)
    context.move_to(first)
    assert counters.linearization == 0
    one = context.linearization
    context.move_to(first.copy())
    assert context.linearization is one
    assert counters.linearization == 1
    context.move_to(second)
    other = context.linearization
    assert counters.linearization == 2
    close(other.transpose_times(other.residual), parts.serial.objective_gradient(second)[1])
    second[:] = 0.0  # the caller's array is not the operator's memory
    context.move_to(parts.theta + 0.1)
    assert context.linearization is other


@pytest.mark.parametrize("overlap", [0, 1, 9])
@pytest.mark.parametrize("blocks", [None, 2, 1])
@pytest.mark.parametrize("ownership", ["blocks", "even"])
def test_assembled_blocks_are_those_of_the_dense_matrix_and_zero_elsewhere(comm, overlap, blocks, ownership):
    parts = setting(comm, "two rows", ownership, blocks, overlap)
    damping = 0.1
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, "blocks", damping)
    assembled.assemble(parts.evaluator.linearize(parts.theta))
    dense = parts.dense_gauss_newton()
    inside = np.zeros_like(dense, dtype=bool)
    for block in parts.blocks:
        inside[np.ix_(block.active, block.active)] = True
    expected = np.where(inside, dense, 0.0) + damping * np.diag(dense).mean() * np.eye(len(dense))
    given = entries(parts.layout, assembled.mat)
    close(given, expected)
    assert assembled.mat.getInfo()["nz_used"] == assembled.mat.getInfo()["nz_allocated"]
    assert assembled.mat.isSymmetricKnown() == (True, True)
    assembled.destroy()


@pytest.mark.parametrize("kind", ["blocks", "dense"])
def test_assembling_again_overwrites_what_was_there(comm, kind):
    parts = setting(comm, "inverse", overlap=1)
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, kind, 0.2)
    moved = parts.theta + 0.3
    assembled.assemble(parts.evaluator.linearize(parts.theta))
    first, state = entries(parts.layout, assembled.mat), assembled.mat.stateGet()
    assembled.assemble(parts.evaluator.linearize(moved))
    assert assembled.mat.stateGet() > state
    other = entries(parts.layout, assembled.mat)
    assert np.abs(other - first).max() > 1e-3 * np.abs(first).max()
    assembled.assemble(parts.evaluator.linearize(parts.theta))
    close(entries(parts.layout, assembled.mat), first, 1e-13)


def test_the_dense_kind_holds_everything(comm):
    parts = setting(comm, "inverse")
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, "dense", 0.1)
    assembled.assemble(parts.evaluator.linearize(parts.theta))
    dense = parts.dense_gauss_newton()
    close(entries(parts.layout, assembled.mat), dense + 0.1 * np.diag(dense).mean() * np.eye(len(dense)))


@pytest.mark.parametrize("kind", ["aij", "dense"])
def test_the_galerkin_product_is_that_of_the_dense_matrix(parts, kind):
    """A sparse P as of a hierarchy of networks, or a dense one as of a Krylov space."""
    matrix, size, columns = parts.dense_gauss_newton(), parts.layout.size, 5
    dense = np.random.default_rng(4).standard_normal((size, columns))
    dense[np.random.default_rng(5).random(dense.shape) < 0.5] = 0.0
    sizes = ((parts.layout.local_size, size), (PETSc.DECIDE, columns))
    prolongation = PETSc.Mat().createDense(sizes, comm=parts.layout.comm)
    first, last = prolongation.getOwnershipRange()
    prolongation.getDenseArray()[:] = dense[first:last]
    prolongation.assemble()
    if kind == "aij":
        prolongation.convert("aij")
    mat = create_gauss_newton(parts.layout, parts.evaluator, 0.3)
    coarse = PETSc.Mat()
    for damping in (0.3, 0.5):  # the second time into the same matrix
        coarse = mat.ptap(prolongation, coarse)
        expected = dense.T @ (matrix + damping * np.eye(size)) @ dense
        first, last = coarse.getOwnershipRange()
        np.testing.assert_allclose(
            coarse.getDenseArray(), expected[first:last], rtol=0.0, atol=1e-12 * np.abs(expected).max()
        )
        mat.shift(0.2)
    for one in (coarse, mat, prolongation):
        one.destroy()


def test_other_products_are_refused(parts):
    mat = create_gauss_newton(parts.layout, parts.evaluator)
    other = PETSc.Mat().createDense(mat.getSizes(), comm=parts.layout.comm)
    other.setUp()
    other.assemble()
    with pytest.raises(PETSc.Error):
        other.matMult(mat)
    mat.destroy()
    other.destroy()


def test_entries_in_single_precision_are_right_to_its_round_off(comm):
    here = setting(comm)
    matrices = [AssembledGaussNewton(here.layout, here.blocks, "dense", 0.1, single=single) for single in (False, True)]
    for matrix in matrices:
        matrix.assemble(here.evaluator.linearize(here.theta))
    matrices[1].mat.axpy(-1.0, matrices[0].mat)
    assert 0.0 < matrices[1].mat.norm() < 1e-6 * matrices[0].mat.norm()
    for matrix in matrices:
        matrix.destroy()


def test_a_zero_matrix_still_has_a_positive_diagonal(comm):
    parts = setting(comm, "two rows")
    linearization = parts.evaluator.linearize(parts.theta)
    linearization.chunks.clear()
    assembled = AssembledGaussNewton(parts.layout, parts.blocks, "blocks", 0.5)
    assembled.assemble(linearization)
    assert (np.diag(entries(parts.layout, assembled.mat)) > 0.0).all()


def test_a_system_gives_petsc_the_objective_and_its_gradient(comm):
    evaluator, serial = CASES["poisson"].build(comm), CASES["poisson"].build()
    system = system_of(evaluator)
    theta = start(serial)
    x, g = system.layout.vec_from(theta), system.layout.create_vec()
    value, gradient = serial.objective_gradient(theta)
    assert system.objective(x) == pytest.approx(value.objective, rel=1e-13)
    close(system.value(x).terms, value.terms)
    assert system.objective_gradient(x, g) == pytest.approx(value.objective, rel=1e-13)
    close(system.layout.gather(g), gradient)
    g.set(0.0)
    system.gradient(x, g)
    close(system.layout.gather(g), gradient)
    assert system.bound_vecs() is None
    system.bounds = (theta - 1.0, theta + 2.0)
    lower, upper = system.bound_vecs() or (None, None)
    assert lower is not None
    assert upper is not None
    close(system.layout.gather(lower), theta - 1.0)
    close(system.layout.gather(upper), theta + 2.0)
    system.destroy()


def test_a_system_linearizes_where_it_is_told(comm):
    parts = setting(comm, "inverse")
    system = system_of(parts.evaluator)
    moved = parts.theta + 0.2
    before = system.operator.stateGet()
    system.linearize(system.layout.vec_from(moved), None)
    assert system.operator.stateGet() > before
    jacobian = jacobian_by_torch(parts.serial, moved)
    x, y = system.layout.vec_from(parts.theta), system.layout.create_vec()
    system.operator.mult(x, y)
    close(system.layout.gather(y), jacobian.T @ (jacobian @ parts.theta))
    assert isinstance(system.dm, PETSc.DM)


def test_the_operator_on_some_parameters_is_the_submatrix(parts):
    layout = parts.layout
    mat = create_gauss_newton(layout, parts.evaluator, damping=0.25)
    dense = parts.dense_gauss_newton() + 0.25 * np.eye(layout.size)
    chosen = np.setdiff1d(np.arange(layout.size), [0, 3, layout.size - 1])
    own = chosen[(chosen >= layout.start) & (chosen < layout.stop)]
    indices = PETSc.IS().createGeneral(own.astype(PETSc.IntType), comm=layout.comm)
    part = mat.createSubMatrix(indices, indices)
    assert part.getSize() == (len(chosen), len(chosen))
    v = random_vector(layout.size)
    x, y = part.createVecs()
    x.setArray(v[own])
    part.mult(x, y)
    close(y.norm(), np.linalg.norm(dense[np.ix_(chosen, chosen)] @ v[chosen]))
    close(np.concatenate(layout.mpi_comm.allgather(y.array_r.copy())), dense[np.ix_(chosen, chosen)] @ v[chosen])
    part.getDiagonal(y)
    close(np.concatenate(layout.mpi_comm.allgather(y.array_r.copy())), np.diag(dense)[chosen])


@pytest.mark.parametrize("kind", ["blocks", "dense"])
def test_uncoupled_parameters_keep_their_diagonal_alone(parts, kind):
    layout, alone = parts.layout, np.array([1, parts.layout.size - 1])
    plain = AssembledGaussNewton(layout, parts.blocks, kind, 0.2)
    apart = AssembledGaussNewton(layout, parts.blocks, kind, 0.2, alone)
    linearization = parts.evaluator.linearize(parts.theta)
    for matrix in (plain, apart):
        matrix.assemble(linearization)
    expected = entries(layout, plain.mat)
    own = expected[alone, alone]
    expected[alone, :] = expected[:, alone] = 0.0
    expected[alone, alone] = own
    close(entries(layout, apart.mat), expected)
