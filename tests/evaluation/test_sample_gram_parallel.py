"""J Jᵀ from the inputs and cotangents of layers, on any number of ranks, against the columns of J."""

import numpy as np
import pytest
from toys import CASES, start

from pescitrain.evaluation import linearization as module
from pescitrain.evaluation.linearization import Linearization
from pescitrain.evaluation.sample_gram import is_shorter

pytestmark = pytest.mark.parallel

NAMES = [name for name in CASES if not name.startswith("subdomains")]


@pytest.mark.parametrize("chunk_size", [3, 100])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_product_of_the_rows_of_all_ranks(comm, monkeypatch, name, chunk_size):
    monkeypatch.setattr(module, "is_shorter", lambda chunks, *_: all(chunk is not None for chunk in chunks))
    monkeypatch.setattr(Linearization, "_columns_of_rank", lambda _: pytest.fail("by the columns of J"))
    evaluator = CASES[name].build(comm, chunk_size=chunk_size)
    linearization = evaluator.linearize(start(evaluator))
    rows = np.concatenate(comm.allgather(linearization.dense()))
    product = rows @ rows.T
    gram = linearization.sample_gram_matrix()
    np.testing.assert_allclose(gram, product, rtol=0.0, atol=1e-14 * np.abs(product).max())
    np.testing.assert_array_equal(gram, gram.T)


def test_it_is_taken_where_layers_are_wide_and_factors_are_known(comm):
    evaluator = CASES["poisson"].build(comm)
    chunks = [chunk.sample_rows() for chunk in evaluator.linearize(start(evaluator)).chunks]
    assert not is_shorter(chunks, evaluator.parameters.size, comm)  # layers of a few neurons
    assert is_shorter(chunks, 10**9, comm)
    assert not is_shorter([*chunks, None] if comm.rank == comm.size - 1 else chunks, 10**9, comm)
