"""Every preconditioner against the dense inverse of what it claims to invert."""

import itertools

import numpy as np
import pytest
from petsc4py import PETSc
from toys import jacobian_by_torch, random_vector, setting

from pescitrain.algebra import Preconditioner, create_gauss_newton
from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError

pytestmark = pytest.mark.parallel

DAMPING = 0.1
TOLERANCE = 1e-10  # relative: round-off times the condition of the blocks, below 1e4 with this damping


def close(one, other, tolerance=TOLERANCE):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


def preconditioner(parts, pc_type="asm", prefix="", kind=None, damping=DAMPING, **options):
    for key, value in {"pc_type": pc_type, **options}.items():
        PETSc.Options()[prefix + key] = value
    result = Preconditioner(parts.layout, parts.blocks, prefix, kind, damping)
    result.refresh(parts.evaluator.linearize(parts.theta))
    return result


def damped(parts, damping=DAMPING):
    dense = parts.dense_gauss_newton()
    return dense + damping * np.diag(dense).mean() * np.eye(len(dense))


def applied(parts, pre):
    """M as a dense matrix, column by column."""
    layout = parts.layout
    x, y = layout.create_vec(), layout.create_vec()
    columns = []
    for unit in np.eye(layout.size):
        layout.set(x, unit)
        y.set(3.0)
        pre.apply(x, y)
        columns.append(layout.gather(y).copy())
    return np.array(columns).T


def schwarz(matrix, index_sets):
    """Σ R_sᵀ (R_s A R_sᵀ)⁻¹ R_s."""
    result = np.zeros_like(matrix)
    for indices in index_sets:
        window = np.ix_(indices, indices)
        result[window] += np.linalg.inv(matrix[window])
    return result


@pytest.mark.parametrize("overlap", [0, 1])
@pytest.mark.parametrize("blocks", [None, 2])
@pytest.mark.parametrize("ownership", ["blocks", "even"])
def test_asm_is_the_sum_of_the_inverses_of_the_blocks(comm, overlap, blocks, ownership):
    parts = setting(comm, "inverse", ownership, blocks, overlap)
    pre = preconditioner(parts)
    close(applied(parts, pre), schwarz(damped(parts), [b.active for b in parts.blocks]))
    _, outer, _ = pre.pc.getASMLocalSubdomains()
    mine = [i.getIndices().tolist() for i in outer if i.getSize()]
    assert sorted(itertools.chain(*comm.allgather(mine))) == sorted(b.active.tolist() for b in parts.blocks)
    assert {ksp.getPC().getType() for ksp in pre.pc.getASMSubKSP()} == {"cholesky"}
    pre.destroy()


@pytest.mark.parametrize("kind", [None, "blocks", "dense"])
def test_jacobi_is_the_inverse_of_the_diagonal_with_entries_or_without(comm, kind):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, "jacobi", kind=kind)
    assert (pre.matrix.mat.getType() == PETSc.Mat.Type.PYTHON) == (kind is None)
    close(applied(parts, pre), np.diag(1.0 / damped(parts).diagonal()))
    pre.set_damping(2.0 * pre.matrix.mean_diagonal)
    close(applied(parts, pre), np.diag(1.0 / damped(parts, 2.0).diagonal()))
    pre.destroy()


@pytest.mark.parametrize("overlap", [0, 1])
def test_gasm_is_what_asm_is(comm, overlap):
    parts = setting(comm, "inverse", overlap=overlap)
    pre = preconditioner(parts, "gasm")
    close(applied(parts, pre), schwarz(damped(parts), [b.active for b in parts.blocks]))
    pre.require_symmetric_positive_definite("cg")


@pytest.mark.parallel(2, 3)
def test_gasm_takes_no_block_that_lives_on_several_ranks(comm):
    parts = setting(comm, "inverse", "even")
    with pytest.raises(OptionError, match=r"^-pc_type gasm: block .* lives on several ranks, .*use -pc_type asm"):
        preconditioner(parts, "gasm")


def test_asm_without_an_option_is_the_default(comm):
    parts = setting(comm, "inverse")
    pre = Preconditioner(parts.layout, parts.blocks, "", None, DAMPING)
    assert pre.pc_type == pre.pc.getType() == "asm"
    pre.refresh(parts.evaluator.linearize(parts.theta))
    close(applied(parts, pre), schwarz(damped(parts), [b.active for b in parts.blocks]))


