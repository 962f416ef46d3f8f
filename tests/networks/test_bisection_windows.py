"""Windows that follow a mesh: a partition of unity, parts with equally many cells, supports, and their overlap."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toys  # noqa: F401  # pyright: ignore[reportMissingImports]  (loads what torch warns about once in a process)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from pescitrain.errors import OptionError
from pescitrain.geometry import Mesh
from pescitrain.networks import Components, Laplacian, SubdomainNetwork, Tape
from pescitrain.networks.bisection_windows import BisectionWindows
from pescitrain.networks.jets import jet_of_function
from pescitrain.networks.windows import BoxWindows, Levels

COMPONENTS = Components.closed([(0,), (1,), (0, 0), (0, 1), (1, 1, 1), Laplacian((0, 1))])
TYPES = {1: "line", 2: "triangle", 3: "tetra"}


def mesh_of(dimension: int) -> Mesh:
    """Of the L-shape in 2-D, with small cells at its corner; of random points in an interval and a cube."""
    if dimension == 2:
        return Mesh.read(str(Path(__file__).parents[2] / "meshes" / "lshape.msh"))
    points = np.random.default_rng(0).uniform(0.0, 1.0, (80, dimension)) ** 2  # finer at the origin
    if dimension == 1:
        order = np.argsort(points[:, 0])
        return Mesh(points, {"line": np.stack([order[:-1], order[1:]], axis=1)})
    return Mesh(points, {"tetra": Delaunay(points).simplices})


MESHES = {dimension: mesh_of(dimension) for dimension in TYPES}


def parts_of(mesh: Mesh, parts: int = 7, overlap: float = 0.5, layers: int | None = None) -> BisectionWindows:
    return BisectionWindows(mesh.nodes, list(mesh.cells.values()), parts, overlap, layers)


def squares(columns: int, rows: int) -> Mesh:
    """A regular mesh of rectangles, in which many centroids are as far along as others."""
    x, y = np.meshgrid(np.linspace(0.0, 1.0, columns + 1), np.linspace(0.0, 1.0, rows + 1), indexing="ij")
    number = np.arange((columns + 1) * (rows + 1)).reshape(columns + 1, rows + 1)
    corners = (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:])
    return Mesh(np.stack([x.ravel(), y.ravel()], axis=1), {"quad": np.stack([c.ravel() for c in corners], axis=1)})


def points_in(mesh: Mesh, seed: int = 0, count: int = 3) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Random points, ``count`` in each cell, and the numbers of the cells."""
    (rows,) = mesh.cells.values()
    shares = np.random.default_rng(seed).dirichlet(np.full(rows.shape[1], 0.3), (len(rows), count))
    x = np.einsum("cpk,ckd->cpd", shares, mesh.nodes[rows]).reshape(-1, mesh.dimension)
    return torch.from_numpy(x), np.repeat(np.arange(len(rows)), count)


@pytest.mark.parametrize("dimension", TYPES)
@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 13), overlap=st.floats(0.05, 0.6), seed=st.integers(0, 99))
def test_windows_add_up_to_one_and_end_with_their_support(dimension, parts, overlap, seed):
    mesh = MESHES[dimension]
    windows, (x, cells) = parts_of(mesh, parts, overlap), points_in(mesh, seed)
    values = windows(x)
    torch.testing.assert_close(values.sum(1), torch.ones(len(x), dtype=torch.float64), rtol=0.0, atol=1e-14)
    assert (values >= 0.0).all()
    inside = ((x.unsqueeze(1) - windows.centers).abs() <= windows.half_widths * (1.0 + 1e-12)).all(2)
    assert (values[~inside] == 0.0).all()
    assert windows.cells is not None
    assert windows.cells[:, cells].T[values.numpy() > 0.0].all()
    met = values.numpy() > 0.0
    assert windows.overlapping(windows)[met.T.astype(int) @ met.astype(int) > 0].all()
    assert (values.gather(1, windows.owners(x).unsqueeze(1)) > 0.0).all()


@pytest.mark.parametrize("dimension", TYPES)
@pytest.mark.parametrize("parts", range(1, 14))
def test_parts_have_equally_many_cells(dimension, parts):
    mesh = MESHES[dimension]
    windows = parts_of(mesh, parts)
    counts = np.bincount(windows.part_of_cell, minlength=parts)
    assert counts.max() - counts.min() <= 1
    (rows,) = mesh.cells.values()
    owners = windows.owners(torch.from_numpy(mesh.nodes[rows].mean(1)))
    np.testing.assert_array_equal(owners, windows.part_of_cell)


def test_parts_of_a_regular_mesh_have_equally_many_cells():
    counts = np.bincount(parts_of(squares(4, 4), 3).part_of_cell)
    assert sorted(counts) == [5, 5, 6]


