"""Measures, integrals, names and orientation on meshes of every type of cell."""

import numpy as np
import pytest
from geometry.shapes import AXES, KINDS, SIMPLE_KINDS, unit_grid, unit_mesh  # pyright: ignore[reportMissingImports]
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from pescitrain.errors import MeshError, ProblemError
from pescitrain.geometry import CELL_TYPES, Mesh, Sampling
from pescitrain.geometry.topology import reversed_rows, same_side

SAMPLED = ("uniform", "sobol", "hammersley", "halton", "latin")
by_kind = pytest.mark.parametrize("kind", KINDS)


def quadratic_field(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A vector field with all terms up to degree two, and its divergence."""
    dimension = x.shape[1]
    matrix = np.arange(1.0, dimension**2 + 1).reshape(dimension, dimension) / 3
    field = 1.0 + x @ matrix + x * x[:, [-1]] + np.roll(x, 1, axis=1) ** 2 * (dimension > 1)
    return field, np.trace(matrix) + (dimension + 1) * x[:, -1]


@pytest.mark.parametrize("distortion", [0.0, 0.1])
@by_kind
def test_the_divergence_theorem_holds_on_every_type_of_cell(kind, distortion):
    mesh = unit_mesh(kind, distortion=distortion)
    # Order 6: exact for a quadratic field times the Jacobian of a trilinear map, so that only round-off is left.
    surface = mesh.boundary("boundary", Sampling(order=6))
    inside = mesh.interior(None, Sampling(order=6))
    assert surface.normals is not None
    flux = (quadratic_field(surface.x)[0] * surface.normals).sum(axis=1) @ surface.weights
    source = quadratic_field(inside.x)[1] @ inside.weights
    assert abs(source) > 1.0
    assert flux == pytest.approx(source, rel=1e-12)


@by_kind
def test_every_cell_keeps_the_divergence_theorem_by_itself(kind):
    """Facets on both sides of the interface of two halves: the flux that leaves one enters the other."""
    mesh = unit_mesh(kind)
    middle = mesh.interface("middle", Sampling(order=4))
    east = mesh.interior("east", Sampling(order=4))
    assert middle.normals is not None
    outer = mesh.boundary("boundary", Sampling(order=4))
    assert outer.normals is not None and outer.cells is not None
    of_east = np.isin(outer.cells, mesh.region_cells("east"))
    flux = (quadratic_field(outer.x)[0] * outer.normals).sum(axis=1)[of_east] @ outer.weights[of_east]
    flux += (quadratic_field(middle.x)[0] * middle.normals).sum(axis=1) @ middle.weights
    assert flux == pytest.approx(quadratic_field(east.x)[1] @ east.weights, rel=1e-12)  # round-off


@by_kind
def test_measures_and_names_of_the_unit_cube(kind):
    mesh = unit_mesh(kind)
    faces = [f"{axis}_{side}" for axis in AXES[: mesh.dimension] for side in ("max", "min")]
    assert mesh.names() == {
        "interior": ["interior", "east", "west"],
        "boundary": ["boundary", "middle", *faces],
    }
    # Every number is a sum of fewer than a hundred products of fractions: round-off only.
    assert mesh.measure() == pytest.approx(1.0, rel=1e-14)
    assert mesh.measure("east") == pytest.approx(0.5, rel=1e-14)
    assert mesh.measure("east+west") == pytest.approx(1.0, rel=1e-14)
    assert mesh.boundary_measure() == pytest.approx(2 * mesh.dimension, rel=1e-14)
    for face in faces:
        points = mesh.boundary(face)
        assert points.normals is not None
        axis, side = AXES.index(face[0]), face[2:]
        expected = (1.0 if side == "max" else -1.0) * np.eye(mesh.dimension)[axis]
        assert points.measure == pytest.approx(1.0, rel=1e-14)
        assert_allclose(points.normals, np.tile(expected, (len(points), 1)), rtol=0, atol=1e-14)
        assert_allclose(points.x[:, axis], float(side == "max"), rtol=0, atol=1e-15)


@by_kind
def test_the_normal_of_an_interface_leaves_the_region_that_comes_first(kind):
    mesh = unit_mesh(kind)
    points = mesh.boundary("middle")
    assert points.normals is not None and points.cells is not None
    assert_allclose(points.normals[:, 0], -1.0, rtol=0, atol=1e-14)  # from east to west
    assert (mesh.region_of_cell[points.cells] == mesh.region_names.index("east")).all()
    nodes, cells = mesh.nodes, mesh.cells
    renamed = Mesh(nodes, cells, {"a": mesh.region_cells("west")}, {"middle": mesh.boundary_facets("middle")})
    normals = renamed.boundary("middle").normals
    assert normals is not None
    assert_allclose(normals[:, 0], 1.0, rtol=0, atol=1e-14)  # from a to the cells without a name


@pytest.mark.parametrize("kind", ["triangle", "quad", "tetra", "hexahedron"])
def test_an_interface_within_one_region_follows_the_order_of_its_vertices(kind):
    mesh = unit_mesh(kind)
    facets = mesh.boundary_facets("middle")
    for given_facets, sign in ((facets, -1.0), (reversed_rows(facets), 1.0)):
        normals = Mesh(mesh.nodes, mesh.cells, None, {"cut": given_facets}).boundary("cut").normals
        assert normals is not None
        assert_allclose(normals[:, 0], sign, rtol=0, atol=1e-14)


def test_turning_rows_keeps_the_padding_at_the_end():
    rows = np.array([[4, 7, 9, -1], [1, 2, 3, 5], [6, 8, -1, -1]])
    turned = reversed_rows(rows)
    assert_array_equal(turned, [[9, 7, 4, -1], [5, 3, 2, 1], [8, 6, -1, -1]])
    assert_array_equal(same_side(rows[:2], turned[:2]), [False, False])
    assert_array_equal(same_side(rows[:2], np.array([[9, 4, 7, -1], [3, 5, 1, 2]])), [True, True])


def test_an_outer_boundary_is_not_an_interface():
    with pytest.raises(MeshError, match=r"'x_min' of the mesh is not an interface: 2 of its facets"):
        unit_mesh("quad").interface("x_min")


@by_kind
def test_regions_partition_every_integral(kind):
    mesh = unit_mesh(kind, distortion=0.1)
    parts = [mesh.interior(name, Sampling(order=4)) for name in ("east", "west", "interior")]
    east, west, whole = (float((points.x[:, 0] ** 3) @ points.weights) for points in parts)
    assert east + west == pytest.approx(whole, rel=1e-13)
    assert len(parts[0]) + len(parts[1]) == len(parts[2])
    assert_array_equal(mesh.interior("west+east").x, mesh.interior(("interior", "east")).x)


@by_kind
def test_nodal_weights_integrate_linear_functions_on_straight_cells(kind):
    mesh = unit_mesh(kind)
    weights = mesh.nodal_weights()
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1.0, rel=1e-14)
    assert_allclose(weights @ mesh.nodes, 0.5, rtol=1e-14)


@given(st.sampled_from(KINDS), st.sampled_from(SAMPLED), st.integers(1, 60), st.integers(0, 2**31))
def test_sampled_points_live_in_their_cells_and_repeat_with_their_seed(kind, sampling_kind, count, seed):
    mesh = unit_mesh(kind)
    sampling = Sampling(count, sampling_kind)
    for name, measure in ((None, 1.0), ("east", 0.5)):
        points = mesh.interior(name, sampling, seed)
        assert points.cells is not None
        assert len(points) == count
        assert points.measure == pytest.approx(measure, rel=1e-13)  # round-off of 60 equal terms
        assert np.isin(points.cells, mesh.region_cells(name)).all()
        assert mesh.locator.invert(points.cells, points.x)[1].min() > -1e-12  # round-off of the inverse map
        assert_array_equal(points.x, mesh.interior(name, sampling, seed).x)


@by_kind
def test_another_seed_gives_other_points(kind):
    mesh, sampling = unit_mesh(kind), Sampling(20, "sobol")
    assert not np.array_equal(mesh.interior(None, sampling, 1).x, mesh.interior(None, sampling, 2).x)
    if mesh.dimension > 1:
        assert not np.array_equal(mesh.boundary(None, sampling, 1).x, mesh.boundary(None, sampling, 2).x)


@pytest.mark.parametrize("kind", ["triangle", "quad", "mixed", "tetra", "hexahedron"])
def test_sampling_is_proportional_to_measure(kind):
    """Unequal cells: the second power of a coordinate is integrated as the points become many."""
    nodes, cells = unit_grid(kind, 4)
    mesh = Mesh(nodes**2, cells)
    points = mesh.interior(None, Sampling(4096, "sobol"))
    # ∫ x² over the unit cube; a mistake in the choice of cells shows as 10 %, Sobol' points err by about 1/sqrt(N)/10.
    assert_allclose(points.weights @ points.x**2, 1 / 3, rtol=0, atol=2e-3)
    surface = mesh.boundary(None, Sampling(4096, "sobol"))
    assert surface.normals is not None
    assert surface.measure == pytest.approx(2 * mesh.dimension, rel=1e-12)
    flux = surface.weights @ (surface.normals * surface.x)
    assert_allclose(flux, 1.0, rtol=0, atol=2e-2)  # ∮ x_k n_k = 1: the share of one face, known to 1/sqrt(N)


def test_the_facets_of_an_interval_are_its_ends_whatever_the_count():
    ends = unit_mesh("line").boundary(None, Sampling(50, "uniform"))
    assert_array_equal(ends.x, [[0.0], [1.0]])
    assert_array_equal(ends.weights, [1.0, 1.0])
    assert ends.normals is not None
    assert_array_equal(ends.normals, [[-1.0], [1.0]])


def test_a_group_named_like_the_whole_is_the_group():
    mesh = unit_mesh("triangle")
    own = Mesh(
        mesh.nodes, mesh.cells, {"interior": mesh.region_cells("east")}, {"boundary": mesh.boundary_facets("x_min")}
    )
    assert own.names() == {"interior": ["interior"], "boundary": ["boundary"]}
    assert own.measure("interior") == 0.5
    assert own.measure() == 1.0
    assert own.boundary_measure("boundary") == 1.0
    assert own.boundary_measure() == 4.0


def test_a_region_and_a_boundary_may_share_a_name():
    mesh = unit_mesh("triangle")
    both = Mesh(mesh.nodes, mesh.cells, {"x": mesh.region_cells("east")}, {"x": mesh.boundary_facets("x_min")})
    assert both.measure("x") == 0.5
    assert both.boundary_measure("x") == 1.0


@pytest.mark.parametrize("kind", SIMPLE_KINDS)
def test_negative_cells_are_repaired(kind):
    nodes, cells = unit_grid(kind)
    turned = {kind: cells[kind].copy()}
    turned[kind][::2] = turned[kind][::2][:, CELL_TYPES[kind].mirror]
    mesh = Mesh(nodes, turned)
    assert_array_equal(mesh.cells[kind], Mesh(nodes, cells).cells[kind])
    assert mesh.cell_measures.min() > 0


@pytest.mark.parametrize("kind", SIMPLE_KINDS)
def test_a_cell_without_measure_is_refused(kind):
    nodes, cells = unit_grid(kind)
    flat = {kind: cells[kind].copy()}
    flat[kind][1, -1] = flat[kind][1, 0]
    with pytest.raises(MeshError, match=f"1 of its {kind} cells have zero measure, the first near"):
        Mesh(nodes, flat)


def test_a_folded_quadrilateral_is_refused():
    nodes = np.array([[0, 0], [1, 0], [0.2, 0.2], [0, 1]], dtype=float)
    with pytest.raises(MeshError, match="folded"):
        Mesh(nodes, {"quad": [[0, 1, 2, 3]]})


@pytest.mark.parametrize("names", [(), ("triangle", "line"), ("wedge",)])
def test_cells_that_make_no_domain_are_refused(names):
    with pytest.raises(MeshError, match="cells of one dimension"):
        Mesh(np.eye(3), {name: [[0, 1, 2]] for name in names})


def test_overlapping_cells_are_refused():
    nodes = np.array([[0, 0], [1, 0], [0, 1], [0, 2], [0, 3]], dtype=float)
    with pytest.raises(MeshError, match="overlap"):
        Mesh(nodes, {"triangle": [[0, 1, 2], [0, 1, 3], [0, 1, 4]]})


@pytest.mark.parametrize(("dropped", "kept"), [(2, (0, 1)), (1, (0, 2)), (0, (1, 2))])
def test_a_mesh_in_a_coordinate_plane_is_two_dimensional(dropped, kept):
    nodes, cells = unit_grid("triangle")
    mesh = Mesh(np.insert(nodes, dropped, 7.0, axis=1), cells)
    assert mesh.columns == kept
    assert_array_equal(mesh.nodes, nodes)
    assert mesh.measure() == 1.0


def test_a_surface_in_space_is_refused():
    nodes, cells = unit_grid("triangle")
    with pytest.raises(MeshError, match="2-dimensional, but its nodes fill 3 coordinates"):
        Mesh(np.column_stack([nodes, nodes[:, 0]]), cells)


def test_nodes_without_a_cell_are_dropped_and_the_others_remember_their_number():
    nodes, cells = unit_grid("triangle")
    shifted = np.concatenate([[[5.0, 5.0]], nodes])
    mesh = Mesh(shifted, {"triangle": cells["triangle"] + 1}, None, {"x": [[1, 2]]})
    assert_array_equal(mesh.nodes, nodes)
    assert_array_equal(mesh.node_numbers, np.arange(1, 10))
    assert_array_equal(mesh.boundary_nodes("x"), [0, 1])


def test_a_group_off_the_facets_is_an_error_when_it_is_asked_for():
    nodes, cells = unit_grid("triangle")
    mesh = Mesh(nodes, cells, None, {"diagonal": [[0, 8]]})
    with pytest.raises(MeshError, match="1 of the 1 facets of 'diagonal' in the mesh belong to no cell"):
        mesh.boundary("diagonal")


def test_a_grid_needs_a_box():
    with pytest.raises(ProblemError, match="needs a box"):
        unit_mesh("triangle").interior(None, Sampling(4, "grid"))


def test_quadrature_follows_the_map_of_a_trapezium():
    mesh = Mesh([[0, 0], [2, 0], [1, 1], [0, 1]], {"quad": [[0, 1, 2, 3]]})
    points = mesh.interior(None, Sampling(order=3))
    assert points.measure == pytest.approx(1.5, rel=1e-14)
    assert points.weights @ points.x[:, 0] == pytest.approx(7 / 6, rel=1e-14)  # ∫0^1 (2 - y)²/2 dy
