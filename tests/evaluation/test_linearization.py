"""J, its products, and the Gauss–Newton matrix, by two paths and against dense differentiation."""

import numpy as np
import pytest
import torch
from toys import CASES, RANDOM_FEATURES, Case, jacobian_by_torch, mlp, opaque, random_vector, start, subdomains

from pescitrain.evaluation.block_sparse_jacobian import BlockSparseJacobian
from pescitrain.evaluation.jacobian import FactoredJacobian, FunctionalJacobian

PATHS = {"factors": lambda make: make, "functions": opaque}
TOLERANCE = 1e-11  # relative to the largest entry: two orders of summation, terms up to 1e3 times the result


def close(one, other, tolerance=TOLERANCE):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


TWICE = [*((name, path) for name in CASES for path in PATHS), *((name, "factors") for name in RANDOM_FEATURES)]


@pytest.fixture(params=TWICE, ids=lambda p: f"{p[0]} by {p[1]}")
def linearized(request):
    """(evaluator, θ, its linearization, the dense J by `torch.func`)."""
    name, path = request.param
    # `torch.func` costs a fixed time for each chunk.
    evaluator = {**CASES, **RANDOM_FEATURES}[name].build(wrap=PATHS[path], chunk_size=4 if path == "factors" else 100)
    theta = start(evaluator)
    structured = BlockSparseJacobian if name.startswith("subdomains") else FactoredJacobian
    kind = structured if path == "factors" else FunctionalJacobian
    linearization = evaluator.linearize(theta)
    assert all(isinstance(chunk, kind) for chunk in linearization.chunks)
    return evaluator, theta, linearization, jacobian_by_torch(evaluator, theta)


def test_products_and_entries_are_those_of_the_dense_jacobian(linearized):
    evaluator, theta, linearization, jacobian = linearized
    v, w = random_vector(len(theta), 1), random_vector(len(jacobian), 2)
    assert linearization.rows == len(jacobian) == evaluator.residual_count
    close(linearization.residual, evaluator.residual(theta))
    close(linearization.dense(), jacobian)
    close(linearization.times(v), jacobian @ v)
    close(linearization.transpose_times(w), jacobian.T @ w)
    close(linearization.gauss_newton_times(v), jacobian.T @ (jacobian @ v))
    several = np.stack((v, random_vector(len(theta), 6), np.zeros(len(theta)))).T
    close(linearization.gauss_newton_products(several), jacobian.T @ (jacobian @ several))
    close(linearization.gauss_newton_diagonal(), (jacobian**2).sum(0))
    close(linearization.transpose_times(linearization.residual), evaluator.objective_gradient(theta)[1])


@pytest.mark.parametrize("piece", [1, 20])
def test_products_by_pieces_are_those_of_the_dense_jacobian(linearized, monkeypatch, piece):
    _, theta, linearization, jacobian = linearized
    monkeypatch.setattr("pescitrain.evaluation.jacobian.PIECE", piece)
    several = np.stack((random_vector(len(theta), 1), random_vector(len(theta), 6))).T
    close(linearization.gauss_newton_products(several), jacobian.T @ (jacobian @ several))


def test_the_diagonal_of_wide_layers_is_that_of_the_dense_matrix():
    evaluator = CASES["poisson"].build(wrap=lambda _: mlp(width=30))
    theta = start(evaluator)
    linearization = evaluator.linearize(theta)
    close(linearization.gauss_newton_diagonal(), (linearization.dense() ** 2).sum(0))


def test_the_adjoint_identity_holds_to_round_off(linearized):
    _, theta, linearization, jacobian = linearized
    v, w = random_vector(len(theta), 3), random_vector(len(jacobian), 4)
    jv, jtw = linearization.times(v), linearization.transpose_times(w)
    assert abs(jv @ w - v @ jtw) <= 1e-13 * np.linalg.norm(jv) * np.linalg.norm(w)


def test_the_taylor_remainder_of_the_residual_falls_with_the_square_of_the_step(linearized):
    evaluator, theta, linearization, _ = linearized
    if not evaluator.quadratic:
        pytest.skip("its rows at another point are not those of this J")
    v = random_vector(len(theta), 5)
    jv = linearization.times(v)
    steps = 1e-3 * 0.5 ** np.arange(3)
    remainders = [np.linalg.norm(evaluator.residual(theta + h * v) - linearization.residual - h * jv) for h in steps]
    slopes = np.diff(np.log(remainders)) / np.diff(np.log(steps))
    np.testing.assert_allclose(slopes, 2.0, rtol=0.0, atol=0.05)


