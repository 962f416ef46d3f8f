"""Our own PC types against dense formulas: what they claim to invert."""

import numpy as np
import pytest
from petsc4py import PETSc
from toys import CASES, opaque, random_vector, setting, start

from pescitrain.algebra import Preconditioner, create_gauss_newton
from pescitrain.algebra.preconditioner import OWN_PC_TYPES
from pescitrain.errors import OptionError

pytestmark = pytest.mark.parallel

DAMPING = 0.1
EXACT = {"kfac": {}, "nystrom": {"pc_nystrom_rank": 10000}, "spectral": {"pc_spectral_vectors": 10000}, "woodbury": {}}


def close(one, other, tolerance=1e-9):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


def preconditioner(parts, pc_type, uncoupled=None, damping=DAMPING, prefix="", **options):
    for key, value in {"pc_type": pc_type, **options}.items():
        PETSc.Options()[prefix + key] = value
    result = Preconditioner(parts.layout, parts.blocks, prefix, None, damping, uncoupled)
    result.refresh(parts.evaluator.linearize(parts.theta))
    return result


def applied(parts, pre):
    """M as a dense matrix, column by column."""
    x, y = parts.layout.create_vec(), parts.layout.create_vec()
    columns = []
    for unit in np.eye(parts.layout.size):
        parts.layout.set(x, unit)
        y.set(3.0)
        pre.apply(x, y)
        columns.append(parts.layout.gather(y).copy())
    return np.array(columns).T


def damped(dense):
    return dense + DAMPING * np.diag(dense).mean() * np.eye(len(dense))


# ----------------------------------------------------------------------------------------------------------- nystrom


@pytest.mark.parametrize("ownership", ["blocks", "even"])
def test_nystrom_of_full_rank_is_the_inverse(comm, ownership):
    parts = setting(comm, "inverse", ownership)
    pre = preconditioner(parts, "nystrom", pc_nystrom_rank=10000)
    close(applied(parts, pre), np.linalg.inv(damped(parts.dense_gauss_newton())), 1e-8)
    pre.destroy()


@pytest.mark.parametrize("seed", [0, 3])
def test_nystrom_inverts_the_low_rank_approximation_of_its_random_vectors(comm, seed):
    """(AΩ)(ΩᵀAΩ)⁻¹(AΩ)ᵀ, its eigenvalues shifted, and the smallest of them on the complement."""
    parts = setting(comm, "inverse")
    rank = 6
    matrix = applied(parts, preconditioner(parts, "nystrom", pc_nystrom_rank=rank, pc_nystrom_seed=seed))
    dense = parts.dense_gauss_newton()
    test = np.random.default_rng(seed).standard_normal((len(dense), rank))
    products = dense @ test
    values, vectors = np.linalg.eigh(products @ np.linalg.solve(test.T @ products, products.T))
    values, vectors, damping = values[-rank:], vectors[:, -rank:], DAMPING * np.diag(dense).mean()
    complement = np.eye(len(dense)) - vectors @ vectors.T
    close(matrix, (vectors / (values + damping)) @ vectors.T + complement / (values[0] + damping), 1e-8)


def test_nystrom_leaves_parameters_alone_that_are_coupled_with_no_other(comm):
    parts = setting(comm, "inverse")
    alone = np.array([parts.layout.size - 2, 4])
    matrix = applied(parts, preconditioner(parts, "nystrom", alone, pc_nystrom_rank=10000))
    dense = parts.dense_gauss_newton()
    damping = DAMPING * np.diag(dense).mean()
    diagonal = np.diag(dense).copy()
    dense[alone] = dense[:, alone] = 0.0
    dense[alone, alone] = diagonal[alone]
    close(matrix, np.linalg.inv(dense + damping * np.eye(len(dense))), 1e-8)


def test_the_rank_of_nystrom_is_a_tenth_by_default_and_at_least_one(comm, capfd):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, "nystrom")
    applied(parts, pre)
    pre.pc.view(PETSc.Viewer.STDOUT(parts.layout.comm))
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert f"Nystrom: rank={max(1, parts.layout.size // 10)} eigenvalues from" in shown


