"""The rules of tests/conftest.py hold: ranks agree on outcomes, a failing rank fails the run, and nothing hangs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from petsc4py import PETSc

CONFTEST = Path(__file__).parents[1] / "conftest.py"
MPIEXEC = Path(sys.executable).parent / "mpiexec"

ONE_RANK_FAILS = """
import pytest

@pytest.mark.parallel
def test_one_rank_fails(comm):
    assert comm.rank != 1, "the reason on rank one"

@pytest.mark.parallel
def test_and_the_next_one_is_in_step(comm):
    assert comm.allreduce(1) == comm.size
"""

ONE_RANK_LEAVES = """
import pytest

@pytest.mark.parallel
def test_one_rank_leaves_the_others_waiting(comm):
    assert comm.rank != 1, "the reason on rank one"
    comm.Barrier()
"""


def under_mpiexec(folder, text):
    """Run a file of tests on two ranks, in an MPI job of its own; return the exit code and the output."""
    conftest = CONFTEST.read_text().replace("AGREEMENT_PATIENCE = 20.0", "AGREEMENT_PATIENCE = 1.0")
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_inner.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = parallel\n")
    # The launcher must not take itself for a rank of the job that runs this test.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PMI", "OMPI_COMM", "PMIX", "HYDI"))}
    command = [MPIEXEC, "-n", "2", sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", folder]
    run = subprocess.run(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


needs_launcher = pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python")


@needs_launcher
def test_a_failure_on_one_rank_is_reported_once_and_fails_the_run(tmp_path):
    status, output = under_mpiexec(tmp_path, ONE_RANK_FAILS)
    assert status != 0
    assert output.count("1 failed, 1 passed") == 1
    assert "failed on rank 1" in output
    assert "the reason on rank one" in output


@needs_launcher
def test_ranks_that_wait_for_a_failed_one_do_not_hang(tmp_path):
    start = time.monotonic()
    status, output = under_mpiexec(tmp_path, ONE_RANK_LEAVES)
    assert status != 0
    assert "the reason on rank one" in output
    assert time.monotonic() - start < 60


@pytest.mark.parallel
def test_all_ranks_are_in_one_run(comm, tmp_path):
    assert PETSc.COMM_WORLD.size == comm.size
    assert len(set(comm.allgather(str(tmp_path)))) == 1


def test_the_options_database_is_empty():
    assert PETSc.Options().getAll() == {}
