"""What a run leaves: all files, and numbers in them that agree with each other and with the solution."""

from pathlib import Path

import meshio
import numpy as np
import pytest
import torch
from run.commands import TINY, column, command, history, summary  # pyright: ignore[reportMissingImports]

import pescitrain
from pescitrain.geometry import Box

MESH = Path(__file__).parents[2] / "meshes" / "plate_with_hole.msh"
PNG = b"\x89PNG\r\n\x1a\n"
FILES = {
    "summary.json",
    "history.csv",
    "options.yaml",
    "checkpoint",
    "model.pt2",
    "solution.vtu",
    "convergence.png",
    "solution.png",
}
KEYS = {
    *("problem", "solver", "pc", "ranks", "threads", "parameters", "residuals", "seed", "stages", "converged_reason"),
    *("iterations", "objective", "rel_l2", "wall_s", "setup_s", "evaluations", "peak_rss_mb", "versions"),
}


WHOLE = (*TINY, "-out_pictures", "true", "-out_model", "true")


@pytest.fixture(scope="module")
def square(tmp_path_factory):
    """A run in a box, good to a few per cent."""
    folder = tmp_path_factory.mktemp("folder") / "run"
    ended = command("-problem", "poisson2d", *WHOLE, "-tao_max_it", 45, "-out_dir", folder)
    assert ended.code == 0
    return folder


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """A run on the default mesh."""
    folder = tmp_path_factory.mktemp("folder") / "plate"
    assert command(*WHOLE, "-tao_max_it", 12, "-out_dir", folder).code == 0
    return folder


def exact(x):
    return np.prod(np.sin(np.pi * x), axis=1)


def grid(ticks):
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 2)


def minus_laplacian(model, x):
    """By torch's own derivatives of the model."""
    x = torch.from_numpy(x).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    second = [torch.autograd.grad(gradient[:, k].sum(), x, retain_graph=True)[0][:, k] for k in range(2)]
    return -torch.stack(second).sum(0).numpy()


def test_all_files_are_there_and_nothing_else(square, plate):
    for folder in (square, plate):
        assert {path.name for path in folder.iterdir()} == FILES


def test_the_summary_agrees_with_the_history(square):
    found, rows = summary(square), history(square)
    assert set(found) >= KEYS
    assert (found["problem"], found["solver"], found["pc"], found["seed"]) == ("poisson2d", "tao:blmvm", "asm", 0)
    assert (found["ranks"], found["threads"], found["residuals"]) == (1, 1, 240)
    assert found["parameters"] == (2 * 8 + 8) + (8 * 8 + 8) + (8 + 1)
    assert found["converged_reason"] == "DIVERGED_MAXITS"
    assert found["iterations"] == int(rows[-1]["iteration"]) == 45
    assert found["objective"] == float(rows[-1]["objective"])
    assert found["closures"] == float(rows[-1]["closures"]) == found["evaluations"]["gradient"]
    counts = {"objective", "gradient", "linearization", "jvp", "vjp", "krylov", "overlapped"}
    assert set(found["evaluations"]) == counts
    assert found["closures_depth"] == found["closures"]  # nothing was done side by side
    assert found["evaluations"]["linearization"] == 5  # at the start and every ten iterations
    assert found["failure"] is None
    assert found["wall_s"] >= float(rows[-1]["wall_s"])
    assert found["peak_rss_mb"] > 10
    assert set(found["versions"]) >= {"petsc", "mpi", "python", "torch", "numpy", "petsc4py", "mpi4py"}


