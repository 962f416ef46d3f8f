"""Nested iteration: each network starts where the coarser one ended, and is charged what it is in size."""

import numpy as np
import pytest
from run.commands import TINY, column, command, history, refused, summary  # pyright: ignore[reportMissingImports]

RESNET = ("-problem", "poisson2d", *TINY, "-net_type", "resnet", "-net_depth", 5, "-net_final_time", 4)
LEVELS = ("-hier_nested", "-hier_levels", 3, "-tao_type", "lbfgs", "-tao_max_it", 6)


def of_stage(folder, name, what):
    return np.array([float(row[what]) for row in history(folder) if row["stage"] == name])


@pytest.fixture(scope="module")
def widened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nested") / "run"
    return folder, command(*RESNET, *LEVELS, "-hier_type", "width", "-out_model", "true", "-out_dir", folder)


def test_a_wider_network_starts_as_the_one_before(widened):
    folder, ended = widened
    assert ended.code == 0, ended.err
    for coarse, fine in (("level_0", "level_1"), ("level_1", "level_2")):
        end, begin = of_stage(folder, coarse, "objective")[-1], of_stage(folder, fine, "objective")[0]
        assert begin == pytest.approx(end, rel=1e-10)  # the same function, by other sums
    assert column(folder, "objective")[-1] < 0.5 * column(folder, "objective")[0]
    assert [stage["name"] for stage in summary(folder)["stages"]] == ["level_0", "level_1", "level_2"]


def test_the_neurons_of_a_pair_do_not_stay_alike(widened):
    """Equal shares of the outgoing weights would keep them equal for ever."""
    from pescitrain import load_model

    module = load_model(widened[0])
    weights = next(value for name, value in module.state_dict().items() if name.endswith("opening.weight"))
    assert weights.shape == (8, 2)
    assert (weights[0::2] - weights[1::2]).abs().max() > 1e-4


def test_a_closure_counts_by_the_share_of_the_parameters(widened):
    folder, ended = widened
    sizes = [int(line.split(", ")[-1].split()[0]) for line in ended.out.splitlines() if line.startswith("level ")]
    assert sizes == sorted(sizes)
    assert sizes[-1] == summary(folder)["parameters"]
    closures = column(folder, "closures")
    spent = np.diff(of_stage(folder, "level_0", "closures")) * sizes[-1] / sizes[0]
    np.testing.assert_allclose(spent, np.round(spent), rtol=0.0, atol=1e-3)  # whole ones; the file has six digits
    assert closures[0] == pytest.approx(sizes[0] / sizes[-1], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "depths", "widths"), [("depth", [2, 3, 5], [8, 8, 8]), ("both", [2, 3, 5], [2, 4, 8])]
)
def test_the_levels_are_those_of_the_hierarchy(tmp_path, kind, depths, widths):
    ended = command(*RESNET, *LEVELS, "-hier_type", kind, "-out_dir", tmp_path / "run")
    lines = [line for line in ended.out.splitlines() if line.startswith("level ")]
    expected = [f"level {k}: {d} hidden layers of {w}" for k, (d, w) in enumerate(zip(depths, widths, strict=True))]
    assert [line.partition(", ")[0] for line in lines] == expected
    assert ended.code == 0


def test_a_level_has_options_of_its_own(tmp_path):
    words = (*RESNET, *LEVELS, "-hier_type", "width")
    own = command(*words, "-level_0_tao_max_it", 2, "-level_2_tao_type", "trlsr1", "-out_dir", tmp_path / "own")
    assert own.code == 0, own.err
    stages = summary(tmp_path / "own")["stages"]
    assert [(stage["solver"], stage["iterations"]) for stage in stages] == [
        ("tao:lbfgs", 2),
        ("tao:lbfgs", 6),
        ("tao:trlsr1", 6),
    ]