def test_a_rank_below_one_is_refused(comm):
    parts = setting(comm, "inverse")
    with pytest.raises(PETSc.Error) as caught:
        preconditioner(parts, "nystrom", pc_nystrom_rank=0)
    assert str(caught.value.__cause__) == "-pc_nystrom_rank 0: it must be at least 1"


# -------------------------------------------------------------------------------------------------------------- kfac


def test_kronecker_factors_of_one_sample_and_one_component_are_the_block(comm):
    """Without derivatives in the residual and with one sample, the approximation is exact."""
    evaluator = CASES["data at one point"].build(comm)
    linearization = evaluator.linearize(start(evaluator))
    factors = linearization.kronecker_factors()
    assert factors is not None
    assert len(factors) == 3
    serial = CASES["data at one point"].build()
    jacobian = serial.linearize(start(serial)).dense()
    for factor in factors:
        assert factor.bias is not None
        weight, bias = factor.weight, factor.bias
        rows, columns = weight.parameter.shape
        own = np.arange(weight.start, weight.stop).reshape(rows, columns)
        order = np.hstack((own, np.arange(bias.start, bias.stop)[:, None])).ravel()
        block = jacobian[:, order].T @ jacobian[:, order]
        close(np.kron(factor.cotangents, factor.inputs) / float(factor.count), block, 1e-12)


@pytest.mark.parametrize("name", ["poisson", "poisson, adaptive slopes", "inverse", "two rows", "wave, periodic term"])
def test_kfac_inverts_the_damped_kronecker_products_and_the_diagonal_of_the_rest(comm, name):
    parts = setting(comm, name)
    matrix = applied(parts, preconditioner(parts, "kfac"))
    dense = parts.dense_gauss_newton()
    factors = parts.serial.linearize(parts.theta).kronecker_factors()
    assert factors is not None
    expected = np.diag(np.diag(dense))
    for factor in factors:
        rows, columns = factor.weight.parameter.shape
        order = np.arange(factor.weight.start, factor.weight.stop).reshape(rows, columns)
        if factor.bias is not None:
            order = np.hstack((order, np.arange(factor.bias.start, factor.bias.stop)[:, None]))
        product = np.kron(factor.cotangents.numpy(), factor.inputs.numpy()) / float(factor.count)
        expected[np.ix_(order.ravel(), order.ravel())] = product
    close(matrix, np.linalg.inv(expected + DAMPING * np.diag(dense).mean() * np.eye(len(dense))))


def test_kronecker_factors_are_the_same_on_any_number_of_ranks(comm):
    parts = setting(comm, "poisson")
    ours = parts.evaluator.linearize(parts.theta).kronecker_factors()
    alone = parts.serial.linearize(parts.theta).kronecker_factors()
    assert ours is not None
    assert alone is not None
    for one, other in zip(ours, alone, strict=True):
        close(one.inputs.numpy(), other.inputs.numpy(), 1e-12)
        close(one.cotangents.numpy(), other.cotangents.numpy(), 1e-12)
        assert float(one.count) == float(other.count)


def test_kfac_needs_a_taylor_mode(comm):
    parts = setting(comm, "poisson")
    parts.evaluator = CASES["poisson"].build(comm, wrap=opaque)
    pre = preconditioner(parts, "kfac")
    with pytest.raises(PETSc.Error) as caught:
        pre.apply(parts.layout.create_vec(), parts.layout.create_vec())
    assert isinstance(caught.value.__cause__, OptionError)
    assert "without Taylor mode" in str(caught.value.__cause__)


# ---------------------------------------------------------------------------------------------------------- spectral


def leading_eigenvectors(matrix, blocks, count):
    """Q: the eigenvectors of the largest eigenvalues of each block, and the largest one left out."""
    columns, left_out = [], 0.0
    for block in blocks:
        values, vectors = np.linalg.eigh(matrix[np.ix_(block.owned, block.owned)])
        kept = min(count, len(values))
        column = np.zeros((len(matrix), kept))
        column[block.owned] = vectors[:, len(values) - kept :]
        columns.append(column)
        left_out = max(left_out, *values[: len(values) - kept][-1:], 0.0)
    return np.hstack(columns), left_out


