"""Coarser networks: prolonged parameters give the same function, and multigrid is the formula of its parts."""

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import CASES, Case, _poisson, mlp, opaque, random_vector, resnet, samples_of, setting

from pescitrain.algebra import Preconditioner
from pescitrain.algebra.coarse_networks import coarse_evaluator, restricted
from pescitrain.algebra.hierarchy import coarsen, finest_level, on_every_rank
from pescitrain.errors import OptionError
from pescitrain.networks import MLP

pytestmark = pytest.mark.parallel

DAMPING = 0.1
DEEP = Case(_poisson, mlp(width=4, depth=5))


def dense(mat, comm):
    """A distributed sparse matrix as an array on all ranks."""
    start, stop = mat.getOwnershipRange()
    local = np.zeros((stop - start, mat.getSize()[1]))
    for row in range(start, stop):
        columns, values = mat.getRow(row)
        local[row - start, columns] = values
    return np.concatenate(comm.allgather(local))


def of(comm, case, monkeypatch):
    monkeypatch.setitem(CASES, "this one", case)
    return setting(comm, "this one")


@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("seed", [None, 0])
def test_a_network_prolonged_in_width_is_the_same_function(comm, width, seed, monkeypatch):
    parts = of(comm, Case(_poisson, mlp(width=width, depth=2)), monkeypatch)
    generator = None if seed is None else np.random.default_rng(seed)
    level, prolongation = coarsen(finest_level(parts.layout), "width", generator)
    half = (width + 1) // 2
    (fine,) = parts.evaluator.surrogate.networks.values()
    assert isinstance(fine, MLP)
    coarse = MLP(fine.embedding, 2, 1, half, 2)
    theta = random_vector(sum(p.numel() for p in coarse.parameters()))
    assert level.layout.size == len(theta)
    matrix = dense(prolongation, comm)
    fine_theta = on_every_rank(prolongation) @ theta
    np.testing.assert_allclose(fine_theta, matrix @ theta, rtol=0.0, atol=1e-15)
    shares = matrix[(matrix > 0) & (matrix < 1)]
    assert len(shares)
    assert (shares == 0.5).all() == (seed is None)
    assert ((shares > 0.3) & (shares < 0.7)).all()
    with torch.no_grad():
        for network, values in ((coarse, theta), (fine, fine_theta)):
            position = 0
            for affine in network.affine:
                for parameter in (affine.weight, affine.bias):
                    part = values[position : position + parameter.numel()]
                    parameter.copy_(torch.from_numpy(part).view(parameter.shape))
                    position += parameter.numel()
        x = torch.from_numpy(np.random.default_rng(2).uniform(-1, 1, (7, 2)))
        np.testing.assert_allclose(fine(x), coarse(x), rtol=0.0, atol=1e-13)


def test_depth_gives_the_parameters_of_a_layer_to_both_of_its_children(comm, monkeypatch):
    parts = of(comm, DEEP, monkeypatch)
    level, prolongation = coarsen(finest_level(parts.layout), "depth")
    assert [layer.name for layer in level.layout.layers] == ["layer_0", "layer_1", "layer_3", "output"]
    theta = random_vector(level.layout.size)
    fine = dense(prolongation, comm) @ theta
    spans = {layer.name: slice(layer.start, layer.stop) for layer in level.layout.layers}
    parents = {"layer_0": "layer_0", "layer_1": "layer_1", "layer_2": "layer_1", "layer_3": "layer_3"}
    parents |= {"layer_4": "layer_3", "output": "output"}
    for layer in parts.layout.layers:
        assert np.array_equal(fine[layer.start : layer.stop], theta[spans[parents[layer.name]]])


def test_both_is_depth_and_then_width(comm, monkeypatch):
    parts = of(comm, Case(_poisson, resnet(width=5, depth=4, adaptive_slope=True)), monkeypatch)
    finest = finest_level(parts.layout)
    middle, first = coarsen(finest, "depth")
    coarse, second = coarsen(middle, "width")
    level, both = coarsen(finest, "both")
    assert level.shapes == coarse.shapes
    assert np.array_equal(dense(both, comm), dense(first, comm) @ dense(second, comm))


def test_the_coarse_parameters_are_the_same_for_any_number_of_ranks(comm, monkeypatch):
    parts = of(comm, DEEP, monkeypatch)
    _, prolongation = coarsen(finest_level(parts.layout), "both")
    serial = setting(PETSc.COMM_SELF.tompi4py(), "this one")
    _, alone = coarsen(finest_level(serial.layout), "both")
    assert np.array_equal(dense(prolongation, comm), dense(alone, PETSc.COMM_SELF.tompi4py()))


def test_unknown_coefficients_stay(comm):
    parts = setting(comm, "inverse")
    _, prolongation = coarsen(finest_level(parts.layout), "both")
    assert np.array_equal(dense(prolongation, comm)[-2:, -2:], np.eye(2))


@pytest.mark.parametrize("kind", ["depth", "width", "both"])
@pytest.mark.parametrize("network", [mlp(width=4, depth=5), resnet(width=5, depth=4, adaptive_slope=True)])
def test_restriction_undoes_prolongation(comm, kind, network, monkeypatch):
    parts = of(comm, Case(_poisson, network), monkeypatch)
    level, prolongation = coarsen(finest_level(parts.layout), kind)
    theta = random_vector(level.layout.size)
    np.testing.assert_allclose(restricted(prolongation, dense(prolongation, comm) @ theta), theta, rtol=1e-14)