def test_the_options_of_the_user_win_over_the_defaults(comm):
    parts = setting(comm, "inverse", overlap=1)
    pre = preconditioner(parts, pc_asm_type="restrict", sub_pc_type="lu")
    matrix = damped(parts)
    restricted = np.zeros_like(matrix)
    for block in parts.blocks:
        restricted[block.owned] += schwarz(matrix, [block.active])[block.owned]
    close(applied(parts, pre), restricted)
    assert {ksp.getPC().getType() for ksp in pre.pc.getASMSubKSP()} == {"lu"}


def test_options_carry_the_prefix_of_the_stage(comm):
    parts = setting(comm, "inverse")
    PETSc.Options()["pc_type"] = "jacobi"  # of another stage
    pre = preconditioner(parts, prefix="main_")
    assert pre.pc.getType() == "asm"
    assert pre.pc.getOptionsPrefix() == "main_"
    close(applied(parts, pre), schwarz(damped(parts), [b.active for b in parts.blocks]))


def test_jacobi_is_the_inverse_of_the_diagonal(comm):
    parts = setting(comm, "inverse")
    close(applied(parts, preconditioner(parts, "jacobi")), np.diag(1 / np.diag(damped(parts))))


def test_block_jacobi_inverts_what_a_rank_owns(comm):
    parts = setting(comm, "inverse", overlap=9)  # all entries are there
    spans = comm.allgather(np.arange(parts.layout.start, parts.layout.stop))
    close(applied(parts, preconditioner(parts, "bjacobi")), schwarz(damped(parts), [s for s in spans if len(s)]))


def test_field_split_inverts_the_layers_by_their_names(comm):
    parts = setting(comm, "inverse")
    names = [layer.name for layer in parts.layout.layers]
    options = {f"fieldsplit_{name}_pc_type": "jacobi" for name in names[:1]}
    pre = preconditioner(parts, "fieldsplit", **options)
    matrix = damped(parts)
    first = parts.layout.layers[0]
    expected = schwarz(matrix, [np.arange(layer.start, layer.stop) for layer in parts.layout.layers])
    window = slice(first.start, first.stop)
    expected[window, window] = np.diag(1 / np.diag(matrix)[window])
    close(applied(parts, pre), expected)
    assert len(pre.pc.getFieldSplitSubKSP()) == len(names)


@pytest.mark.parametrize("pc_type", ["lu", "cholesky"])
def test_direct_methods_invert_the_whole_matrix_on_any_number_of_ranks(comm, pc_type):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, pc_type)
    assert pre.matrix.kind == "dense"
    assert pre.pc_type == pc_type
    close(applied(parts, pre), np.linalg.inv(damped(parts)), 1e-9)


def test_the_dense_matrix_may_be_asked_for(comm):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, "jacobi", kind="dense")
    assert pre.matrix.kind == "dense"
    close(applied(parts, pre), np.diag(1 / np.diag(damped(parts))))


def test_a_refresh_at_a_new_point_changes_what_is_inverted(comm):
    parts = setting(comm, "inverse", overlap=1)
    pre = preconditioner(parts)
    first = applied(parts, pre)
    theta = parts.theta + 0.5
    pre.refresh(parts.evaluator.linearize(theta))
    jacobian = jacobian_by_torch(parts.serial, theta)
    dense = jacobian.T @ jacobian
    matrix = dense + DAMPING * np.diag(dense).mean() * np.eye(len(dense))
    second = applied(parts, pre)
    close(second, schwarz(matrix, [b.active for b in parts.blocks]))
    assert np.abs(second - first).max() > 1e-3 * np.abs(first).max()


def test_the_scale_gives_the_curvature_of_the_last_secant_pair(comm):
    parts = setting(comm, "inverse", overlap=1)
    pre = preconditioner(parts)
    plain = applied(parts, pre)
    s = random_vector(parts.layout.size, 1)
    y = s + 0.1 * random_vector(parts.layout.size, 2)
    step, change = parts.layout.vec_from(s), parts.layout.vec_from(y)
    for _ in range(2):  # the second time from another scale
        pre.rescale(step, change)
        assert pre.scale == pytest.approx((s @ y) / (y @ plain @ y), rel=1e-10)
    scaled = applied(parts, pre)
    close(scaled, pre.scale * plain)
    assert y @ scaled @ y == pytest.approx(s @ y, rel=1e-9)
    kept = pre.scale
    change.scale(-1.0)
    pre.rescale(step, change)  # no curvature: the old scale stays
    assert pre.scale == kept