@pytest.mark.parametrize("ownership", ["blocks", "even"])
@pytest.mark.parametrize("kind", ["deflation", "additive"])
@pytest.mark.parametrize("local", ["identity", "blocks"])
def test_spectral_is_the_two_level_formula(comm, ownership, kind, local):
    parts = setting(comm, "inverse", ownership)
    pre = preconditioner(parts, "spectral", pc_spectral_vectors=3, pc_spectral_type=kind, pc_spectral_local=local)
    dense = parts.dense_gauss_newton()
    identity = np.eye(len(dense))
    damping = DAMPING * np.diag(dense).mean()
    h = dense + damping * identity
    q, left_out = leading_eigenvectors(dense, parts.blocks, 3)
    coarse = q @ np.linalg.solve(q.T @ h @ q, q.T)
    if local == "identity":
        smoother = identity / (damping + left_out)
    else:
        smoother = np.zeros_like(h)
        for block in parts.blocks:
            window = np.ix_(block.owned, block.owned)
            smoother[window] = np.linalg.inv(h[window])
    if kind == "deflation":
        expected = coarse + (identity - coarse @ h) @ smoother @ (identity - h @ coarse)
    else:
        expected = coarse + (smoother if local == "blocks" else (identity - q @ q.T) @ smoother)
    close(applied(parts, pre), expected, 1e-8)
    pre.destroy()


@pytest.mark.parametrize("local", ["identity", "blocks"])
def test_spectral_with_all_eigenvectors_is_the_inverse(comm, local):
    parts = setting(comm, "inverse")
    alone = np.array([parts.layout.size - 2])
    pre = preconditioner(parts, "spectral", alone, pc_spectral_vectors=1000, pc_spectral_local=local)
    dense = parts.dense_gauss_newton()
    damping = DAMPING * np.diag(dense).mean()
    own = dense[alone, alone]
    dense[alone] = dense[:, alone] = 0.0
    dense[alone, alone] = own
    close(applied(parts, pre), np.linalg.inv(dense + damping * np.eye(len(dense))), 1e-8)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pc_spectral_vectors": 0}, "-pc_spectral_vectors 0: it must be at least 1"),
        ({"pc_spectral_type": "multiply"}, "-pc_spectral_type multiply: choose from deflation, additive"),
        ({"pc_spectral_local": "asm"}, "-pc_spectral_local asm: choose from identity, blocks"),
    ],
)
def test_spectral_options_are_checked(comm, options, sentence):
    parts = setting(comm, "inverse")
    with pytest.raises(PETSc.Error) as caught:
        preconditioner(parts, "spectral", **options)
    assert str(caught.value.__cause__) == sentence


# ---------------------------------------------------------------------------------------------------------- woodbury


@pytest.mark.parametrize("ownership", ["blocks", "even"])
@pytest.mark.parametrize("name", ["inverse", "two networks"])
def test_woodbury_is_the_inverse(comm, name, ownership):
    parts = setting(comm, name, ownership)
    pre = preconditioner(parts, "woodbury")
    close(applied(parts, pre), np.linalg.inv(damped(parts.dense_gauss_newton())))
    pre.destroy()


def test_woodbury_leaves_parameters_alone_that_are_coupled_with_no_other(comm):
    parts = setting(comm, "inverse")
    alone = np.array([parts.layout.size - 2, 4])
    matrix = applied(parts, preconditioner(parts, "woodbury", alone))
    dense = parts.dense_gauss_newton()
    damping, own = DAMPING * np.diag(dense).mean(), np.diag(dense)[alone].copy()
    dense[alone] = dense[:, alone] = 0.0
    dense[alone, alone] = own
    close(matrix, np.linalg.inv(dense + damping * np.eye(len(dense))))


