"""Every option file runs: its names are known, all are used, and the objective falls."""

from pathlib import Path

import pytest
from petsc4py import PETSc
from run.commands import TINY, clear_options, column, command  # pyright: ignore[reportMissingImports]

from pescitrain.run.database import check_names
from pescitrain.run.nested import stage_names, translate_grid_sequence

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
SMALL = {
    "diffusion_operator": ("-problem_samples", 40, "-problem_tests", 10),
    "multiscale2d": ("-net_subdomains", 4),
    "spirals": ("-net_depth", 9, "-problem_samples", 40),
}
"""What makes a problem small beside a tiny network and sample."""


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def config(request):
    """An option file, in the database."""
    PETSc.Options().insertString(f"-options_file {request.param}")
    return request.param


def test_the_names_are_known(config):
    check_names(stage_names(), [])


def test_the_first_lines_say_what_it_is_and_how_to_run_it(config):
    what, how, *_ = config.read_text().splitlines()
    assert what.startswith("# ")
    assert f"python -m pescitrain -options_file configs/{config.name}" in how
    named = "problem" in PETSc.Options().getAll()
    assert named != ("-problem " in how), "the problem belongs to the file, or to the command"


def test_it_runs_uses_all_of_its_options_and_lowers_the_objective(config, tmp_path):
    given = PETSc.Options().getAll()
    translate_grid_sequence()
    stages = stage_names()
    small = SMALL.get(given.get("problem"), ())
    method = "snes" if "snes_type" in given else "tao"
    limits = [f"-{stage}_{method}_max_it" for stage in stages] or [f"-{method}_max_it"]
    budget = [word for limit in limits for word in (limit, 4)]
    local = ("-sub_tao_max_it", 5) if "sub_tao_max_it" in given else ()
    clear_options()
    ended = command("-options_file", config, *TINY, *small, *local, *budget, "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    ours = {"-sample_points", "-sample_boundary_points"} - {f"-{name}" for name in given}  # idle on a mesh
    notes = [line.split() for line in ended.out.splitlines() if line.startswith("note:")]
    assert all(words[1] in ours for words in notes), ended.out
    objective = column(tmp_path / "run", "objective")
    assert len(objective) == 5 * len(limits)
    assert objective[-1] < objective[0]
