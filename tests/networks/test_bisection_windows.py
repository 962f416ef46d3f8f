"""Windows that follow a mesh: a partition of unity, parts with equally many cells, supports, and their overlap."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toys  # noqa: F401  # pyright: ignore[reportMissingImports]  (loads what torch warns about once in a process)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
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


def whole_jet(windows: BisectionWindows, x: torch.Tensor, components: Components) -> torch.Tensor:
    """The jet (C, S, M) of all windows."""
    numbers, jets = windows.jet(x, components)
    index = numbers.expand(len(components), *numbers.shape)
    return jets.new_zeros(len(components), len(windows), len(x)).scatter_add(1, index, jets)


def squares(columns: int, rows: int) -> Mesh:
    """A regular mesh of rectangles, in which many centroids are as far along as others."""
    x, y = np.meshgrid(np.linspace(0.0, 1.0, columns + 1), np.linspace(0.0, 1.0, rows + 1), indexing="ij")
    number = np.arange((columns + 1) * (rows + 1)).reshape(columns + 1, rows + 1)
    corners = (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:])
    return Mesh(np.stack([x.ravel(), y.ravel()], axis=1), {"quad": np.stack([c.ravel() for c in corners], axis=1)})


def points_in(mesh: Mesh, seed: int = 0, count: int = 3) -> torch.Tensor:
    """Random points, ``count`` in each cell."""
    (rows,) = mesh.cells.values()
    shares = np.random.default_rng(seed).dirichlet(np.full(rows.shape[1], 0.3), (len(rows), count))
    x = np.einsum("cpk,ckd->cpd", shares, mesh.nodes[rows]).reshape(-1, mesh.dimension)
    return torch.from_numpy(x)


@pytest.mark.parametrize("dimension", TYPES)
@settings(max_examples=20, deadline=None)
@given(parts=st.integers(1, 13), overlap=st.floats(0.05, 0.6), seed=st.integers(0, 99))
def test_windows_add_up_to_one_and_end_with_their_support(dimension, parts, overlap, seed):
    mesh = MESHES[dimension]
    windows, x = parts_of(mesh, parts, overlap), points_in(mesh, seed)
    values = windows(x)
    torch.testing.assert_close(values.sum(1), torch.ones(len(x), dtype=torch.float64), rtol=0.0, atol=1e-14)
    assert (values >= 0.0).all()
    inside = ((x.unsqueeze(1) - windows.centers).abs() <= windows.half_widths * (1.0 + 1e-12)).all(2)
    assert (values[~inside] == 0.0).all()
    assert (values.gather(1, windows.owners(x).unsqueeze(1)) > 0.0).all()


@pytest.mark.parametrize("dimension", TYPES)
@pytest.mark.parametrize("parts", range(1, 14))
def test_parts_have_equally_many_cells(dimension, parts):
    mesh = MESHES[dimension]
    windows = parts_of(mesh, parts)
    counts = np.bincount(windows.part_of_cell, minlength=parts)
    assert counts.max() - counts.min() <= 1


def test_parts_of_a_regular_mesh_have_equally_many_cells():
    counts = np.bincount(parts_of(squares(4, 4), 3).part_of_cell)
    assert sorted(counts) == [5, 5, 6]


def test_parts_are_small_where_the_mesh_is_fine():
    mesh, windows = MESHES[2], parts_of(MESHES[2], 16)
    areas = np.bincount(windows.part_of_cell, mesh.cell_measures)
    assert areas.max() > 10.0 * areas.min()
    at_corner = np.bincount(windows.part_of_cell[np.linalg.norm(points_in(mesh, count=1), axis=1) < 0.1])
    assert at_corner[np.argmin(areas)] > 0


def test_a_square_is_cut_along_its_coordinates():
    windows = parts_of(squares(6, 6), 4)
    centers = [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]]
    np.testing.assert_allclose(windows.centers, centers, atol=1e-12)
    np.testing.assert_allclose(windows.half_widths, 0.5)  # 0.25, and half of a width on both sides
    boxes = BoxWindows((0.0, 0.0), (1.0, 1.0), (2, 2), 0.5)
    x = points_in(squares(6, 6))
    torch.testing.assert_close(windows(x), boxes(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_overlap_is_so_many_widths_of_cells(layers):
    windows = parts_of(squares(8, 8), 4, layers=layers)
    np.testing.assert_allclose(windows.half_widths, 0.25 + layers / 8.0)


def test_outside_of_all_supports_windows_are_zero():
    windows, far = parts_of(MESHES[2]), torch.full((1, 2), 9.0, dtype=torch.float64)
    jet = whole_jet(windows, far, COMPONENTS)
    torch.testing.assert_close(jet, torch.zeros_like(jet))


def test_cells_of_several_types():
    mesh = squares(4, 2)
    rows = mesh.cells["quad"]
    triangles = np.concatenate([rows[:4, [0, 1, 2]], rows[:4, [0, 2, 3]]])
    mixed = Mesh(mesh.nodes, {"triangle": triangles, "quad": rows[4:]})
    counts = np.bincount(parts_of(mixed, 4).part_of_cell)
    assert counts.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("parts", [1, 2, 7])
def test_jets_are_the_nested_derivatives(parts):
    windows, x = parts_of(MESHES[2], parts), points_in(MESHES[2])
    mixed = Components.closed([Laplacian((0, 1)), (0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1, 1)])
    for components in (mixed, Components.closed([()])):
        expected = jet_of_function(windows, x, components)
        # Fourth derivatives come to 1e6 and more.
        torch.testing.assert_close(
            whole_jet(windows, x, components), expected, rtol=1e-10, atol=1e-14 * float(expected.abs().max())
        )


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 9), st.floats(0.1, 0.9), st.integers(0, 8), st.integers(0, 1), st.sampled_from([-1.0, 1.0]))
def test_three_derivatives_are_continuous_at_the_ends_of_a_support(parts, overlap, part, axis, side):
    windows = parts_of(MESHES[2], parts, overlap)
    center, half = (values[part % parts].clone() for values in (windows.centers, windows.half_widths))
    x = center + torch.linspace(-0.9, 0.9, 9).double()[:, None] * half
    x[:, axis] = center[axis] + side * half[axis]
    x = x[torch.from_numpy(MESHES[2].locate(x) >= 0)]
    assume(len(x))
    wanted = Components.closed([(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)])
    step = torch.zeros(2, dtype=torch.float64)
    step[axis] = 1e-8 * half[axis]
    before, after = (whole_jet(windows, x + sign * step, wanted)[:, part % parts] for sign in (-1.0, 1.0))
    assert (before - after).abs().max() < 1e-2 / windows.half_widths.min() ** 3


def network(windows, outputs=2):
    return SubdomainNetwork(windows, outputs, 5, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sizes", [(1,), (6,), (1, 5)])
def test_the_taylor_mode_is_that_of_the_whole_sum(sizes):
    levels = [parts_of(MESHES[2], parts) for parts in sizes]
    model, x = network(levels[0] if len(levels) == 1 else Levels(levels)), points_in(MESHES[2])[:50]
    found = model.forward_jet(model.embed_jet(x, COMPONENTS), COMPONENTS, Tape())
    torch.testing.assert_close(found, jet_of_function(model, x, COMPONENTS), rtol=1e-9, atol=1e-9)
    assert model.level_sizes() == list(sizes)
    rows, columns = model.windows.overlapping(model.windows)
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) >= {
        (0, s) for s in range(sum(sizes))
    }  # one covers all
    assert model.windows.owners(x).max() < sizes[-1]


@pytest.mark.parametrize("parts", [1, 7])
def test_the_model_can_be_exported(parts):
    model, x = network(parts_of(MESHES[2], parts)), points_in(MESHES[2])
    rows = torch.export.Dim("rows")
    program = torch.export.export(model, (x[:7],), dynamic_shapes={"x": {0: rows}})
    torch.testing.assert_close(program.module()(x[:31]), model(x[:31]))


def test_windows_are_complete_in_a_state():
    one, other = parts_of(MESHES[2], 7), parts_of(MESHES[2], 7, overlap=0.2)
    other.load_state_dict(one.state_dict())
    x = points_in(MESHES[2])
    torch.testing.assert_close(other(x), one(x), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"overlap": 0.0}, "must be above 0"),
        (
            {"overlap": 9.0},
            "-net_overlap 9: with 7 parts of the mesh that reaches over the whole domain; choose at most",
        ),
        ({"layers": 90}, "-net_overlap_cells 90: with 7 parts of the mesh that reaches over the whole domain; choose"),
        ({"parts": 80}, "the mesh has 79 cells, and a part needs one; choose at most 79"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(OptionError, match=sentence):
        parts_of(MESHES[1], **options)