def test_cycles_of_a_level_go_over_the_networks_that_are_coarser(tmp_path):
    """Full multigrid: the first level has nothing below it, which costs it whole closures of its own size alone."""
    words = (*RESNET, *LEVELS, "-hier_type", "depth", "-tao_type", "rmtr", "-tao_max_it", 3, "-tao_view")
    for most, expected in ((0, [1, 2, 3]), (2, [1, 2, 2])):
        ended = command(*words, "-hier_cycle_levels", most, "-out_dir", tmp_path / f"run{most}")
        assert ended.code == 0, ended.err
        found = [int(line.split()[1]) for line in ended.out.splitlines() if "RMTR:" in line]
        assert found == expected


def test_the_grid_sequence_of_petsc_is_nested_iteration(tmp_path):
    words = (*RESNET, "-hier_type", "width", "-snes_type", "newtontr", "-snes_max_it", 2, "-pc_type", "cholesky")
    assert command(*words, "-snes_grid_sequence", 1, "-out_dir", tmp_path / "petsc").code == 0
    assert command(*words, "-hier_nested", "-hier_levels", 2, "-out_dir", tmp_path / "ours").code == 0
    assert np.array_equal(column(tmp_path / "petsc", "objective"), column(tmp_path / "ours", "objective"))
    assert refused(*words, "-snes_grid_sequence", 1, "-hier_levels", 3) == (
        "-snes_grid_sequence 1 is about 2 networks, -hier_levels about another number"
    )


def test_deepening_may_be_linear_in_time(tmp_path):
    words = (*RESNET, *LEVELS, "-hier_levels", 2)
    for kind in ("constant", "linear"):
        ended = command(*words, "-hier_type", "depth", "-hier_prolongation", kind, "-out_dir", tmp_path / kind)
        assert ended.code == 0, ended.err
    first = {kind: of_stage(tmp_path / kind, "level_1", "objective")[0] for kind in ("constant", "linear")}
    assert first["constant"] != first["linear"]
    ended = command(*words, "-hier_type", "width", "-hier_prolongation", "linear", "-out_dir", tmp_path / "wide")
    assert ended.complaint.startswith("-hier_prolongation linear is along the depth alone")


def test_branch_and_trunk_of_an_operator_keep_their_outputs(tmp_path):
    data = (
        "-problem advection_operator -problem_family grf -problem_samples 20 -problem_tests 5 -net_width 6 -net_depth 2"
    )
    ended = command(*data.split(), *LEVELS, "-hier_type", "width", "-hier_levels", 2, "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    end, begin = (of_stage(tmp_path / "run", f"level_{k}", "objective") for k in (0, 1))
    assert begin[0] == pytest.approx(end[-1], rel=1e-10)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-hier_nested -hier_levels 1", "-hier_nested with -hier_levels 1: nested iteration needs 2 networks or more"),
        (
            "-hier_nested -stages warm,main",
            "-hier_nested makes stages of its own, level_0, level_1, …: leave out -stages",
        ),
    ],
)
def test_a_hierarchy_that_is_none_is_refused(words, sentence):
    assert refused(*RESNET, *words.split()) == sentence


def test_a_network_that_is_small_already_is_refused_with_the_levels_that_there_are(tmp_path):
    words = "-hier_nested -hier_type depth -hier_levels 5".split()
    ended = command(*RESNET, *words, "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.complaint == (
        "-hier_type depth: a network of 2 hidden layers of 8 cannot be coarsened further; lower -hier_levels to 3"
    )


def test_corrections_and_levels_exclude_each_other(tmp_path):
    ended = command(*RESNET, *LEVELS, "-level_1_net_correction", "-out_dir", tmp_path / "run")
    assert ended.complaint == "-level_1_net_correction: with -hier_nested every level has a network already"


def test_networks_of_the_problem_s_own_are_refused(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "from pescitrain.problems.poisson2d import Poisson2D\n"
        "from pescitrain.networks import MLP, ScaleToUnitBox\n\n\n"
        "class Own(Poisson2D):\n"
        "    def build_network(self, name):\n"
        "        return MLP(ScaleToUnitBox((0.0, 0.0), (1.0, 1.0)), 2, 1, 6, 2)\n"
    )
    ended = command("-problem", f"{file}:Own", *TINY, *LEVELS, "-hier_levels", 2, "-out_dir", tmp_path / "run")
    assert ended.complaint == "-hier_nested: problem Own gives networks of its own, of one size"
