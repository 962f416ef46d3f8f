"""`-net_train output`: hidden layers stay as they are drawn, and a linear problem is one of least squares."""

import pytest
import torch
from run.commands import TINY, command, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model

SIZES = "-net_subdomains 3 -net_width 24 -net_depth 1 -net_overlap 0.3 -sample_points 1500"
QUIET = "-out_pictures false -out_model false"
BOXES = f"-problem poisson2d -problem_m 4 -bc_enforce hard -net_type subdomain -net_train output {SIZES}"
PROBLEM = [*BOXES.split(), *QUIET.split()]
LSQR = "-tao_type lm -tao_lm_space krylov -ksp_type lsqr -tao_lm_damping 1e-16 -net_start random".split()
FILTER = [*LSQR, *"-pc_type filter -part_overlap 1".split()]


def weights(folder):
    """Of the model in a run folder, by name."""
    return {name: value.clone() for name, value in load_model(folder / "model.pt2").state_dict().items()}


@pytest.mark.parametrize("kind", ["subdomain -net_subdomains 2", "mlp", "resnet"])
def test_hidden_layers_stay_bit_for_bit_as_they_are(tmp_path, kind):
    words = ["-problem", "poisson2d", *TINY, *f"-net_type {kind} -net_train output -tao_type lm".split()]
    for iterations in (1, 3):
        ended = command(*words, "-out_model", "true", "-tao_max_it", iterations, "-out_dir", tmp_path / str(iterations))
        assert ended.code == 0, ended.err
    assert summary(tmp_path / "3")["parameters"] == (4 if "subdomain" in kind else 1) * 9
    before, after = (weights(tmp_path / name) for name in ("1", "3"))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    last = {"mlp": "affine.2", "resnet": "output"}.get(kind, "subdomains")
    assert before.keys() == after.keys()
    assert len(moved) == (4 if "subdomain" in kind else 2)
    assert all(last in name for name in moved), moved
    assert summary(tmp_path / "3")["objective"] <= summary(tmp_path / "1")["objective"]


def test_one_iteration_solves_a_linear_problem(tmp_path):
    ended = command(*PROBLEM, *FILTER, "-tao_max_it", 1, "-out_model", "true", "-out_dir", tmp_path)
    assert ended.code == 0, ended.err
    found = summary(tmp_path)
    assert found["parameters"] == 9 * 25
    assert found["evaluations"]["krylov"] < 100
    assert found["rel_l2"] < 1e-2  # 6e-3; what these features can do
    model, x = load_model(tmp_path / "model.pt2"), torch.rand(20, 2, dtype=torch.float64)
    exact = torch.sin(4 * torch.pi * x[:, :1]) * torch.sin(4 * torch.pi * x[:, 1:])
    assert (model(x) - exact).abs().max() < 0.02


def test_a_restart_goes_on_with_the_same_features_and_with_no_others(tmp_path):
    words = [*PROBLEM, *"-tao_type lbfgs -net_start random -ckpt_interval 5".split()]
    assert command(*words, "-tao_max_it", 10, "-out_dir", tmp_path / "whole").code == 0
    assert command(*words, "-tao_max_it", 5, "-out_dir", tmp_path / "half").code == 0
    again = [*words, "-tao_max_it", 10, "-ckpt_restart", tmp_path / "half" / "checkpoint", "-out_dir"]
    ended = command(*again, tmp_path / "rest")
    assert ended.code == 0, ended.err
    whole, rest = (summary(tmp_path / name)["objective"] for name in ("whole", "rest"))
    assert rest == pytest.approx(whole, rel=1e-8)
    other = command(*again, tmp_path / "other", "-seed", 5)
    assert other.code == 2
    assert "belongs to another run" in other.complaint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-problem advection_operator", "an operator is a product of branch and trunk"),
        ("-problem poisson2d -hier_nested", "-hier_nested hands hidden layers on"),
        ("-problem poisson2d -tao_type rmtr", "cannot be coarsened further"),
        ("-problem poisson2d -tao_type lm -tao_lm_space krylov -pc_type two_level", "use spectral"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, words, sentence):
    ended = command(*words.split(), *TINY, *"-net_train output -tao_max_it 1".split(), "-out_dir", tmp_path)
    assert ended.code == 2
    assert sentence in ended.complaint


def test_a_module_of_a_problem_needs_an_output_layer(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "import torch\n"
        "from pescitrain import Box, Problem, Residual\n"
        "class Own(Problem):\n"
        "    coordinates = ('x', 'y')\n"
        "    def domain(self):\n"
        "        return Box(('x', 'y'), (0, 0), (1, 1))\n"
        "    def terms(self):\n"
        "        return [Residual(lambda u, x: u - x)]\n"
        "    def build_network(self, name):\n"
        "        return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()\n"
    )
    ended = command("-problem", f"{file}:Own", *TINY, "-net_train", "output", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert "has no output layer that is known; use all" in ended.complaint
