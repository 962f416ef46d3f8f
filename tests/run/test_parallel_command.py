"""The command under mpiexec: the same run as on one rank, a restart on one, errors said once."""

import numpy as np
import pytest
from run.commands import (  # pyright: ignore[reportMissingImports]
    MPIEXEC,
    TINY,
    column,
    command,
    history,
    process,
    summary,
)

pytestmark = pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python")

POISSON2D = ("-problem", "poisson2d", *TINY, "-ckpt_interval", 10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twenty iterations on two ranks, thirty on one."""
    place = tmp_path_factory.mktemp("ranks")
    ended = process(*POISSON2D, "-tao_max_it", 20, "-out_dir", place / "two", ranks=2)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("Used the budget of 20 iterations as asked") == 1
    assert command(*POISSON2D, "-tao_max_it", 30, "-out_dir", place / "one").code == 0
    return place


def test_two_ranks_make_the_iterations_of_one(folders):
    one, two = history(folders / "one")[:21], history(folders / "two")
    assert [(row["iteration"], row["closures"]) for row in one] == [(row["iteration"], row["closures"]) for row in two]
    for name in ("objective", "gradient_norm", "residual_interior", "dirichlet_boundary"):
        # Sums over points are added in another order: 1e-16, magnified by 20 steps of a solver.
        np.testing.assert_allclose(column(folders / "two", name), column(folders / "one", name)[:21], rtol=1e-8)
    assert summary(folders / "two")["ranks"] == 2
    for name in ("parameters", "residuals"):
        assert summary(folders / "two")[name] == summary(folders / "one")[name]


def test_a_checkpoint_of_two_ranks_goes_on_on_one(folders, tmp_path):
    words = (*POISSON2D, "-tao_max_it", 30, "-ckpt_restart", folders / "two/checkpoint", "-out_dir", tmp_path)
    assert command(*words).code == 0
    assert [int(row["iteration"]) for row in history(tmp_path)] == list(range(31))
    for name in ("objective", "gradient_norm"):  # the same round-off as above, magnified by ten more steps
        np.testing.assert_allclose(column(tmp_path, name), column(folders / "one", name), rtol=1e-7)


def test_a_usage_error_is_said_once_and_is_code_two(tmp_path):
    ended = process(*POISSON2D, "-net_widht", 3, "-out_dir", tmp_path / "run", ranks=2)
    assert (ended.code, ended.out) == (2, "")
    assert ended.complaint == "unknown option -net_widht; did you mean -net_width?"
