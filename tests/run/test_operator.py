"""The command on an operator: branch and trunk as blocks, the run folder, what does not go with functions."""

import meshio
import numpy as np
import pytest
import torch
from run.commands import column, command, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model
from pescitrain.problems.advection_operator import AdvectionOperator

SMALL = "-problem advection_operator -problem_family grf -problem_samples 20 -problem_tests 5 -net_width 6 -net_depth 1"
SCHWARZ = (
    "-tao_type spqn -tao_spqn_preset aspqn -part_type network -part_blocks 2 -sub_tao_max_it 4 -tao_max_it 3 "
    "-net_basis 4"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("operator") / "run"
    return folder, command(*SMALL.split(), *SCHWARZ.split(), "-out_dir", folder)


def test_schwarz_trains_branch_and_trunk_as_blocks(trained):
    folder, ended = trained
    assert ended.code == 0, ended.err
    found = summary(folder)
    assert found["parameters"] == (40 * 6 + 6 + 6 * 4 + 4) + (2 * 6 + 6 + 6 * 4 + 4)
    assert "in 2 blocks" in ended.out
    assert found["residuals"] == 20 * 1600
    assert column(folder, "objective")[-1] < 0.9 * column(folder, "objective")[0]


def test_without_a_word_there_is_no_preconditioner(tmp_path):
    assert command(*SMALL.split(), "-tao_max_it", 2, "-out_pictures", "false", "-out_dir", tmp_path / "run").code == 0
    assert (summary(tmp_path / "run")["solver"], summary(tmp_path / "run")["pc"]) == ("tao:blmvm", "none")


def test_the_model_maps_functions_and_locations_of_any_number(trained):
    folder, _ = trained
    data = AdvectionOperator("grf", samples=20, tests=5).validation()
    with torch.no_grad():
        u = load_model(folder)(torch.from_numpy(data.inputs), torch.from_numpy(data.locations)).numpy()
        one = load_model(folder)(torch.from_numpy(data.inputs[:1]), torch.from_numpy(data.locations[:7])).numpy()
    np.testing.assert_allclose(one, u[:1, :7], rtol=0.0, atol=1e-14)
    relative = np.linalg.norm(u - data.values, axis=1) / np.linalg.norm(data.values, axis=1)
    assert summary(folder)["rel_l2"] == pytest.approx(relative.mean(), rel=1e-12)


def test_the_solution_shows_functions_that_were_not_trained_on(trained):
    folder, _ = trained
    grid = meshio.read(folder / "solution.vtu")
    data = AdvectionOperator("grf", samples=20, tests=5).validation()
    assert {"u_0", "u_1", "u_2", "u_0_reference", "u_2_error"} <= set(grid.point_data)
    np.testing.assert_array_equal(grid.point_data["u_1_reference"], data.values[1])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-bc_enforce hard", "-bc_enforce hard: problem AdvectionOperator has no factor(); use -bc_enforce soft"),
        (
            "-stages main,polish -polish_net_correction -tao_max_it 1",
            "-polish_net_correction: problem AdvectionOperator learns an operator and takes none",
        ),
        ("-mesh plate.msh", "-mesh plate.msh: problem AdvectionOperator lives in a box and takes no mesh"),
        *(
            (words, f"{words}: problem AdvectionOperator has data at given points and no equation")
            for words in ("-sample_adapt rad", "-loss_sample_weights causal")
        ),
    ],
)
def test_what_does_not_go_with_an_operator_is_refused(tmp_path, words, sentence):
    ended = command(*SMALL.split(), *words.split(), "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert sentence in ended.complaint
