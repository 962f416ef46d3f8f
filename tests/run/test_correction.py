"""Stages that train a new network on what those before them have left: -net_correction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from run.commands import TINY, command, history, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STAGES = "-stages main,polish -polish_net_correction -tao_type lm -tao_gatol 0 -tao_grtol 0 -out_error_interval 1"
POISSON2D = ("-problem", "poisson2d", *TINY, *STAGES.split())


def test_a_correction_goes_on_from_where_the_stage_before_ended(tmp_path):
    """The new network is zero at the start; then it takes what the one before has left."""
    ended = command(*POISSON2D, "-main_tao_max_it", 40, "-polish_tao_max_it", 80, "-out_dir", tmp_path)
    assert ended.code == 0, ended.err
    rows = history(tmp_path)
    before, after = ([row for row in rows if row["stage"] == stage] for stage in ("main", "polish"))
    assert float(after[0]["objective"]) == pytest.approx(float(before[-1]["objective"]), rel=1e-9)
    assert float(after[0]["rel_l2"]) == pytest.approx(float(before[-1]["rel_l2"]), rel=1e-9)
    assert float(after[-1]["objective"]) < 0.5 * float(before[-1]["objective"])  # 0.20 where this was written
    assert float(after[-1]["closures"]) > float(before[-1]["closures"])  # one account of what was spent


def test_the_model_that_is_written_holds_all_networks(tmp_path):
    assert command(*POISSON2D, "-out_model", "true", "-tao_max_it", 30, "-out_dir", tmp_path).code == 0
    nodes = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.sin(np.pi * nodes[:, 0]) * torch.sin(np.pi * nodes[:, 1])
    difference = load_model(tmp_path)(nodes)[:, 0] - exact
    # The error in the summary is that of the sum on a grid; points at random see the same within a factor.
    assert float(difference.norm() / exact.norm()) < 3 * summary(tmp_path)["rel_l2"] < 1e-2


def test_hard_conditions_stay_met(tmp_path):
    words = ("-problem", "burgers", *TINY, *STAGES.split(), "-bc_enforce", "hard", "-tao_max_it", 10)
    assert command(*words, "-out_model", "true", "-out_dir", tmp_path).code == 0
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)
    start = load_model(tmp_path)(torch.stack((x, torch.zeros_like(x)), dim=1))[:, 0]
    torch.testing.assert_close(start, -torch.sin(torch.pi * x), rtol=0.0, atol=1e-15)


def test_continuation_leaves_the_network_that_is_corrected(tmp_path):
    """It asks the problem for its ansatz again, which stands below the correction."""
    words = ("-problem", "burgers", *TINY, *STAGES.split(), "-bc_enforce", "hard", "-tao_max_it", 9)
    continuation = "-problem_continuation nu=0.2 -problem_continuation_steps 2 -problem_continuation_interval 3"
    assert command(*words, *continuation.split(), "-out_dir", tmp_path).code == 0
    before, after = ([row for row in history(tmp_path) if row["stage"] == name] for name in ("main", "polish"))
    for column in ("objective", "rel_l2"):
        assert float(after[0][column]) == pytest.approx(float(before[-1][column]), rel=1e-9)


def test_the_gradient_tolerance_follows_the_size_of_a_correction(tmp_path):
    """Its gradients are scale² times those of a network of size one: PETSc's 1e-8 would end it where it starts."""
    stages = "-stages main,polish -polish_net_correction -tao_type lm -main_tao_gatol 0 -main_tao_grtol 0"
    words = ("-problem", "poisson2d", *TINY, *stages.split(), "-main_tao_max_it", 120, "-polish_tao_max_it", 5)
    assert command(*words, "-out_dir", tmp_path).code == 0
    polish = [row for row in history(tmp_path) if row["stage"] == "polish"]
    assert float(polish[0]["gradient_norm"]) < 1e-8
    assert int(polish[-1]["iteration"]) == 5


def test_unknown_coefficients_go_on(tmp_path):
    words = f"-problem {EXAMPLES / 'inverse_conductivity.py'}:Rod -sample_points 300 -net_width 8 -net_depth 2"
    options = *words.split(), "-out_pictures", "false", "-out_model", "false", "-tao_type", "lm", "-tao_max_it", 40
    assert command(*options, "-out_dir", tmp_path / "one").code == 0
    assert command(*options, *STAGES.split(), "-polish_tao_max_it", 1, "-out_dir", tmp_path / "two").code == 0
    one, two = (summary(tmp_path / folder)["unknowns"] for folder in ("one", "two"))
    assert abs(one["k"] - 0.5) > 0.1  # it has moved from its start
    assert two == pytest.approx(one, rel=1e-2)  # the first step of the correction is small


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            "-net_correction",
            "-net_correction: the first stage has no network to correct; give it to a later one, as in "
            "-stages main,polish -polish_net_correction",
        ),
        (
            "-stages a,b -a_net_correction",
            "-a_net_correction: the first stage has no network to correct; give it to a later one, as in "
            "-stages main,polish -polish_net_correction",
        ),
        (
            "-stages a,b -b_net_width 3",
            "-b_net_width: net_width holds for all stages, write -net_width, or give the stage a new network by "
            "-b_net_correction",
        ),
    ],
)
def test_a_correction_needs_something_to_correct(tmp_path, words, complaint):
    ended = command("-problem", "poisson2d", *TINY, *words.split(), "-out_dir", tmp_path)
    assert (ended.code, ended.complaint) == (2, complaint)


def test_a_network_that_a_problem_gives_twice_is_refused(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\n"
        "from pescitrain import Box, Problem, Residual\n"
        "NETWORK = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()\n"
        "class Own(Problem):\n"
        "    coordinates = ('x', 'y')\n"
        "    def domain(self):\n"
        "        return Box(('x', 'y'), (0, 0), (1, 1))\n"
        "    def terms(self):\n"
        "        return [Residual(lambda u, x: u - x)]\n"
        "    def build_network(self, name):\n"
        "        return NETWORK\n"
    )
    words = f"-problem {file}:Own -stages main,polish -polish_net_correction -tao_type lm -tao_max_it 2"
    ended = command(*words.split(), "-sample_points", 50, "-out_pictures", "false", "-out_dir", tmp_path / "run")
    assert ended.complaint == (
        "-polish_net_correction: build_network() of problem Own gives the network that is to be corrected; it must "
        "make a new one at each call"
    )
