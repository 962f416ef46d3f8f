"""What all tests share: PETSc without options, one thread, and collective tests that agree and never hang.

A test is serial unless it is marked. A marked one is *collective*: ``make test`` runs it with the others on one rank,
and again under ``mpiexec`` on 2 and 3, where every rank runs the same tests in the same order, and only rank 0 prints::

    @pytest.mark.parallel              # on 1, 2 and 3 ranks
    def test_the_gradient_is_the_same_for_any_number_of_ranks(comm): ...

    @pytest.mark.parallel(2, 3)        # only on 2 and on 3 ranks
    def test_a_block_moves_to_its_owner(comm): ...

The ranks agree on the outcome of every phase (set-up, call, teardown): what fails on one rank fails on all, with the
traceback of the rank that failed. When the others wait for the failed rank inside MPI, the run ends after
``AGREEMENT_PATIENCE`` seconds; when all of them hang, after ``faulthandler_timeout`` (pyproject.toml).

(PyPI's mpi-pytest was considered: a failing rank leaves the others waiting, and it starts one mpiexec for each test.)
"""

import gc
import os
import re
import sys
import time

# Before numpy and torch load their thread pools.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# A petscrc file or PETSC_OPTIONS of the person who runs the tests must not change them.
for _name in ("PETSC_OPTIONS", "PETSC_OPTIONS_YAML"):
    os.environ.pop(_name, None)

import petsc4py
from mpi4py import MPI

petsc4py.init(["pytest", "-skip_petscrc"])

import pytest
import torch
from hypothesis import settings
from petsc4py import PETSc

torch.set_num_threads(1)

# Ranks that draw different examples would not meet in the same collective call.
_reproducible = MPI.COMM_WORLD.size > 1 or bool(os.environ.get("CI"))
settings.register_profile("pescitrain", deadline=None, derandomize=_reproducible)
settings.load_profile("pescitrain")

AGREEMENT_PATIENCE = 20.0
_agreement = MPI.COMM_WORLD.Dup()  # never mixes with the messages of a test


def _clear_options():
    options = PETSc.Options()
    for key in options.getAll():  # Options.clear() leaves the global database as it is (petsc4py 3.26)
        options.delValue(key)


_clear_options()  # -skip_petscrc has had its effect

# ------------------------------------------------------------------------------------------------------------ fixtures


@pytest.fixture
def comm():
    """All ranks of the run; one when the tests run without mpiexec."""
    return MPI.COMM_WORLD


@pytest.fixture
def tmp_path(request, tmp_path_factory):
    """A new folder for this test; in a collective test the same one on all ranks."""
    name = re.sub(r"\W", "_", request.node.name)[:30]
    if request.node.get_closest_marker("parallel") is None:
        return tmp_path_factory.mktemp(name)
    # Only rank 0 touches the file system: pytest removes old folders, and ranks would remove them under one another.
    return MPI.COMM_WORLD.bcast(tmp_path_factory.mktemp(name) if MPI.COMM_WORLD.rank == 0 else None)


@pytest.fixture(autouse=True)
def clean_petsc():
    """Empty the options database around every test, and free the objects that wait for all ranks."""
    _clear_options()
    yield
    _clear_options()
    if MPI.COMM_WORLD.size > 1:
        gc.collect()  # the collector runs at its own time on each rank; PETSc needs the same one
        gc.freeze()  # what is left stays, such as the modules of torch: the next collection need not look at it
    PETSc.garbage_cleanup()


# --------------------------------------------------------------------------------------- which tests run on which ranks


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if MPI.COMM_WORLD.rank:
        config.pluginmanager.unregister(name="terminalreporter")


def _runs_on(item, size):
    marker = item.get_closest_marker("parallel")
    if marker is None:
        return size == 1
    return not marker.args or size in marker.args


def pytest_collection_modifyitems(config, items):
    selected = [item for item in items if _runs_on(item, MPI.COMM_WORLD.size)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(selected)])
    items[:] = selected


def pytest_collection_finish(session):
    """Every rank must have collected the same tests: one with an import error would leave the others waiting."""
    if _agreement.size == 1:
        return
    collected = _agreement.allgather(([item.nodeid for item in session.items], session.testsfailed))
    if any(other != collected[0] for other in collected):
        counts = (f"rank {rank}: {len(names)} tests, {errors} errors" for rank, (names, errors) in enumerate(collected))
        pytest.exit(f"the ranks collected different tests ({', '.join(counts)})", returncode=2)


# ------------------------------------------------------------------------------------------------------------ agreement


def _wait_for_all(report):
    """Wait for the other ranks; a rank that failed does not wait for ever."""
    everyone, deadline = _agreement.Ibarrier(), time.monotonic() + AGREEMENT_PATIENCE
    pause = 0.0
    while not everyone.Test():
        time.sleep(pause)
        pause = min(pause + 1e-4, 2e-3)
        if report.failed and time.monotonic() > deadline:
            rank = MPI.COMM_WORLD.rank
            print(
                f"\n{report.longreprtext}\n\n{report.nodeid} failed on rank {rank} during {report.when}, "
                f"and the other ranks did not finish within {AGREEMENT_PATIENCE:.0f} s: the run is aborted.",
                file=sys.__stderr__,
                flush=True,
            )
            time.sleep(1.0)  # the launcher forwards what was printed before it kills everyone
            MPI.COMM_WORLD.Abort(1)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if _agreement.size == 1:
        return report
    _wait_for_all(report)
    text = report.longreprtext if report.failed else str(report.longrepr or "")
    reports = _agreement.allgather((report.outcome, text))
    outcomes = [outcome for outcome, _ in reports]
    if "failed" in outcomes:
        failed = [rank for rank, outcome in enumerate(outcomes) if outcome == "failed"]
        if not report.failed:
            report.outcome = "failed"
            report.longrepr = f"failed on rank {failed[0]}:\n\n{reports[failed[0]][1]}"
        report.sections.append(("ranks", f"failed on {failed} of {_agreement.size}"))
    elif len(set(outcomes)) > 1:
        report.outcome = "failed"
        report.longrepr = f"the ranks disagree: {', '.join(f'rank {r} {o}' for r, o in enumerate(outcomes))}"
    return report