def test_blocks_are_those_of_the_dense_gauss_newton_matrix(linearized):
    _, theta, linearization, jacobian = linearized
    n = len(theta)
    gauss_newton = jacobian.T @ jacobian
    sets = [
        np.arange(n),  # everything
        np.arange(0, n // 2),  # cuts a parameter tensor
        np.arange(n - 1, n),
        np.arange(1, n, 3),  # not contiguous
        np.array([0, n - 1], dtype=np.int32),
    ]
    blocks = linearization.gauss_newton_blocks(sets, [0] * len(sets))
    for indices, block in zip(sets, blocks, strict=True):
        assert block is not None
        assert block.shape == (len(indices), len(indices))
        np.testing.assert_allclose(
            block, gauss_newton[np.ix_(indices, indices)], rtol=0.0, atol=TOLERANCE * np.abs(gauss_newton).max()
        )
        assert np.abs(block - block.T).max() <= 1e-13 * np.abs(block).max()


def test_blocks_in_single_precision_are_right_to_its_round_off(linearized):
    _, theta, linearization, jacobian = linearized
    gauss_newton, everything = jacobian.T @ jacobian, [np.arange(len(theta))]
    (block,) = linearization.gauss_newton_blocks(everything, [0], single=True)
    assert block is not None
    error = np.abs(block - gauss_newton).max() / np.abs(gauss_newton).max()
    assert 0.0 < error < 1e-6  # sums of some tens of products with 6e-8 each, and not of double precision
    assert block.dtype == np.float64


def test_the_two_gram_matrices_are_those_of_the_dense_jacobian(linearized):
    _, _, linearization, jacobian = linearized
    for gram, exact in (
        (linearization.gauss_newton_matrix(), jacobian.T @ jacobian),
        (linearization.sample_gram_matrix(), jacobian @ jacobian.T),
    ):
        np.testing.assert_allclose(gram, exact, rtol=0.0, atol=1e-12 * np.abs(exact).max())
        assert np.array_equal(gram, gram.T)


def test_a_linearization_stays_at_its_point_when_the_evaluator_moves(linearized):
    evaluator, theta, linearization, jacobian = linearized
    evaluator.objective_gradient(theta + 1.0)
    v, w = random_vector(len(theta), 1), random_vector(len(jacobian), 2)
    close(linearization.dense(), jacobian)
    close(linearization.times(v), jacobian @ v)
    close(linearization.transpose_times(w), jacobian.T @ w)


@pytest.mark.parametrize("name", CASES)
def test_the_two_paths_agree(name):
    """A module without Taylor mode takes the same problem through `torch.func` instead of factors."""
    plain, hidden = CASES[name].build(), CASES[name].build(wrap=opaque)
    order = {e.name.replace(".inner.", "."): e for e in hidden.parameters.entries}
    theta, moved = start(plain), np.zeros(plain.parameters.size)
    columns = np.zeros(plain.parameters.size, dtype=int)
    for entry in plain.parameters.entries:
        other = order[entry.name]
        moved[other.start : other.stop] = theta[entry.start : entry.stop]
        columns[entry.start : entry.stop] = np.arange(other.start, other.stop)
    one, two = plain.linearize(theta), hidden.linearize(moved)
    # Points are in the order of the subdomains, which are not known of a hidden module.
    rows = [np.argsort(r) if name.startswith("subdomains") else slice(None) for r in (one.residual, two.residual)]
    close(two.residual[rows[1]], one.residual[rows[0]], 1e-10)
    close(two.dense()[rows[1]][:, columns], one.dense()[rows[0]], 1e-10)


@pytest.mark.parametrize("name", ["two rows", "wave, periodic term", "inverse", "mixed outputs"])
@pytest.mark.parametrize(("chunk_size", "path"), [(1, "factors"), (5, "factors"), (1000, "factors"), (5, "functions")])
def test_the_size_of_the_chunks_does_not_matter(name, chunk_size, path):
    wrap = PATHS[path]
    reference = CASES[name].build(wrap=wrap, chunk_size=100)
    evaluator = CASES[name].build(wrap=wrap, chunk_size=chunk_size)
    theta = start(reference)
    one, other = reference.linearize(theta), evaluator.linearize(theta)
    close(other.dense(), one.dense())
    close(other.gauss_newton_diagonal(), one.gauss_newton_diagonal())


def test_products_take_read_only_and_strided_vectors():
    evaluator = CASES["poisson"].build()
    theta = start(evaluator)
    linearization = evaluator.linearize(theta)
    v = random_vector(2 * len(theta))[::2]
    assert np.array_equal(linearization.times(v), linearization.times(v.copy()))
    w = random_vector(2 * linearization.rows)[::2]
    assert np.array_equal(linearization.transpose_times(w), linearization.transpose_times(w.copy()))


def test_products_build_no_graph():
    evaluator = CASES["wave, periodic term"].build()
    linearization = evaluator.linearize(start(evaluator))
    for chunk in linearization.chunks:
        assert isinstance(chunk, FactoredJacobian)
        assert not chunk.transposed(evaluator.parameters.entries).requires_grad
    assert all(p.grad is not None and not p.grad.any() for p in evaluator.surrogate.parameters())
    assert torch.is_grad_enabled()


def test_a_term_with_one_network_in_subdomains_and_another_that_is_not():
    """No form of the Jacobian has the factors of both: it goes through `torch.func`."""
    kinds = iter((subdomains(), mlp()))
    case = Case(CASES["two networks"].problem, lambda *arguments: next(kinds)(*arguments))
    evaluator = case.build()
    theta = start(evaluator)
    close(evaluator.linearize(theta).dense(), jacobian_by_torch(evaluator, theta))
