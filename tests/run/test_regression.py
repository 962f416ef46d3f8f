"""Regression from the command line: a map is learnt, and the model that is loaded gives it in its own units."""

import numpy as np
import pytest
import torch
from run.commands import column, command, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model
from pescitrain.problems.borehole import Borehole

BOREHOLE = "-problem borehole -net_width 10 -net_depth 2 -problem_samples 300 -tao_max_it 100".split()


def test_the_flow_through_a_borehole_is_learnt(tmp_path):
    ended = command(*BOREHOLE, "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    error = summary(tmp_path / "run")["rel_l2"]
    assert error < 0.02  # a mean in place of the flow is off by 0.5
    data = Borehole(samples=300).validation()
    flow = load_model(tmp_path / "run")(torch.from_numpy(data.inputs)).detach().numpy()
    assert np.linalg.norm(flow - data.values) / np.linalg.norm(data.values) == pytest.approx(error, rel=1e-10)


def test_derivatives_are_those_of_several_quantities():
    ended = command("-problem", "diffusion_absorption", "-problem_samples", 20, "-net_depth", 3, "-check_derivatives")
    assert ended.code == 0
    assert "FAILED" not in ended.out


def test_nested_networks_and_batches_know_the_quantities(tmp_path):
    words = ("-problem", "diffusion_absorption", "-problem_samples", 60, "-problem_tests", 20, "-net_depth", 5)
    nested = "-hier_nested -hier_type depth -tao_type adam -sample_batch 20 -tao_max_it 5 -out_model false".split()
    assert command(*words, *nested, "-out_dir", tmp_path / "run").code == 0
    assert np.isfinite(column(tmp_path / "run", "objective")).all()


def test_there_is_nothing_to_make_hard():
    ended = command(*BOREHOLE, "-bc_enforce", "hard")
    assert ended.code == 2
    assert ended.complaint == "-bc_enforce hard: problem Borehole has no lifting; use -bc_enforce soft"