@pytest.mark.parametrize("options", [{}, {"pc_type": "jacobi"}, {"pc_type": "cholesky"}, {"pc_type": "fieldsplit"}])
def test_what_is_symmetric_positive_definite_is_accepted(comm, options):
    parts = setting(comm, "inverse", overlap=1)
    preconditioner(parts, **{"pc_type": "asm", **options}).require_symmetric_positive_definite("cg")


def test_restricted_schwarz_with_overlap_is_not_symmetric(comm):
    parts = setting(comm, "inverse", overlap=1)
    pre = preconditioner(parts, pc_asm_type="restrict")
    with pytest.raises(OptionError, match=r"^-pc_type asm is not symmetric .*blmvm needs .*-pc_asm_type basic"):
        pre.require_symmetric_positive_definite("blmvm")


def test_what_is_not_positive_is_refused(comm):
    parts = setting(comm, "inverse")
    pre = preconditioner(parts, "jacobi", prefix="main_", kind="blocks")
    pre.matrix.mat.scale(-1.0)
    with pytest.raises(OptionError, match=r"^-main_pc_type jacobi is not positive definite"):
        pre.require_symmetric_positive_definite("cg")


def test_a_krylov_solver_takes_the_preconditioner_and_keeps_it_through_a_reset(comm):
    """KSPReset makes a plain PCASM forget its subdomains."""
    parts = setting(comm, "inverse")
    pre = preconditioner(parts)
    operator = create_gauss_newton(parts.layout, parts.evaluator, damping=0.1)
    right = random_vector(parts.layout.size)
    b, x = parts.layout.vec_from(right), parts.layout.create_vec()
    iterations = []
    ksp = PETSc.KSP().create(parts.layout.comm)
    ksp.setOperators(operator, pre.matrix.mat)
    ksp.setType("cg")
    ksp.setTolerances(rtol=1e-12)
    for _ in range(2):
        pre.attach(ksp, operator)
        x.set(0.0)
        ksp.solve(b, x)
        iterations.append(ksp.getIterationNumber())
        ksp.reset()
    expected = np.linalg.solve(parts.dense_gauss_newton() + 0.1 * np.eye(len(right)), right)
    close(parts.layout.gather(x), expected, 1e-9)
    assert iterations[0] == iterations[1] < len(right)
    close(applied(parts, pre), schwarz(damped(parts), [b.active for b in parts.blocks]))


def test_the_wrapper_applies_the_transpose_and_shows_the_inner_method(comm, capfd):
    parts = setting(comm, "inverse", overlap=1)
    pre = preconditioner(parts)
    pre.scale = 2.0
    ksp = PETSc.KSP().create(parts.layout.comm)
    pre.attach(ksp, pre.matrix.mat)
    pc = ksp.getPC()
    x, y, z = (parts.layout.vec_from(random_vector(parts.layout.size, k)) for k in range(3))
    pc.setUp()
    pc.apply(x, z)
    forward = z.dot(y)
    pc.applyTranspose(y, z)
    assert z.dot(x) == pytest.approx(forward, rel=1e-10)
    pc.view(PETSc.Viewer.STDOUT(parts.layout.comm))
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert "type: asm" in shown


def test_a_default_is_given_only_where_the_user_said_nothing():
    options = PETSc.Options()
    options["mine_pc_type"] = "jacobi"
    set_default("mine_pc_type", "asm")
    set_default("mine_pc_asm_type", "basic")
    assert get_string("mine_pc_type") == "jacobi"
    assert get_string("mine_pc_asm_type") == "basic"
    assert get_string("mine_absent") is None
    assert get_string("mine_absent", "other") == "other"


def test_bjacobi_inverts_the_rows_of_each_rank_exactly(comm):
    """With overlap, what the blocks of a rank have in common included."""
    parts = setting(comm, "poisson, residual network", overlap=1)
    pre = preconditioner(parts, "bjacobi")
    entries = pre.matrix.mat.convert("dense").getDenseArray()  # this rank's rows
    whole = np.concatenate(comm.allgather(entries.copy()))
    ranges = comm.allgather((parts.layout.start, parts.layout.stop))
    assert not whole.all()
    close(applied(parts, pre), schwarz(whole, [np.arange(start, stop) for start, stop in ranges if stop > start]))
    pre.destroy()
