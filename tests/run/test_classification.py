"""Classification from the command line: classes are learnt, errors are shares, batches go on after a restart."""

import json

import numpy as np
import pytest
import torch
from run.commands import column, command, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model
from pescitrain.problems.spirals import Spirals

SPIRALS = "-problem spirals -net_depth 9 -problem_samples 120 -out_pictures false -out_model false".split()


def test_a_preconditioned_method_learns_the_arms_of_a_spiral(tmp_path):
    ended = command(
        *SPIRALS, "-tao_max_it", 60, *"-out_pictures true -out_model true".split(), "-out_dir", tmp_path / "run"
    )
    assert ended.code == 0, ended.err
    assert "wrong classes 0.0e+00" in ended.out
    data = Spirals(samples=120).validation()
    logits = load_model(tmp_path / "run")(torch.from_numpy(data.inputs))
    assert (logits.argmax(1).numpy() == data.labels).all()
    assert summary(tmp_path / "run")["rel_l2"] == 0.0
    assert (tmp_path / "run" / "solution.png").is_file()


def test_derivatives_are_checked_without_a_taylor_test_of_rows(tmp_path):
    ended = command(*SPIRALS, "-check_derivatives")
    assert ended.code == 0
    assert "FAILED" not in ended.out
    assert "|grad - J'r| / |grad|" in ended.out
    assert "residual: Taylor" not in ended.out


def test_batches_go_on_after_a_restart_as_if_there_had_been_none(tmp_path):
    words = (*SPIRALS, "-sample_batch", 17, "-tao_type", "adam", "-tao_adam_lr", 0.02, "-ckpt_interval", 5)
    one, again = tmp_path / "one", tmp_path / "again"
    assert command(*words, "-tao_max_it", 20, "-out_model", "true", "-out_dir", one).code == 0
    assert command(*words, "-tao_max_it", 10, "-out_dir", again).code == 0
    ended = command(*words, "-tao_max_it", 20, "-ckpt_restart", again / "checkpoint", "-out_dir", again)
    assert ended.code == 0
    assert np.array_equal(column(again, "objective"), column(one, "objective"))
    data = Spirals(samples=120).training()
    probabilities = load_model(one)(torch.from_numpy(data.inputs)).log_softmax(1).detach().numpy()
    loss = -probabilities[np.arange(120), data.labels].mean()
    assert summary(one)["objective"] == pytest.approx(loss, rel=1e-12)  # of all samples, whatever the last batch was
    share = 1.0 / (120 // 17)
    counts = json.loads((again / "summary.json").read_text())["evaluations"]
    assert counts["gradient"] == pytest.approx(21 * share)


def test_growing_batches_go_on_after_a_restart_as_if_there_had_been_none(tmp_path):
    words = (*SPIRALS, "-sample_batch", 20, "-tao_type", "rmtr", "-hier_type", "depth", "-ckpt_interval", 5)
    one, again = tmp_path / "one", tmp_path / "again"
    assert command(*words, "-tao_max_it", 12, "-out_dir", one).code == 0
    assert command(*words, "-tao_max_it", 5, "-out_dir", again).code == 0
    restart = ("-ckpt_restart", again / "checkpoint")
    assert command(*words, "-tao_max_it", 12, *restart, "-out_dir", again).code == 0
    assert np.array_equal(column(again, "objective"), column(one, "objective"))


def test_a_method_that_needs_one_objective_refuses_batches(tmp_path):
    ended = command(*SPIRALS, "-sample_batch", 10, "-tao_type", "lm", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.complaint.startswith("-tao_type lm needs an objective that stays the same, and -sample_batch changes")
