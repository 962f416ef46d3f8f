"""The GPU against the host. What needs a GPU is skipped where there is none; the sentences about it are not."""

import numpy as np
import pytest
import torch
from run.commands import command, refused, summary  # pyright: ignore[reportMissingImports]
from scipy.linalg import LinAlgError
from toys import CASES, opaque, random_vector, start, system_of  # pyright: ignore[reportMissingImports]

from pescitrain.algebra.cholesky import ShiftedCholesky
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.restriction import RestrictedEvaluator
from pescitrain.networks.device import HOST, at_home, describe, evaluate, find_device, on_device, on_host

GPU = torch.device("cuda", 0)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

# Sums of some tens of products of size one in another order.
CLOSE = {"rtol": 1e-11, "atol": 1e-12}

BUILDS = [(name, functional) for name in CASES for functional in (False, True)]


def both(name: str, functional: bool = False) -> tuple[Evaluator, Evaluator]:
    """The same evaluator on the host and on the GPU."""
    options = {"wrap": opaque} if functional else {}
    return CASES[name].build(**options), CASES[name].build(**options, device=GPU)


# ------------------------------------------------------------------------------------------------------- on any machine


def test_the_host_is_a_device_whatever_the_rank():
    assert find_device("cpu", 3) == HOST
    assert describe(HOST) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence():
    with pytest.raises(
        OptionError, match=r"-device cuda needs a GPU, and PyTorch \S+ (finds none|is built without CUD)"
    ):
        find_device("cuda", 0)


