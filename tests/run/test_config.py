"""Options from files and from the environment, and runs that repeat."""

import numpy as np
import pytest
from run.commands import TINY, column, command, history, process, summary  # pyright: ignore[reportMissingImports]

SHORT = ("-problem", "poisson2d", *TINY, "-tao_max_it", 6)


def trajectory(folder):
    """Objectives and gradient norms as they are written, digit for digit."""
    return [(row["stage"], row["objective"], row["gradient_norm"]) for row in history(folder)]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run with an option of each kind that differs from its default."""
    folder = tmp_path_factory.mktemp("config") / "first"
    words = "-net_adaptive_slope -seed 3 -stages warm,main -warm_tao_type adam -tao_adam_lr 5e-3 -main_max_time 1e3"
    ended = command(*SHORT, *words.split(), "-out_dir", folder)
    assert ended.code == 0
    return folder


def test_a_run_from_its_own_options_file_repeats_it_digit_for_digit(first, tmp_path):
    ended = command("-options_file", first / "options.yaml", "-out_dir", tmp_path / "run")
    assert ended.code == 0
    assert len(trajectory(first)) == 14
    assert trajectory(tmp_path / "run") == trajectory(first)
    assert (tmp_path / "run" / "options.yaml").read_text() == (first / "options.yaml").read_text()


def test_the_options_file_has_what_was_given_and_the_defaults_but_not_what_belongs_to_one_run(first):
    lines = dict(line.split(": ", 1) for line in (first / "options.yaml").read_text().splitlines() if ": " in line)
    given = {
        "net_width": "8",
        "net_adaptive_slope": "true",
        "seed": "3",
        "stages": "warm,main",
        "warm_tao_type": "adam",
        "tao_adam_lr": "5e-3",
        "main_max_time": "1e3",
        "tao_max_it": "6",
        "out_pictures": "false",
        "net_activation": "tanh",
    }
    assert lines.items() >= given.items()
    assert not {"out_dir", "options_file", "ckpt_restart", "help"} & set(lines)


def test_another_seed_is_another_run_and_the_same_seed_the_same(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        command(*SHORT, "-seed", seed, "-out_dir", tmp_path / name)
    assert trajectory(tmp_path / "a") == trajectory(tmp_path / "b")
    assert np.abs(column(tmp_path / "a", "objective") / column(tmp_path / "c", "objective") - 1).min() > 1e-6
    assert summary(tmp_path / "c")["seed"] == 2


def test_flags_come_before_the_file_and_the_file_before_the_environment(tmp_path):
    file, folder = tmp_path / "options.yaml", tmp_path / "run"
    file.write_text("problem: poisson2d\nnet_width: 8\nnet_depth: 2\nsample_points: 200\ntao_max_it: 7\n")
    ended = process(
        *("-options_file", file, "-tao_max_it", 3, "-out_pictures", "false", "-out_dir", folder),
        env={"PETSC_OPTIONS": "-net_depth 1 -seed 5 -tao_max_it 9"},
    )
    assert ended.code == 0
    assert (folder / "options.yaml").read_text().count("net_depth: 2\n") == 1
    assert summary(folder)["seed"] == 5
    assert summary(folder)["iterations"] == 3


def test_defaults_of_a_problem_give_way_to_the_user(tmp_path):
    """Helmholtz declares hard conditions and a number of iterations."""
    tiny = ("-problem", "helmholtz", *TINY, "-max_time", 1e-9)
    command(*tiny, "-out_dir", tmp_path / "own")
    command(*tiny, "-bc_enforce", "soft", "-out_dir", tmp_path / "given")
    assert summary(tmp_path / "own")["bc_enforce"] == "hard"
    assert summary(tmp_path / "given")["bc_enforce"] == "soft"
    assert "dirichlet_boundary" in summary(tmp_path / "given")["terms"]
    assert "dirichlet_boundary" not in summary(tmp_path / "own")["terms"]
