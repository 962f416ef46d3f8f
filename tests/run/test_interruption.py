"""Ctrl-C and the signal of a batch system end a run after its iteration, with everything written."""

import os
import signal
import subprocess

import numpy as np
import pytest
from run.commands import (  # pyright: ignore[reportMissingImports]
    MPIEXEC,
    PATIENCE_S,
    TINY,
    arguments_of,
    column,
    command,
    environment,
    history,
    process,
    summary,
)

from pescitrain.run.history import History

POISSON2D = ("-problem", "poisson2d", *TINY, "-ckpt_interval", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_iteration_and_a_restart_goes_on(tmp_path, monkeypatch, number):
    stages = "-stages warm,main -warm_tao_type adam -warm_tao_max_it 9 -main_tao_max_it 6"
    words, record = (*POISSON2D, *stages.split()), History.record

    def record_and_signal(self, stage, iterate):
        if iterate.iteration == 7:
            os.kill(os.getpid(), number)
        return record(self, stage, iterate)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(History, "record", record_and_signal)
        ended = command(*words, "-out_dir", tmp_path / "run")
    assert ended.code == 128 + number
    assert ended.last_line.startswith(
        f"Stopped by {number.name}; -ckpt_restart {tmp_path}/run/checkpoint goes on. 7 iterations, "
    )
    assert len(history(tmp_path / "run")) == 8  # and no second stage
    assert summary(tmp_path / "run")["iterations"] == 7
    assert handlers[0] == signal.getsignal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) in (handlers[1], signal.SIG_DFL)  # instead of PETSc's, in C
    restart = ("-ckpt_restart", tmp_path / "run/checkpoint", "-out_dir", tmp_path / "run")
    assert command(*words, *restart).code == 0
    assert command(*words, "-out_dir", tmp_path / "whole").code == 0
    for name in ("objective", "gradient_norm"):  # round-off of sums over arrays that memory aligns otherwise
        np.testing.assert_allclose(column(tmp_path / "run", name), column(tmp_path / "whole", name), rtol=1e-12)


SIGNALS_ITSELF = """import os
import signal
import subprocess

from mpi4py import MPI
from pescitrain import Box, Dirichlet, Problem, Residual

class Square(Problem):
    calls = 0
    def domain(self):
        return Box(("x", "y"), (0, 0), (1, 1))
    def terms(self):
        return [Residual(self.equation), Dirichlet(0.0)]
    def equation(self, u):
        self.calls += 1
        if MPI.COMM_WORLD.rank == 1 and self.calls == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return u.laplacian + 1
"""


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python")
def test_a_signal_to_one_rank_ends_all(tmp_path):
    (tmp_path / "user.py").write_text(SIGNALS_ITSELF)
    words = ("-problem", tmp_path / "user.py", *TINY, "-out_dir", tmp_path / "run", "-tao_max_it", 5000)
    ended = process(*words, ranks=2)
    assert ended.code == 128 + signal.SIGTERM
    assert ended.out.count("Stopped by SIGTERM") == 1
    assert 5 < summary(tmp_path / "run")["iterations"] < 40


def test_a_reader_who_has_seen_enough_ends_it_without_a_word(tmp_path):
    """As `| head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run(
        arguments_of((*POISSON2D, "-out_dir", tmp_path / "run")),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=PATIENCE_S,
        check=False,
    )
    os.close(writing)
    assert (run.returncode, run.stderr) == (-signal.SIGPIPE, b"")
