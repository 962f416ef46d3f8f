"""The command on snapshots: files of every kind, the split, early stopping, what is wrong with a file."""

import json

import numpy as np
import pytest
import torch
from mpi4py import MPI
from run.commands import column, command, history, refused, summary  # pyright: ignore[reportMissingImports]

from pescitrain import load_model
from pescitrain.run import checkpoint
from pescitrain.snapshots.collection import Snapshots

SHORT = "-problem deeponet -net_width 8 -net_depth 1 -tao_max_it 20 -out_pictures false -out_model false".split()
COUNT = 20


def pressure(a, b, x):
    """Far from zero and small in its changes, as a pressure is."""
    return 1e5 + 10.0 * a * np.sin(3.0 * x[:, 0] + b)


@pytest.fixture(scope="module")
def snapshots():
    generator = np.random.default_rng(3)
    result = Snapshots(generator.uniform(0.0, [2.0, 1.0], (30, 2)), ("a", "b"), field="p", comm=MPI.COMM_SELF)
    for a, b in generator.uniform(0.5, 1.5, (COUNT, 2)):
        result.append((a, b), pressure(a, b, result.locations))
    return result


@pytest.fixture(scope="module")
def files(snapshots, tmp_path_factory):
    folder = tmp_path_factory.mktemp("snapshots")
    for name in ("run.npz", "run.h5", "run.petsc"):
        snapshots.write(folder / name)
    (folder / "foreign.bin").write_bytes(
        b"".join(np.array([1211214, 30], ">i4").tobytes() + row.astype(">f8").tobytes() for row in snapshots.values)
    )
    np.savetxt(folder / "p.csv", snapshots.inputs, delimiter=",", header="a,b", comments="")
    np.save(folder / "x.npy", snapshots.locations)
    return folder


