"""The command on two ranks: the same run as on one, errors said once, nothing hangs."""

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


FAILS = """from mpi4py import MPI
from pescitrain import Box, Dirichlet, Problem, Residual

class Square(Problem):
    def domain(self):
        return Box(("x", "y"), (0, 0), (1, 1))
    def terms(self):
        return [Residual(self.equation), Dirichlet(0.0)]
    def equation(self, u, x):
        if MPI.COMM_WORLD.rank == 1 and len(x) >= LEAST:
            raise ValueError("only here")
        return u.laplacian
"""


@pytest.mark.parametrize(("least", "code", "begin"), [(4, 1, "the residual failed on rank 1: "), (0, 2, "-problem ")])
def test_an_error_on_one_rank_is_an_error_on_all_said_once(tmp_path, least, code, begin):
    """In a residual at its points, and at the three on which it is tried before any work."""
    file = tmp_path / "user.py"
    file.write_text(FAILS.replace("LEAST", str(least)))
    ended = process("-problem", file, *TINY, "-out_dir", tmp_path / "run", ranks=2)
    assert ended.code == code
    assert ended.complaint.startswith(begin)
    assert f"ValueError: only here ({file}:11" in ended.complaint


def test_points_that_moved_on_two_ranks_go_on_on_one(tmp_path):
    """Each rank writes its share of them."""
    words = (*POISSON2D, *"-tao_type lm -sample_adapt rar -sample_adapt_interval 4 -sample_adapt_add 7".split())
    assert process(*words, "-tao_max_it", 10, "-out_dir", tmp_path / "two", ranks=2).code == 0
    restart = ("-ckpt_restart", tmp_path / "two/checkpoint")
    assert command(*words, "-tao_max_it", 14, *restart, "-out_dir", tmp_path / "again").code == 0
    assert command(*words, "-tao_max_it", 14, "-out_dir", tmp_path / "one").code == 0
    for name in ("objective", "gradient_norm"):  # round-off as above
        np.testing.assert_allclose(column(tmp_path / "again", name), column(tmp_path / "one", name), rtol=1e-7)


def test_a_lifting_that_fails_at_the_points_of_one_rank_fails_on_all(tmp_path):
    file = tmp_path / "user.py"
    lifting = """
    def lifting(self):
        return Lifting(self.base, lambda x, y: x * y, ())
    def base(self, x):
        if MPI.COMM_WORLD.rank == 1 and len(x) >= 4:
            raise ValueError("only here")
        return 0 * x
"""
    file.write_text(FAILS.replace("import Box", "import Box, Lifting").replace("LEAST", "10**9") + lifting)
    ended = process("-problem", file, *TINY, "-bc_enforce", "hard", "-out_dir", tmp_path / "run", ranks=2)
    assert (ended.code, ended.out) == (2, "")
    assert "ValueError: only here" in ended.complaint