def test_parts_are_small_where_the_mesh_is_fine():
    mesh, windows = MESHES[2], parts_of(MESHES[2], 16)
    areas = np.bincount(windows.part_of_cell, mesh.cell_measures)
    assert areas.max() > 10.0 * areas.min()
    at_corner = np.bincount(windows.part_of_cell[np.linalg.norm(points_in(mesh, count=1)[0], axis=1) < 0.1])
    assert at_corner[np.argmin(areas)] > 0


def test_a_square_is_cut_along_its_coordinates():
    windows = parts_of(squares(6, 6), 4)
    np.testing.assert_allclose(windows.normals, [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], atol=1e-12)
    np.testing.assert_allclose(windows.positions, 0.5)
    np.testing.assert_allclose(windows.reaches, 0.25)  # half of the width of a part


@pytest.mark.parametrize("layers", [1, 2])
def test_the_overlap_is_so_many_layers_of_cells(layers):
    windows = parts_of(squares(8, 8), 4, layers=layers)
    np.testing.assert_allclose(windows.reaches, layers / 8.0)


def test_cells_of_several_types():
    mesh = squares(4, 2)
    rows = mesh.cells["quad"]
    triangles = np.concatenate([rows[:4, [0, 1, 2]], rows[:4, [0, 2, 3]]])
    mixed = Mesh(mesh.nodes, {"triangle": triangles, "quad": rows[4:]})
    counts = np.bincount(parts_of(mixed, 4).part_of_cell)
    assert counts.tolist() == [3, 3, 3, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.floats(0.1, 0.9), st.integers(0, 7), st.sampled_from([-1.0, 0.0, 1.0]))
def test_three_derivatives_are_continuous_at_the_ends_and_in_the_middle_of_an_overlap(parts, overlap, cut, at):
    windows = parts_of(MESHES[2], parts, overlap)
    cut %= parts - 1
    normal, reach = windows.normals[cut], windows.reaches[cut]
    along = torch.stack([-normal[1], normal[0]])
    x = normal * (windows.positions[cut] + at * reach) + torch.linspace(-1.0, 1.0, 9).double()[:, None] * along
    wanted = Components.closed([(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)])
    before, after = (jet_of_function(windows, x + 1e-9 * side * reach * normal, wanted) for side in (-1.0, 1.0))
    largest = 2e3 / float(windows.reaches.min()) ** 4  # of a fourth derivative
    assert (before - after).abs().max() < 2e-9 * float(reach) * largest


def network(windows, outputs=2):
    return SubdomainNetwork(windows, outputs, 5, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [(1,), (6,), (1, 5)])
def test_the_taylor_mode_is_that_of_the_whole_sum(sizes):
    levels = [parts_of(MESHES[2], parts) for parts in sizes]
    model, x = network(levels[0] if len(levels) == 1 else Levels(levels)), points_in(MESHES[2])[0][:50]
    found = model.forward_jet(model.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    torch.testing.assert_close(found, jet_of_function(model, x, COMPONENTS), rtol=1e-9, atol=1e-9)
    assert model.level_sizes() == list(sizes)
    assert model.overlapping(model).shape == (sum(sizes),) * 2
    assert model.windows.owners(x).max() < sizes[-1]


def test_beside_boxes_supports_overlap_where_their_boxes_do():
    mesh = MESHES[2]
    boxes = BoxWindows([-1.0, -1.0], [1.0, 1.0], (3, 3), 0.3)
    parts = parts_of(mesh)
    met = parts.overlapping(boxes)
    np.testing.assert_array_equal(met, boxes.overlapping(parts).T)
    x, _ = points_in(mesh)
    assert met[((parts(x) > 0.0).double().t() @ (boxes(x) > 0.0).double()).numpy() > 0.0].all()


@pytest.mark.parametrize("parts", [1, 7])
def test_the_model_can_be_exported(parts):
    model, x = network(parts_of(MESHES[2], parts)), points_in(MESHES[2])[0]
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, (x[:7],), dynamic_shapes={"x": {0: rows}})
    torch.testing.assert_close(program.module()(x[:31]), model(x[:31]))


def test_windows_are_complete_in_a_state():
    one, other = parts_of(MESHES[2], 7), parts_of(MESHES[2], 7, overlap=0.2)
    other.load_state_dict(one.state_dict())
    x, _ = points_in(MESHES[2])
    torch.testing.assert_close(other(x), one(x), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"overlap": 0.0}, "must be above 0"),
        ({"overlap": 9.0}, "-net_overlap 9: with 7 parts of the mesh that reaches over the whole domain; choose less"),
        ({"layers": 90}, "-net_overlap_cells 90: with 7 parts of the mesh that reaches over the whole domain; choose"),
        ({"parts": 80}, "the mesh has 79 cells, and a part needs one; choose at most 79"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        parts_of(MESHES[1], **options)
