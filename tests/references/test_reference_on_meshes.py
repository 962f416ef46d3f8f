"""The exact solutions on the shipped domains: known values, conditions and equations."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from .finite_differences import first, second

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Loader = Callable[[str], ModuleType]


def square_points(away: Callable[[Array], Mask], count: int = 400) -> Array:
    """Random points of (−0.95, 0.95)² where ``away`` (N,) is true."""
    points = np.random.default_rng(5).uniform(-0.95, 0.95, (4 * count, 2))
    return points[away(points)][:count]


def check_poisson(module: ModuleType, points: Array, source: float, gradient_tolerance: float = 1e-9) -> None:
    step = 8e-3
    laplacian = sum(second(module.solution, points, axis, step) for axis in (0, 1))
    np.testing.assert_allclose(laplacian, -source, rtol=0, atol=1e-7)
    gradient = module.gradient(points)
    for axis in (0, 1):
        difference = first(module.solution, points, axis, step)[:, 0]
        np.testing.assert_allclose(difference, gradient[:, axis], rtol=0, atol=gradient_tolerance)


def test_lshape(mesh_reference: Loader) -> None:
    lshape = mesh_reference("lshape")
    x = np.array([[-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [-0.1, 0.1], [-0.02, 0.02]])
    values = [0.131052962031, 0.102362157656, 0.102362157656, 0.098066469918, 0.036734345421]
    np.testing.assert_allclose(lshape.solution(x)[:, 0], values, rtol=0, atol=1e-12)
    assert lshape.boundary_error() < 1e-13
    # Not the points where that error is measured: from the corner on, along both of its sides.
    near = 10.0 ** np.linspace(-12, 0, 97)
    zero = np.zeros_like(near)
    sides = np.vstack([np.column_stack([near, zero]), np.column_stack([zero, -near]), [[0.0, 0.0]]])
    assert np.abs(lshape.solution(sides)).max() < 1e-13


def test_lshape_satisfies_the_equation(mesh_reference: Loader) -> None:
    def away(x: Array) -> Mask:
        return ~((x[:, 0] > -0.05) & (x[:, 1] < 0.05)) & (np.hypot(x[:, 0], x[:, 1]) > 0.2)

    check_poisson(mesh_reference("lshape"), square_points(away), 1.0)


def test_plate_with_hole(mesh_reference: Loader) -> None:
    plate = mesh_reference("plate_with_hole")
    x = np.array([[-0.6, 0.6], [1.0, 1.0], [-1.0, -1.0], [0.2, 0.5]])
    values = [0.6110372635838, 0.4789668113690, 0.5418572149480, 0.2990093611594]
    np.testing.assert_allclose(plate.solution(x)[:, 0], values, rtol=0, atol=2e-13)
    on_hole, through_sides = plate.boundary_error()
    assert on_hole < 1e-13 and through_sides < 1e-13


def test_plate_with_hole_satisfies_the_equation(mesh_reference: Loader) -> None:
    def away(x: Array) -> Mask:
        return np.hypot(x[:, 0] - 0.2, x[:, 1] + 0.15) > 0.45

    check_poisson(mesh_reference("plate_with_hole"), square_points(away), 1.0)


def test_two_materials(mesh_reference: Loader) -> None:
    plate = mesh_reference("two_materials")
    x = np.array([[-0.1, 0.2], [0.5, 0.5], [-0.6, -0.6], [0.5, -1.0]])
    values = [1.5896683696, 1.0001034966, 1.1719594457, 0.6265553480]
    np.testing.assert_allclose(plate.solution(x)[:, 0], values, rtol=0, atol=6e-11)
    of_values, of_fluxes = plate.boundary_error()
    assert of_values < 1e-13 and of_fluxes < 1e-12


def test_two_materials_let_out_the_heat_that_is_produced(mesh_reference: Loader) -> None:
    plate = mesh_reference("two_materials")
    assert plate.heat_out(1.0) == pytest.approx(3.505400806024, abs=1e-12)
    assert plate.heat_out(-1.0) == pytest.approx(1.583979292791, abs=1e-12)
    assert plate.heat_out(1.0) + plate.heat_out(-1.0) == pytest.approx(8 * np.pi * 0.45**2, abs=1e-12)


@pytest.mark.parametrize(("inside", "source"), [(True, 0.8), (False, 0.0)])
def test_two_materials_satisfy_the_equation(mesh_reference: Loader, inside: bool, source: float) -> None:
    def away(x: Array) -> Mask:
        distance = np.hypot(x[:, 0] + 0.1, x[:, 1] - 0.2)
        return distance < 0.4 if inside else distance > 0.5

    points = square_points(away)
    assert len(points) > 100
    check_poisson(mesh_reference("two_materials"), points, source)


def test_elastic_plate(mesh_reference: Loader) -> None:
    plate = mesh_reference("elastic_plate")
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    values = [[2.3290481577, 0.0], [0.0, -1.2467522554], [1.0615551418, -0.4215790287]]
    np.testing.assert_allclose(plate.solution(x), values, rtol=0, atol=6e-11)
    assert plate.stress(np.array([[0.0, 0.4]]))[0, 0] == pytest.approx(4.7830717013, abs=6e-11)
    assert plate.boundary_error() < 1e-12


def test_elastic_plate_at_the_loaded_corner_is_the_integral_of_the_strain(mesh_reference: Loader) -> None:
    plate = mesh_reference("elastic_plate")
    corner = plate.solution(np.array([[1.0, 1.0]]))[0]
    np.testing.assert_allclose(corner, [0.7153045719, 0.2132949323], rtol=0, atol=6e-11)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    # s = 1 − q³ removes the singularity of the strain, (1 − s)^1.74.
    q = 0.5 + 0.5 * nodes
    s, weights = 1.0 - q**3, 0.5 * weights * 3.0 * q**2
    right, top = np.column_stack([np.ones(60), s]), np.column_stack([s, np.ones(60)])
    start = plate.solution(np.array([[1.0, 0.0], [0.0, 1.0]]))
    on_right, on_top = plate.stress(right), plate.stress(top)
    assert start[0, 1] + weights @ (on_right[:, 1] - 0.3 * on_right[:, 0]) == pytest.approx(corner[1], abs=1e-12)
    assert start[1, 0] + weights @ (on_top[:, 0] - 0.3 * on_top[:, 1]) == pytest.approx(corner[0], abs=1e-12)


def test_elastic_plate_is_symmetric(mesh_reference: Loader) -> None:
    plate = mesh_reference("elastic_plate")
    s = np.linspace(0.4, 1.0, 50)
    zero = np.zeros(50)
    on_y_axis, on_x_axis = np.column_stack([zero, s]), np.column_stack([s, zero])
    np.testing.assert_allclose(plate.solution(on_y_axis)[:, 0], 0.0, atol=1e-14)
    np.testing.assert_allclose(plate.solution(on_x_axis)[:, 1], 0.0, atol=1e-14)
    np.testing.assert_allclose(plate.stress(on_y_axis)[:, 2], 0.0, atol=1e-13)
    np.testing.assert_allclose(plate.stress(on_x_axis)[:, 2], 0.0, atol=1e-13)


def test_elastic_plate_satisfies_equilibrium_and_hooke(mesh_reference: Loader) -> None:
    plate = mesh_reference("elastic_plate")
    points = np.random.default_rng(6).uniform(0.05, 0.95, (600, 2))
    points = points[np.hypot(points[:, 0], points[:, 1]) > 0.45]
    step = 4e-3
    stress_x, stress_y = (first(plate.stress, points, axis, step) for axis in (0, 1))
    np.testing.assert_allclose(stress_x[:, 0] + stress_y[:, 2], 0.0, atol=1e-8)
    np.testing.assert_allclose(stress_x[:, 2] + stress_y[:, 1], 0.0, atol=1e-8)
    along_x, along_y = (first(plate.solution, points, axis, step) for axis in (0, 1))
    strain_xx, strain_yy, strain_xy = along_x[:, 0], along_y[:, 1], 0.5 * (along_x[:, 1] + along_y[:, 0])
    trace = 0.3 * (strain_xx + strain_yy)
    expected = np.column_stack([0.7 * strain_xx + trace, 0.7 * strain_yy + trace, 0.7 * strain_xy]) / 0.91
    np.testing.assert_allclose(plate.stress(points), expected, rtol=0, atol=1e-9)