def test_the_history_has_a_line_for_each_iteration_and_a_column_for_each_term(square):
    rows = history(square)
    columns = "stage iteration wall_s closures objective gradient_norm rel_l2 residual_interior dirichlet_boundary"
    assert list(rows[0]) == columns.split()
    assert [int(row["iteration"]) for row in rows] == list(range(46))
    assert {row["stage"] for row in rows} == {"main"}
    objective = column(square, "objective")
    terms = column(square, "residual_interior") + column(square, "dirichlet_boundary")
    np.testing.assert_allclose(objective, terms, rtol=1e-14)  # a sum of two numbers, rounded once
    assert (np.diff(objective) < 0).all()  # blmvm's line search descends
    for name in ("wall_s", "closures"):
        assert (np.diff(column(square, name)) >= 0).all()
    measured = [int(row["iteration"]) for row in rows if row["rel_l2"]]
    assert measured == [0, 10, 20, 30, 40]  # -out_error_interval 10


def test_the_error_is_that_of_the_model_on_any_fine_grid(square):
    x = grid((np.arange(150) + 0.5) / 150)
    with torch.no_grad():
        u = pescitrain.load_model(square / "model.pt2")(torch.from_numpy(x)).numpy()[:, 0]
    error = np.linalg.norm(u - exact(x)) / np.linalg.norm(exact(x))
    # The trapezoidal rule on 101 points and the midpoint rule on 150, for errors with waves of length 0.1 and longer.
    assert summary(square)["rel_l2"] == pytest.approx(error, rel=5e-3)
    # The largest error lies on the boundary, half a cell away from the midpoints.
    assert summary(square)["max_error"] == pytest.approx(np.abs(u - exact(x)).max(), rel=5e-2)
    assert 1e-4 < error < 0.1


def test_the_objective_is_that_of_the_model_on_points_of_its_own(square):
    """½ mean (Δu + f)² + ½ 100 mean u² on the boundary, by torch's own derivatives, on many more points."""
    model = pescitrain.load_model(square)
    x = grid((np.arange(50) + 0.5) / 50)
    interior = 0.5 * np.mean((minus_laplacian(model, x) - 2 * np.pi**2 * exact(x)) ** 2)
    along = (np.arange(200) + 0.5) / 200
    sides = [np.stack([along, np.full(200, c)], 1) for c in (0.0, 1.0)]
    boundary = torch.from_numpy(np.concatenate([*sides, *(side[:, ::-1] for side in sides)]).copy())
    wall = 50 * float(model(boundary).square().mean().detach())
    terms = summary(square)["terms"]
    # 200 Hammersley points: the discrepancy is about log(200) / 200, a few per cent of a residual that varies.
    assert terms["residual_interior"] == pytest.approx(interior, rel=0.2)
    assert terms["dirichlet_boundary"] == pytest.approx(wall, rel=0.2)


def test_the_solution_file_has_prediction_reference_error_and_residual(square):
    mesh = meshio.read(square / "solution.vtu")
    assert set(mesh.point_data) == {"u", "u_reference", "u_error"}
    assert set(mesh.cell_data) == {"residual_interior"}
    assert mesh.points.shape == (101 * 101, 3)
    assert [(block.type, len(block.data)) for block in mesh.cells] == [("quad", 100 * 100)]
    x = mesh.points[:, :2]
    np.testing.assert_allclose(mesh.point_data["u_reference"], exact(x), atol=1e-15)
    difference = mesh.point_data["u"] - mesh.point_data["u_reference"]
    np.testing.assert_allclose(mesh.point_data["u_error"], difference, atol=1e-15)
    weights = np.sqrt(Box(("x", "y"), (0.0, 0.0), (1.0, 1.0)).grid_weights((101, 101)))
    error = np.linalg.norm(weights * difference) / np.linalg.norm(weights * mesh.point_data["u_reference"])
    assert summary(square)["rel_l2"] == pytest.approx(error, rel=1e-12)  # the same points, summed in another order


def test_the_residual_in_the_solution_file_is_that_of_the_model(square):
    mesh = meshio.read(square / "solution.vtu")
    centres = mesh.points[mesh.cells[0].data].mean(axis=1)[::97, :2]
    model = pescitrain.load_model(square)
    expected = minus_laplacian(model, centres.copy()) - 2 * np.pi**2 * exact(centres)
    found = mesh.cell_data["residual_interior"][0][::97]
    np.testing.assert_allclose(found, expected, atol=1e-10)  # second derivatives of size 20, two ways to compute them


