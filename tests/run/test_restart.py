"""A run that goes on from a checkpoint is the run that was not stopped."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.commands import (  # pyright: ignore[reportMissingImports]
    PATIENCE_S,
    TINY,
    arguments_of,
    column,
    command,
    environment,
    history,
    refused,
    summary,
)

from pescitrain.run import checkpoint

POISSON2D = ("-problem", "poisson2d", *TINY)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """A function: (stage, iteration) -> the checkpoint as a run that was killed just then leaves it on disk."""
    whole = checkpoint.save

    def place(stage: int, iteration: int) -> Path:
        return tmp_path / f"at-{stage}-{iteration}"

    def save_and_keep(folder, state, layout, mark):
        whole(folder, state, layout, mark)
        shutil.copytree(folder, place(state.stage, state.iteration), dirs_exist_ok=True)

    monkeypatch.setattr(checkpoint, "save", save_and_keep)
    return place


def assert_same(one: Path, other: Path) -> None:
    """The same iterations, closures and, up to round-off, iterates.

    The operations are the same in the same order; but sums over arrays that memory aligns otherwise may round
    otherwise, and a step of a solver magnifies round-off: hence 1e-12 instead of equality.
    """
    rows = [[(row["stage"], row["iteration"], row["closures"]) for row in history(folder)] for folder in (one, other)]
    assert rows[0] == rows[1]
    for name in ("objective", "gradient_norm"):
        np.testing.assert_allclose(column(one, name), column(other, name), rtol=1e-12)


METHODS = {
    "blmvm": "-tao_type blmvm -pc_type asm",
    "blmvm, lag and segments apart": "-tao_type blmvm -pc_type asm -gn_lag 3",
    "blmvm without preconditioner": "-tao_type blmvm -pc_type none",
    "bqnls": "-tao_type bqnls",
    "bntr": "-tao_type bntr",
    "adam": "-tao_type adam",
    "lm": "-tao_type lm",
    "lm, moving points": "-tao_type lm -sample_adapt rad -sample_adapt_interval 3",
    "lm, points that move at a checkpoint": "-tao_type lm -sample_adapt rad -sample_adapt_interval 5",
    "soap": "-tao_type soap -tao_soap_interval 3",
    "ssbroyden": "-tao_type ssbroyden",
    "ssbroyden, moving points": "-tao_type ssbroyden -sample_adapt rad -sample_adapt_interval 3",
    "blmvm, moving points": "-tao_type blmvm -pc_type asm -sample_adapt rad -sample_adapt_interval 3",
    "bntr, moving points": "-tao_type bntr -sample_adapt rad -sample_adapt_interval 4",
    "lm, points that are added": "-tao_type lm -sample_adapt rar -sample_adapt_interval 3 -sample_adapt_add 7",
    "lm, fresh points": "-tao_type lm -sample_adapt fresh -sample_adapt_interval 1",
    "lm, points that are added on a mesh": "-problem poisson -tao_type lm -sample_adapt rar -sample_adapt_interval 3",
    "lm, fresh points on a mesh": "-problem poisson -tao_type lm -sample_adapt fresh -sample_adapt_interval 3",
    "adam, fresh points": "-problem heat1d -tao_type adam -sample_adapt fresh -sample_adapt_interval 3",
    "lm, residual weights": "-tao_type lm -loss_sample_weights residual -sample_adapt_interval 3",
    "lm, residual weights of points that are added": "-tao_type lm -loss_sample_weights residual -sample_adapt rar "
    "-sample_adapt_interval 4",
    "lm, causal weights": "-problem heat1d -tao_type lm -loss_sample_weights causal -sample_adapt_interval 3",
    "blmvm, time windows": "-problem heat1d -tao_type blmvm -pc_type asm -sample_time_windows 3 "
    "-sample_time_window_interval 4",
    "lm, moving points in time windows": "-problem heat1d -tao_type lm -sample_time_windows 4 -sample_adapt rad "
    "-sample_time_window_interval 4 -sample_adapt_interval 3",
    "lm, continuation": "-problem burgers -tao_type lm -problem_continuation nu=0.2 -problem_continuation_steps 4 "
    "-problem_continuation_interval 3 -sample_adapt rad -sample_adapt_interval 4",
    "qn": "-snes_type qn",
    "newtonls": "-snes_type newtonls -ksp_max_it 5",
}


@pytest.mark.parametrize("name", METHODS)
def test_a_restarted_run_makes_the_iterations_of_the_whole_one(tmp_path, kept, name):
    kind = "snes" if "snes" in METHODS[name] else "tao"
    words = (*POISSON2D, *METHODS[name].split(), f"-{kind}_max_it", 13, "-ckpt_interval", 5)
    assert command(*words, "-out_dir", tmp_path / "whole").code == 0
    assert len(history(tmp_path / "whole")) == 14
    assert np.abs(np.diff(column(tmp_path / "whole", "objective"))).min() > 0  # it moves, so the comparison says much
    assert command(*words, "-out_dir", tmp_path / "again", "-ckpt_restart", kept(0, 5)).code == 0
    assert_same(tmp_path / "again", tmp_path / "whole")
    counts = [summary(tmp_path / folder)["evaluations"]["gradient"] for folder in ("again", "whole")]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("at", [(0, 5), (0, 7), (1, 5)])
def test_a_run_in_stages_goes_on_in_its_stage(tmp_path, kept, at):
    stages = "-stages warm,main -warm_tao_type adam -warm_tao_max_it 7 -main_pc_type asm -main_tao_max_it 8"
    words = (*POISSON2D, *stages.split(), "-ckpt_interval", 5)
    command(*words, "-out_dir", tmp_path / "whole")
    assert command(*words, "-out_dir", tmp_path / "again", "-ckpt_restart", kept(*at)).code == 0
    assert_same(tmp_path / "again", tmp_path / "whole")


@pytest.mark.parametrize("at", [(0, 7), (1, 5), (1, 6), (2, 5)])
def test_corrections_go_on_with_the_networks_before_them(tmp_path, kept, at):
    stages = "-stages main,polish,last -polish_net_correction -last_net_correction -last_net_width 5 -tao_type lm"
    budget = "-main_tao_max_it 7 -polish_tao_max_it 6 -last_tao_max_it 8 -sample_adapt rad -sample_adapt_interval 4"
    words = (*POISSON2D, *stages.split(), *budget.split(), "-ckpt_interval", 5)
    assert command(*words, "-out_dir", tmp_path / "whole").code == 0
    assert command(*words, "-out_dir", tmp_path / "again", "-ckpt_restart", kept(*at)).code == 0
    assert_same(tmp_path / "again", tmp_path / "whole")


@pytest.mark.parametrize("at", [(0, 5), (0, 7), (1, 5), (2, 5)])
def test_nested_iteration_goes_on_in_its_level(tmp_path, kept, at):
    levels = "-hier_nested -hier_levels 3 -hier_type width -tao_type lm -tao_max_it 7 -ckpt_interval 5"
    words = (*POISSON2D, *levels.split(), *"-sample_adapt rad -sample_adapt_interval 4".split())
    assert command(*words, "-out_dir", tmp_path / "whole").code == 0
    assert command(*words, "-out_dir", tmp_path / "again", "-ckpt_restart", kept(*at)).code == 0
    assert_same(tmp_path / "again", tmp_path / "whole")


def test_a_correction_of_another_size_or_in_another_stage_is_refused(tmp_path):
    stages = "-stages main,polish -polish_net_correction -tao_type lm -tao_max_it 3"
    words = (*POISSON2D, *stages.split(), "-out_dir", tmp_path)
    assert command(*words).code == 0
    restart = ("-ckpt_restart", tmp_path / "checkpoint")
    other = command(*words, *restart, "-polish_net_width", 5)
    assert other.complaint == "-ckpt_restart: the network of the checkpoint differs from that of its stage here"
    none = command(*POISSON2D, *"-stages main,polish -tao_type lm".split(), *restart, "-out_dir", tmp_path)
    assert none.complaint == "-ckpt_restart: the checkpoint has other stages with -net_correction than this run"


@pytest.mark.parametrize(
    ("before", "after"),
    [("tao_type blmvm", "tao_type lm"), ("tao_type lm", "tao_type blmvm"), ("tao_type adam", "snes_type qn")],
)
def test_another_method_goes_on_from_the_parameters_alone(tmp_path, before, after):
    words = (*POISSON2D, *"-tao_max_it 8 -snes_max_it 8 -ckpt_interval 5".split())
    assert command(*words, *f"-{before} -tao_max_it 5".split(), "-out_dir", tmp_path / "one").code == 0
    ended = command(*words, *f"-{after} -ckpt_restart {tmp_path}/one/checkpoint -out_dir {tmp_path}/other".split())
    assert ended.code == 0
    method = "tao:" + before.split()[1]
    assert f"note: the checkpoint is of {method}, of whose memory" in ended.out
    rows = [history(tmp_path / folder) for folder in ("one", "other")]
    assert [int(row["iteration"]) for row in rows[1]] == list(range(9))
    assert rows[1][:6] == rows[0]
    assert float(rows[1][8]["objective"]) < float(rows[0][5]["objective"])


def test_a_longer_budget_goes_on_from_the_end(tmp_path):
    words = (*POISSON2D, "-ckpt_interval", 5)
    command(*words, "-tao_max_it", 15, "-out_dir", tmp_path / "whole")
    command(*words, "-tao_max_it", 10, "-out_dir", tmp_path / "run")
    ended = command(
        *words, "-tao_max_it", 15, "-out_dir", tmp_path / "run", "-ckpt_restart", tmp_path / "run/checkpoint"
    )
    assert ended.last_line.startswith("Used the budget of 15 iterations as asked")
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_was_killed_goes_on(tmp_path):
    stages = "-stages warm,main -warm_tao_type adam -warm_tao_max_it 12 -main_pc_type asm -ckpt_interval 10"
    words, folder = (*POISSON2D, *stages.split()), tmp_path / "killed"
    killed = subprocess.Popen(
        arguments_of((*words, "-main_tao_max_it", 100000, "-main_tao_gatol", 0, "-out_dir", folder)),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while _progress(folder) <= 10:
            assert killed.poll() is None, "it ended too early"
            assert time.monotonic() < deadline, "it made no progress"
            time.sleep(0.005)
    finally:
        killed.kill()  # the signal that no program can catch
        killed.wait()
    assert killed.returncode == -9
    reached = json.loads((folder / "checkpoint/state.json").read_text())["iteration"]
    end = ("-main_tao_gatol", 0, "-main_tao_max_it", reached + 5)
    assert command(*words, *end, "-out_dir", folder, "-ckpt_restart", folder / "checkpoint").code == 0
    assert command(*words, *end, "-out_dir", tmp_path / "whole").code == 0
    assert_same(folder, tmp_path / "whole")


def _progress(folder: Path) -> int:
    """The last iteration of the second stage that is on disk, once a checkpoint of that stage is."""
    try:
        state = json.loads((folder / "checkpoint/state.json").read_text())
        rows = (folder / "history.csv").read_text().splitlines()
    except (OSError, ValueError):  # not there yet, or while it is renamed
        return 0
    return int(rows[-1].split(",")[1]) if state["stage"] == 1 and state["iteration"] >= 10 else 0


# ----------------------------------------------------------------------------------------------- what is no checkpoint


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restart") / "run"
    command(*POISSON2D, "-tao_max_it", 3, "-out_dir", folder)
    return folder / "checkpoint"


def test_a_used_budget_says_which_option_goes_on(finished, tmp_path):
    ended = command(*POISSON2D, "-tao_max_it", 3, "-ckpt_restart", finished, "-out_dir", tmp_path)
    assert ended.code == 0
    assert ended.last_line == "The checkpoint had used its 3 iterations: raise -tao_max_it to go on."
    assert len(history(tmp_path)) == 4


@pytest.mark.parametrize(
    "words",
    [
        "-net_width 9",
        "-net_depth 3",
        "-net_activation sin",
        "-net_type resnet",
        "-sample_points 201",
        "-seed 1 -sample_type uniform",
        "-bc_enforce hard",
    ],
)
def test_a_checkpoint_of_another_run_is_refused(finished, tmp_path, words):
    sentence = refused(*POISSON2D, *words.split(), "-ckpt_restart", finished, "-out_dir", tmp_path / "run")
    assert sentence == (
        f"-ckpt_restart: the checkpoint {finished} belongs to another run: its network, terms or points differ from "
        "these"
    )
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_checkpoint_is_refused(finished):
    for folder in (finished.parent, finished / "nothing"):
        sentence = refused(*POISSON2D, "-ckpt_restart", folder)
        assert sentence == (f"-ckpt_restart: there is no checkpoint in {folder}: give the folder `checkpoint` of a run")


def _without(key: str):
    def change(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        del state[key]
        (folder / "state.json").write_text(json.dumps(state))

    return change


BROKEN = {
    "header cut": lambda folder: (folder / "state.json").write_text('{"format": 1, "fing'),
    "header of another kind": lambda folder: (folder / "state.json").write_text("[]"),
    "header without vectors": _without("vectors"),
    "header without iteration": _without("iteration"),
    "vectors cut": lambda folder: (folder / "vectors.petsc").write_bytes(b"0" * 100),
    "vectors missing": lambda folder: (folder / "vectors.petsc").unlink(),
    "vectors overwritten": lambda folder: (folder / "vectors.petsc").write_bytes(
        b"0" * (folder / "vectors.petsc").stat().st_size
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_checkpoint_is_refused(finished, tmp_path, name):
    shutil.copytree(finished, tmp_path / "checkpoint")
    BROKEN[name](tmp_path / "checkpoint")
    sentence = refused(*POISSON2D, "-ckpt_restart", tmp_path / "checkpoint", "-out_dir", tmp_path / "run")
    assert sentence.startswith("-ckpt_restart: ")
    assert str(tmp_path / "checkpoint") in sentence
    assert "broken" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("left", [".new", ".old"])
def test_what_a_run_that_died_while_it_renamed_has_left_is_found(finished, tmp_path, left):
    shutil.copytree(finished, tmp_path / f"checkpoint{left}")
    words = (*POISSON2D, "-tao_max_it", 3, "-ckpt_restart", tmp_path / "checkpoint", "-out_dir", tmp_path / "run")
    assert command(*words).code == 0


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 2**31))
def test_the_checksum_of_points_is_the_sum_of_those_of_the_shares_and_tells_points_apart(count, cut, seed):
    rows = np.random.default_rng(seed).standard_normal((count + 2, 3))
    cut %= len(rows)
    whole = int(checkpoint.checksum(rows, 0))
    assert (int(checkpoint.checksum(rows[:cut], 0)) + int(checkpoint.checksum(rows[cut:], cut))) % 2**64 == whole
    changed = rows.copy()
    changed[cut, 1] = np.nextafter(changed[cut, 1], np.inf)
    for other in (rows[::-1], changed, rows[:-1]):
        assert int(checkpoint.checksum(other, 0)) != whole