@pytest.mark.parametrize("name", ["run.npz", "run.h5", "run.petsc", "foreign.bin"])
def test_every_kind_of_file_gives_the_same_run(files, tmp_path, name):
    more = (
        f"-data_parameters {files / 'p.csv'} -data_coordinates {files / 'x.npy'}".split() if "foreign" in name else ()
    )
    ended = command(*SHORT, "-data_file", files / name, *more, "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    other = command(*SHORT, "-data_file", files / "run.npz", "-out_dir", tmp_path / "other")
    assert other.code == 0, other.err
    np.testing.assert_allclose(
        column(tmp_path / "run", "objective"), column(tmp_path / "other", "objective"), rtol=1e-9
    )
    found = summary(tmp_path / "run")
    assert found["residuals"] == 16 * 30
    assert 0.0 < found["test_rel_l2"] < 1e-4
    assert f"relative error {found['rel_l2']:.1e}, in the test {found['test_rel_l2']:.1e}." in ended.last_line


def test_the_model_has_the_units_of_the_snapshots(files, tmp_path, snapshots):
    words = (*SHORT, "-data_file", files / "run.npz", "-tao_type", "lm", "-seed", 4, "-out_dir", tmp_path / "run")
    assert command(*words, "-out_model", "true").code == 0
    model = load_model(tmp_path / "run")
    x = torch.from_numpy(snapshots.locations)
    _, validation, test = snapshots.split((0.8, 0.1, 0.1), seed=4)
    for part, name in ((validation, "rel_l2"), (test, "test_rel_l2")):
        with torch.no_grad():
            u = model(torch.from_numpy(part.inputs), x).numpy()
        relative = np.linalg.norm(u - part.values, axis=1) / np.linalg.norm(part.values, axis=1)
        assert summary(tmp_path / "run")[name] == pytest.approx(relative.mean(), rel=1e-9)
    assert summary(tmp_path / "run")["rel_l2"] < 3e-6  # measured 1.1e-6
    # It starts at the mean, not at zero, and the objective does not know that the mean is large.
    assert float(history(tmp_path / "run")[0]["rel_l2"]) < 1e-4
    assert 0.1 < column(tmp_path / "run", "objective")[0] < 10.0


def test_the_good_rows_of_a_file_are_used_on_request(files, tmp_path):
    path = tmp_path / "cut.petsc"
    path.write_bytes((files / "run.petsc").read_bytes()[:-1000])
    (tmp_path / "cut.petsc.json").write_text((files / "run.petsc.json").read_text())
    words = (*SHORT, "-data_file", path, "-out_dir", tmp_path / "run")
    assert "it is cut off in Vec 17" in refused(*words)
    ended = command(*words, "-data_recover")
    assert ended.code == 0, ended.err
    assert (
        f"note: {path}: it is cut off in Vec 17: 29 of 30 numbers are there; 15 of 20 snapshots are good" in ended.out
    )
    assert summary(tmp_path / "run")["residuals"] == 12 * 30


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "-problem deeponet learns from snapshots: give a file of them by -data_file"),
        ("-data_file none.npz", "none.npz: there is no such file"),
        ("-data_field p", "-data_field p: it belongs to a -data_file; give one"),
        ("-data_file {} -data_split 0.8,x", "-data_split 0.8,x: give fractions, as 0.8,0.1,0.1"),
        ("-data_file {} -data_split 0.8", "-data_split 0.8: give two or three positive fractions of at most 1 in all"),
        ("-data_file {} -data_split 0.8,0.3", "-data_split 0.8,0.3: give two or three positive fractions"),
        ("-data_file {} -data_field q", "it has no field 'q' (there are p)"),
        ("-data_file {} -problem burgers", "problem Burgers takes none; use -problem deeponet"),
        ("-data_file {} -problem advection_operator", "has samples of its own and takes no -data_file"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(files, tmp_path, words, sentence):
    ended = command(*SHORT, *words.format(files / "run.npz").split(), "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert sentence in ended.complaint


def test_two_parts_are_enough(files, tmp_path):
    words = (*SHORT, "-data_file", files / "run.npz", "-data_split", "0.5,0.5", "-out_dir", tmp_path / "run")
    ended = command(*words)
    assert ended.code == 0, ended.err
    assert summary(tmp_path / "run")["test_rel_l2"] is None
    assert summary(tmp_path / "run")["residuals"] == 10 * 30


@pytest.fixture
def noisy(tmp_path):
    """Few samples that a network soon learns by heart, so that the error of others rises."""
    generator = np.random.default_rng(0)
    x = np.linspace(0.0, 1.0, 12)[:, None]
    result = Snapshots(x, ("a",), comm=MPI.COMM_SELF)
    for a in generator.uniform(0.0, 1.0, 12):
        result.append((a,), 1.0 + a * np.sin(3.0 * x[:, 0]) + 0.3 * generator.standard_normal(12))
    result.write(tmp_path / "noisy.npz")
    return ("-problem", "deeponet", "-data_file", tmp_path / "noisy.npz", "-data_split", "0.5,0.5", "-net_width", 12,
            "-net_depth", 2, "-out_pictures", "false", "-out_error_interval", 2, "-data_patience", 3)  # fmt: skip


METHODS = {
    "blmvm": "-tao_type blmvm -tao_max_it 300",
    "lm": "-tao_type lm -tao_max_it 60",
    "adam": "-tao_type adam -tao_adam_lr 0.02 -tao_max_it 400",
    "bntr": "-tao_type bntr -tao_max_it 60",
    "newtonls": "-snes_type newtonls -snes_max_it 60",
    "spqn": "-tao_type spqn -part_type network -part_blocks 2 -tao_max_it 60",
}


@pytest.mark.parametrize("name", METHODS)
def test_it_stops_early_and_keeps_the_best_parameters(noisy, tmp_path, name):
    ended = command(*noisy, *METHODS[name].split(), "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    found, rows = summary(tmp_path / "run"), history(tmp_path / "run")
    errors = {int(row["iteration"]): float(row["rel_l2"]) for row in rows if row["rel_l2"]}
    best = min(errors, key=lambda k: errors[k])
    assert found["iterations"] == best + 2 * 3
    assert found["rel_l2"] == pytest.approx(errors[best], rel=1e-12)
    assert found["objective"] == float(rows[best]["objective"])
    assert ended.last_line.startswith(
        "Stopped early as asked: the relative error has not fallen in 3 measurements; the parameters of iteration "
        f"{best}, the best, are kept. {best + 6} iterations"
    )


def test_a_budget_that_is_used_ends_with_the_best_parameters_too(noisy, tmp_path):
    ended = command(*noisy, *"-tao_type lm -tao_max_it 20 -data_patience 100".split(), "-out_dir", tmp_path / "run")
    errors = [(float(row["rel_l2"]), int(row["iteration"])) for row in history(tmp_path / "run") if row["rel_l2"]]
    error, best = min(errors)
    assert best < 20
    assert summary(tmp_path / "run")["rel_l2"] == pytest.approx(error, rel=1e-12)
    assert ended.last_line.startswith("Used the budget of 20 iterations as asked")
    assert f"; the parameters of iteration {best}, the best, are kept. 20 iterations" in ended.last_line


@pytest.mark.parametrize("interval", [1, 2, 3, 5])
def test_a_restarted_run_stops_where_the_whole_one_does(noisy, tmp_path, monkeypatch, interval):
    whole = checkpoint.save
    kept = []

    def save_and_keep(folder, state, layout, mark):
        place = tmp_path / f"at-{state.stage}-{state.iteration}"
        whole(place, state, layout, mark)
        whole(folder, state, layout, mark)
        kept.append(place)

    monkeypatch.setattr(checkpoint, "save", save_and_keep)
    stages = "-stages warm,main -warm_tao_type lm -warm_tao_max_it 60 -main_tao_type blmvm -main_tao_max_it 20"
    words = (*noisy, *stages.split(), "-ckpt_interval", interval)
    assert command(*words, "-out_dir", tmp_path / "whole").code == 0
    expected = summary(tmp_path / "whole")
    assert expected["stages"][0]["iterations"] < 60
    for place in dict.fromkeys([kept[0], kept[len(kept) // 2], kept[-2], kept[-1]]):
        assert command(*words, "-out_dir", tmp_path / "again", "-ckpt_restart", place).code == 0
        found = summary(tmp_path / "again")
        assert [row["iteration"] for row in history(tmp_path / "again")] == [
            row["iteration"] for row in history(tmp_path / "whole")
        ]
        assert found["rel_l2"] == pytest.approx(expected["rel_l2"], rel=1e-9)
        assert found["objective"] == pytest.approx(expected["objective"], rel=1e-9)


def test_patience_needs_an_error(tmp_path):
    words = "-problem poisson -mesh lshape.msh -data_patience 3 -net_width 4 -net_depth 1"
    assert "has no error to watch" in command(*words.split(), "-out_dir", tmp_path / "run").complaint


def test_the_solution_is_shown_where_the_snapshots_are(files, tmp_path, snapshots):
    import meshio

    assert command(*SHORT, "-data_file", files / "run.npz", "-out_dir", tmp_path / "run", "-out_pictures").code == 0
    shown = meshio.read(tmp_path / "run/solution.vtu")
    np.testing.assert_allclose(shown.points[:, :2], snapshots.locations, rtol=0.0, atol=1e-12)
    validation = snapshots.split((0.8, 0.1, 0.1), seed=0)[1]
    np.testing.assert_array_equal(shown.point_data["p_0_reference"], validation.values[0])
    assert "triangle" in shown.cells_dict
    assert json.loads((tmp_path / "run/summary.json").read_text())["problem"] == "deeponet"


POD = ("-net_trunk", "pod", "-net_basis", 6)


def test_a_branch_of_modes_is_trained(files, tmp_path, snapshots):
    words = (*SHORT, *POD, "-data_file", files / "run.npz", "-tao_type", "lm", "-out_dir", tmp_path / "run")
    ended = command(*words, "-out_model", "true")
    assert ended.code == 0, ended.err
    found = summary(tmp_path / "run")
    # Six were asked for: a sin(3 x + b) has two functions of x.
    assert found["parameters"] == (2 * 8 + 8) + (8 * 2 + 2)
    assert found["rel_l2"] < 1e-6
    with torch.no_grad():
        inputs, x = torch.from_numpy(snapshots.inputs), torch.from_numpy(snapshots.locations)
        u = load_model(tmp_path / "run")(inputs, x).numpy()
    np.testing.assert_allclose(u, snapshots.values, rtol=1e-5)


OTHERS = [
    "-tao_type bntr -pc_type asm",
    "-snes_type newtonls -pc_type cholesky",
    "-tao_type lm",
    "-tao_type adam",
    "-tao_type spqn -part_type balanced -part_blocks 2",
    "-hier_nested -hier_levels 2 -hier_type width -tao_type lm",
]


@pytest.mark.parametrize("words", OTHERS)
def test_other_solvers_train_it(files, tmp_path, words):
    words = (*SHORT, *POD, *words.split(), "-tao_max_it", 4, "-snes_max_it", 4)
    ended = command(*words, "-data_file", files / "run.npz", "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert column(tmp_path / "run", "objective")[-1] < column(tmp_path / "run", "objective")[0]


def test_derivatives_of_modes_pass(files):
    ended = command(*SHORT, *POD, "-data_file", files / "run.npz", "-check_derivatives")
    assert ended.code == 0, ended.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-problem burgers -net_trunk pod", "-net_trunk pod: problem Burgers learns no operator and has no trunk"),
        ("-problem diffusion_operator -problem_samples 5 -problem_tests 2 -net_trunk pod -bc_enforce hard",
         "-net_trunk pod has the conditions of the data that it is made from; use -bc_enforce soft"),
    ],
)  # fmt: skip
def test_modes_where_they_make_no_sense(tmp_path, words, sentence):
    ended = command(*words.split(), "-out_dir", tmp_path / "run")
    assert (ended.code, sentence in ended.complaint) == (2, True)