@pytest.mark.parallel
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_command_refuses_a_gpu_that_is_not_there(comm, tmp_path):
    ended = command("-problem", "poisson2d", "-device", "cuda", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    if comm.rank == 0:
        assert ended.complaint.startswith("-device cuda needs a GPU")
        assert ended.complaint.endswith("use -device cpu")


def test_an_unknown_device_is_refused(tmp_path):
    assert refused("-problem", "poisson2d", "-device", "tpu") == "-device tpu: choose from cpu, cuda"


def test_an_array_of_the_host_is_not_copied():
    array = np.arange(3.0)
    assert np.shares_memory(on_host(on_device(array, HOST)), array)


def test_a_read_only_array_is_not_written_to():
    array = np.arange(3.0)
    array.flags.writeable = False
    on_device(array, HOST)[0] = 5.0
    assert array[0] == 0.0


def test_at_home_on_the_host_is_without_effect():
    with at_home(HOST):
        assert torch.zeros(1).device == HOST


def test_the_shifted_cholesky_solves_for_every_shift():
    rows = np.random.default_rng(0).standard_normal((5, 3))
    matrix = rows.T @ rows
    cholesky = ShiftedCholesky(torch.from_numpy(matrix))
    for shift in (0.1, 2.0, 0.0):
        np.testing.assert_allclose(
            cholesky.factor(shift)(np.ones(3)), np.linalg.solve(matrix + shift * np.eye(3), np.ones(3)), rtol=1e-12
        )


def test_the_shifted_cholesky_refuses_an_indefinite_matrix():
    with pytest.raises(LinAlgError):
        ShiftedCholesky(torch.diag(torch.tensor([1.0, -2.0]))).factor(1.0)


# ---------------------------------------------------------------------------------------------------------- with a GPU


@needs_gpu
@pytest.mark.parametrize(("name", "functional"), BUILDS)
def test_values_and_derivatives_are_those_of_the_host(name, functional):
    host, there = both(name, functional)
    theta = start(host) + 0.1 * random_vector(host.parameters.size)
    (value, gradient), (value_there, gradient_there) = (e.objective_gradient(theta) for e in (host, there))
    np.testing.assert_allclose(value_there.terms, value.terms, **CLOSE)
    np.testing.assert_allclose(gradient_there, gradient, **CLOSE)
    np.testing.assert_allclose(there.residual(theta), host.residual(theta), **CLOSE)
    one, other = host.linearize(theta), there.linearize(theta)
    v, w = random_vector(host.parameters.size), random_vector(one.rows)
    np.testing.assert_allclose(other.times(v), one.times(v), **CLOSE)
    np.testing.assert_allclose(other.transpose_times(w), one.transpose_times(w), **CLOSE)
    np.testing.assert_allclose(other.dense(), one.dense(), **CLOSE)


@needs_gpu
@pytest.mark.parametrize("name", ["two networks", "inverse", "wave, periodic term"])
def test_matrices_are_those_of_the_host(name):
    host, there = both(name)
    theta = start(host)
    one, other = host.linearize(theta), there.linearize(theta)
    blocks = [np.arange(3), np.arange(2, host.parameters.size)]
    for block, block_there in zip(
        one.gauss_newton_blocks(blocks, (0, 0)), other.gauss_newton_blocks(blocks, (0, 0)), strict=True
    ):
        np.testing.assert_allclose(block_there, block, **CLOSE)
    for what in ("gauss_newton_matrix", "sample_gram_matrix", "gauss_newton_diagonal"):
        np.testing.assert_allclose(getattr(other, what)(), getattr(one, what)(), **CLOSE)
    directions = np.random.default_rng(1).standard_normal((host.parameters.size, 3))
    np.testing.assert_allclose(other.gauss_newton_products(directions), one.gauss_newton_products(directions), **CLOSE)
    np.testing.assert_allclose(other.subset(6, 1).dense(), one.subset(6, 1).dense(), **CLOSE)
    for factor, factor_there in zip(one.kronecker_factors() or (), other.kronecker_factors() or (), strict=True):
        np.testing.assert_allclose(factor_there.inputs, factor.inputs, **CLOSE)
        np.testing.assert_allclose(factor_there.cotangents, factor.cotangents, **CLOSE)


@needs_gpu
def test_a_block_of_layers_is_that_of_the_host():
    gradients = []
    for whole in both("poisson"):
        layer = whole.parameters.layers[1]
        active = np.arange(layer.start, layer.stop)
        part = RestrictedEvaluator(whole, active)
        theta = start(whole)
        with part.frozen(theta):
            gradients.append(part.objective_gradient(theta[active] + 0.1)[1])
    np.testing.assert_allclose(gradients[1], gradients[0], **CLOSE)


@needs_gpu
def test_the_shifted_cholesky_is_that_of_the_host():
    rows = np.random.default_rng(0).standard_normal((50, 30))
    matrix = rows.T @ rows
    host, there = ShiftedCholesky(on_device(matrix, HOST)), ShiftedCholesky(on_device(matrix, GPU))
    np.testing.assert_allclose(there.factor(0.1)(rows[0]), host.factor(0.1)(rows[0]), **CLOSE)
    with pytest.raises(LinAlgError):
        there.factor(-1e3)


@needs_gpu
@pytest.mark.parallel
def test_ranks_share_what_gpus_there_are(comm):
    there, host = CASES["two rows"].build(comm, device=find_device("cuda", comm.rank)), CASES["two rows"].build()
    theta = start(host)
    np.testing.assert_allclose(there.objective_gradient(theta)[1], host.objective_gradient(theta)[1], **CLOSE)
    system_of(there).destroy()


@needs_gpu
@pytest.mark.parametrize(
    "words",
    [
        ("-problem", "burgers", "-tao_type", "lm"),
        ("-problem", "burgers", "-tao_type", "lm", "-tao_lm_space", "samples", "-sample_adapt", "rad"),
        ("-problem", "poisson2d", "-tao_type", "bnls", "-pc_type", "asm", "-tao_bnk_ksp_max_it", 5),
        ("-problem", "poisson2d", "-tao_type", "blmvm", "-bc_enforce", "hard"),
        ("-problem", "burgers", "-tao_type", "spqn"),
        ("-problem", "klein_gordon", "-stages", "one,two", "-two_net_correction", "-tao_type", "lm"),
    ],
)
def test_a_run_ends_where_that_of_the_host_ends(tmp_path, words):
    ends = []
    for device in ("cpu", "cuda"):
        # Few iterations: a truncated Krylov solve magnifies what sums round.
        small = ("-net_width", 8, "-net_depth", 2, "-sample_points", 200, "-tao_max_it", 2)
        folder = tmp_path / device
        assert command(*words, *small, "-device", device, "-out_dir", folder).code == 0
        ends.append(summary(folder))
    assert ends[1]["device"] == describe(GPU)
    assert ends[1]["objective"] == pytest.approx(ends[0]["objective"], rel=1e-6)
    assert ends[1]["rel_l2"] == pytest.approx(ends[0]["rel_l2"], rel=1e-6)


def test_points_in_parts_have_the_values_of_all_at_once(monkeypatch):
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (10, 3))
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).double()
    whole = evaluate(module, x)
    monkeypatch.setattr("pescitrain.networks.device.AT_A_TIME", 4)
    np.testing.assert_allclose(evaluate(module, x), whole, rtol=1e-15)
    assert evaluate(module, x[:0]).shape == (0, 2)