def test_woodbury_of_some_rows_is_the_inverse_for_these(comm):
    parts = setting(comm, "inverse")
    PETSc.Options()["pc_type"] = "woodbury"
    pre = Preconditioner(parts.layout, parts.blocks, "", None, DAMPING, rows=9)
    linearization = parts.evaluator.linearize(parts.theta)
    pre.refresh(linearization, 5)
    close(applied(parts, pre), np.linalg.inv(damped(linearization.subset(9, 5).gauss_newton_matrix())))


def test_woodbury_needs_damping(comm):
    parts = setting(comm, "inverse")
    with pytest.raises(PETSc.Error) as caught:
        applied(parts, preconditioner(parts, "woodbury", damping=0.0))
    assert str(caught.value.__cause__) == "-pc_type woodbury divides by λ, which is 0: use -gn_shift above 0"


# --------------------------------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("name", ["kfac", "nystrom", "spectral", "woodbury"])
def test_own_types_are_symmetric_positive_definite_and_assemble_nothing(comm, name):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, name)
    pre.require_symmetric_positive_definite("cg")
    assert pre.matrix.mat.getType() == "python"
    assert pre.pc_type == name
    assert preconditioner(parts, "python").pc_type == name  # the database has the long name now


@pytest.mark.parametrize("name", ["kfac", "nystrom", "spectral", "woodbury"])
def test_a_refresh_and_a_shift_change_what_is_inverted(comm, name):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, name, **EXACT[name])
    first = applied(parts, pre)
    pre.matrix.mat.shift(0.5)
    shifted = applied(parts, pre)
    close(np.linalg.inv(shifted), np.linalg.inv(first) + 0.5 * np.eye(len(first)), 1e-6)
    parts.theta = parts.theta + 0.5
    pre.refresh(parts.evaluator.linearize(parts.theta))
    again = preconditioner(parts, name, prefix="new_", **EXACT[name])
    close(applied(parts, pre), applied(parts, again), 1e-12)


@pytest.mark.parametrize("name", ["kfac", "nystrom", "spectral", "woodbury"])
def test_the_long_name_means_the_same(comm, name):
    parts = setting(comm, "inverse")
    short = applied(parts, preconditioner(parts, name))
    pre = preconditioner(parts, "python", prefix="long_", pc_python_type=OWN_PC_TYPES[name])
    assert pre.pc_type == name
    close(applied(parts, pre), short, 1e-14)


@pytest.mark.parametrize("name", ["kfac", "nystrom", "spectral", "woodbury"])
def test_own_types_read_no_entries(comm, name):
    parts = setting(comm, "inverse")
    PETSc.Options()["pc_type"] = name
    with pytest.raises(OptionError, match=f"^-gn_mat dense: -pc_type {name} reads no entries; leave it out"):
        Preconditioner(parts.layout, parts.blocks, "", "dense", DAMPING)


def test_own_types_need_a_matrix_of_ours(comm):
    parts = setting(comm, "inverse")
    PETSc.Options()["pc_python_type"] = "pescitrain.algebra.nystrom.Nystrom"
    pc = PETSc.PC().create(parts.layout.comm)
    operator = create_gauss_newton(parts.layout, parts.evaluator)
    pc.setOperators(operator, operator)
    pc.setType("python")
    pc.setFromOptions()
    with pytest.raises(PETSc.Error) as caught:
        pc.setUp()
    assert "needs the Jacobian of a pescitrain system" in str(caught.value.__cause__)


def test_cg_with_nystrom_converges_in_a_few_iterations(comm):
    """Rank above that of J: one iteration would do in exact arithmetic."""
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, "nystrom", pc_nystrom_rank=10000)
    operator = create_gauss_newton(parts.layout, parts.evaluator, pre.matrix.context.damping)
    right = random_vector(parts.layout.size)
    b, x = parts.layout.vec_from(right), parts.layout.create_vec()
    ksp = PETSc.KSP().create(parts.layout.comm)
    ksp.setOperators(operator, pre.matrix.mat)
    ksp.setType("cg")
    ksp.setTolerances(rtol=1e-10)
    pre.attach(ksp, operator)
    ksp.solve(b, x)
    assert ksp.getIterationNumber() <= 2
    close(parts.layout.gather(x), np.linalg.solve(damped(parts.dense_gauss_newton()), right), 1e-8)