def test_on_a_mesh_the_solution_lives_on_the_input_mesh(plate):
    found = meshio.read(plate / "solution.vtu")
    given = meshio.read(MESH)
    (triangles,) = (block.data[:, :3] for block in given.cells if block.type == "triangle6")
    assert set(found.point_data) == {"u", "u_reference", "u_error"}
    assert [(block.type, len(block.data)) for block in found.cells] == [("triangle", len(triangles))]
    corners = found.points[found.cells[0].data], given.points[triangles]
    np.testing.assert_allclose(corners[0].mean(1), corners[1].mean(1), atol=1e-14)


def cross(a, b):
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def test_on_a_mesh_the_error_is_weighted_by_the_area_around_each_node(plate):
    mesh = meshio.read(plate / "solution.vtu")
    (nodes,) = (block.data for block in meshio.read(MESH).cells if block.type == "triangle6")
    a, b, c, *middles = (meshio.read(MESH).points[nodes[:, k], :2] for k in range(6))
    areas = 0.5 * cross(b - a, c - a)
    for first, second, middle in zip((a, b, c), (b, c, a), middles, strict=True):
        # Between a parabola and its chord: two thirds of the length of this times the height of that.
        areas += 2 / 3 * cross(middle - (first + second) / 2, second - first)
    triangles, x = mesh.cells[0].data, mesh.points
    weights = np.bincount(triangles.ravel(), np.repeat(areas / 3, 3), len(x))
    squares = [float(weights @ mesh.point_data[name] ** 2) for name in ("u_error", "u_reference")]
    assert summary(plate)["rel_l2"] == pytest.approx(np.sqrt(squares[0] / squares[1]), rel=1e-12)  # other order of sums


@pytest.mark.parametrize("name", ["convergence.png", "solution.png"])
def test_pictures_are_pictures(square, plate, name):
    for folder in (square, plate):
        content = (folder / name).read_bytes()
        assert content.startswith(PNG)
        width, height = (int.from_bytes(content[k : k + 4], "big") for k in (16, 20))
        assert min(width, height) > 300
        assert len(content) > 10000  # an empty picture of this size takes a tenth of it


def test_pictures_can_be_left_out(tmp_path):
    command("-problem", "poisson2d", *WHOLE, "-out_pictures", "false", "-tao_max_it", 1, "-out_dir", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"convergence.png", "solution.png"}


def test_without_out_dir_the_folder_is_named_by_problem_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("-problem", "poisson2d", *TINY, "-tao_max_it", 1).code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("poisson2d-20")
    assert (folder / "summary.json").is_file()


@pytest.mark.parametrize("problem", ["burgers", "poisson5d", "heat1d"])
def test_other_dimensions(tmp_path, problem):
    """Two dimensions of which one is time, five of which a plane is shown, and one-dimensional space with time."""
    words = ("-problem", problem, *WHOLE, "-tao_max_it", 1, "-out_dir", tmp_path)
    ended = command(*words)
    assert (ended.code, ended.err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == FILES
    mesh = meshio.read(tmp_path / "solution.vtu")
    assert all(np.isfinite(values).all() for values in mesh.point_data.values())


def test_without_a_model_its_weights_are_there(tmp_path):
    words = ("-problem", "poisson2d", *TINY, "-tao_max_it", 3)
    for wanted in ("true", "false"):
        assert command(*words, "-out_model", wanted, "-out_dir", tmp_path / wanted).code == 0
    assert (tmp_path / "true" / "model.pt2").is_file()
    assert not (tmp_path / "false" / "model.pt2").exists()
    expected = pescitrain.load_model(tmp_path / "true").state_dict()
    weights = torch.load(tmp_path / "false" / "weights.pt", weights_only=True)
    assert any(name.endswith("weight") for name in expected)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name.removeprefix("module.")], value, rtol=0.0, atol=0.0)