@pytest.mark.parametrize("case", ["inverse", "two networks", "lifted"])
def test_a_coarser_network_has_the_galerkin_matrix_where_prolongation_keeps_its_function(comm, case):
    parts = setting(comm, case)
    level, prolongation = coarsen(finest_level(parts.layout), "width")
    coarse, theta = coarse_evaluator(parts.evaluator, level), random_vector(level.layout.size)
    p = dense(prolongation, comm)
    fine = parts.evaluator
    assert coarse.objective(theta).objective == pytest.approx(fine.objective(p @ theta).objective, rel=1e-12)
    expected = p.T @ fine.linearize(p @ theta).gauss_newton_matrix() @ p
    matrix = coarse.linearize(theta).gauss_newton_matrix()
    np.testing.assert_allclose(matrix, expected, rtol=0.0, atol=1e-12 * np.abs(expected).max())


def test_coarser_networks_see_the_points_that_have_moved(comm):
    parts = setting(comm, "poisson")
    coarse = coarse_evaluator(parts.evaluator, coarsen(finest_level(parts.layout), "width")[0])
    theta = random_vector(coarse.parameters.size)
    before = coarse.objective(theta).objective
    samples = samples_of(parts.evaluator)
    (interior,) = samples.interior
    samples.place(interior, samples.candidates(interior, 3, 1))
    coarse.forget()
    assert coarse.objective(theta).objective != pytest.approx(before, rel=1e-3)


def test_a_network_without_layers_has_no_coarser_one(comm, monkeypatch):
    monkeypatch.setitem(CASES, "this one", Case(_poisson, opaque(mlp(width=4, depth=3))))
    parts = setting(comm, "this one")
    PETSc.Options().insertString("-pc_type mg -pc_mg_galerkin none")
    with pytest.raises(OptionError, match=r"^there is no coarser network of 'network': -net_type mlp and resnet alone"):
        Preconditioner(parts.layout, parts.blocks, "", None, DAMPING, coarsening="depth", evaluator=parts.evaluator)


@pytest.mark.parametrize("galerkin", ["both", "none"])
@pytest.mark.parametrize("kind", ["depth", "width", "both"])
def test_multigrid_is_smoothing_and_coarse_correction(comm, kind, galerkin, monkeypatch):
    """V-cycle: error propagation (I − S H)² (I − P C⁻¹ Pᵀ H) (I − S H)², with two sweeps of damped Schwarz.

    C is PᵀHP, or that of the coarser network at the restricted parameters.
    """
    parts = of(comm, DEEP, monkeypatch)
    PETSc.Options().insertString(f"-pc_type mg -pc_mg_galerkin {galerkin}")
    evaluator = parts.evaluator
    pre = Preconditioner(parts.layout, parts.blocks, "", None, DAMPING, coarsening=kind, evaluator=evaluator)
    pre.refresh(evaluator.linearize(parts.theta))
    jtj = parts.dense_gauss_newton()
    identity = np.eye(len(jtj))
    h = jtj + DAMPING * np.diag(jtj).mean() * identity
    schwarz = np.zeros_like(h)
    for block in parts.blocks:
        window = np.ix_(block.owned, block.owned)
        schwarz[window] = np.linalg.inv(h[window]) / len(parts.blocks)
    level, prolongation = coarsen(finest_level(parts.layout), kind)
    p = dense(prolongation, comm)
    coarse = p.T @ h @ p
    if galerkin == "none":
        below = coarse_evaluator(evaluator, level).linearize(restricted(prolongation, parts.theta))
        coarse = below.gauss_newton_matrix() + DAMPING * np.diag(jtj).mean() * p.T @ p
    sweep = np.linalg.matrix_power(identity - schwarz @ h, 2)
    error = sweep @ (identity - p @ np.linalg.solve(coarse, p.T @ h)) @ sweep
    expected = (identity - error) @ np.linalg.inv(h)
    x, y, columns = parts.layout.create_vec(), parts.layout.create_vec(), []
    for unit in identity:
        parts.layout.set(x, unit)
        pre.apply(x, y)
        columns.append(parts.layout.gather(y).copy())
    np.testing.assert_allclose(np.array(columns).T, expected, rtol=0.0, atol=1e-9 * np.abs(expected).max())
    pre.require_symmetric_positive_definite("cg")
    pre.destroy()


@pytest.mark.parametrize("galerkin", ["both", "none"])
def test_three_levels_are_symmetric_positive_definite(comm, galerkin, monkeypatch):
    parts = of(comm, DEEP, monkeypatch)
    PETSc.Options().insertString(f"-pc_type mg -pc_mg_galerkin {galerkin}")
    pre = Preconditioner(parts.layout, parts.blocks, "", None, DAMPING, levels=3, evaluator=parts.evaluator)
    pre.refresh(parts.evaluator.linearize(parts.theta))
    pre.require_symmetric_positive_definite("cg")
    assert pre.pc.getMGLevels() == 3


def test_a_network_that_cannot_be_coarsened_is_refused(comm):
    parts = setting(comm, "poisson, affine network")
    with pytest.raises(OptionError, match=r"^-hier_type depth: a network of 1 layers cannot be coarsened further"):
        coarsen(finest_level(parts.layout), "depth")
