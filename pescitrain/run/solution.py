"""The solution on the mesh or on a grid: prediction, reference, error, residual."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

import meshio
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import Delaunay, QhullError

from pescitrain.evaluation.metrics import ErrorMetric, OperatorErrorMetric
from pescitrain.geometry import Box, Mesh
from pescitrain.networks.device import evaluate
from pescitrain.problem import OperatorData
from pescitrain.run.build import Setup
from pescitrain.run.metric import evaluation_grid

Array = NDArray[np.float64]
FUNCTIONS = 3
"""Input functions of an operator that are shown."""
GRID_CELLS = {1: "line", 2: "quad", 3: "hexahedron"}


@dataclass
class Solution:
    """Fields at nodes, the residual in cells (NaN where the equation has no value); ``trouble``: why there is none."""

    nodes: Array
    cells: dict[str, NDArray[np.integer]]
    fields: dict[str, Array]
    reference: dict[str, Array] = field(default_factory=dict)
    residual: dict[str, Array] = field(default_factory=dict)
    trouble: str = ""

    @property
    def error(self) -> dict[str, Array]:
        """Prediction minus reference."""
        return {name: self.fields[name] - values for name, values in self.reference.items()}


def shown_functions(setup: Setup) -> OperatorData | None:
    """Of an operator, the first functions of the validation at all locations, on rank 0. Collective."""
    if not isinstance(setup.metric, OperatorErrorMetric):
        return None
    data = setup.metric.data
    count, locations, values = min(FUNCTIONS, len(data)), data.locations, data.values[:FUNCTIONS]
    if data.comm is not None:
        parts = data.comm.gather((locations, values))
        if parts is None:
            return None
        locations = np.concatenate([part for part, _ in parts])
        values = np.concatenate([part for _, part in parts], axis=1)
    return OperatorData(data.inputs[:count], locations, values)


def compute_solution(setup: Setup, functions: OperatorData | None) -> Solution:
    """Evaluate the surrogate as it is; of an operator, for some functions.

    Not collective: every rank would compute the same, so one rank does it.
    """
    if functions is not None:
        return _operator_solution(setup, functions)
    if isinstance(setup.domain, Mesh):
        nodes, cells = setup.domain.nodes, dict(setup.domain.cells)
    else:
        nodes, cells = _grid(setup, setup.domain)
    names = setup.surrogate.outputs
    values = evaluate(setup.surrogate, nodes)
    solution = Solution(nodes, cells, {name: values[:, k] for k, name in enumerate(names)})
    metric = setup.metric
    if isinstance(metric, ErrorMetric) and len(metric.x) == len(nodes) and np.array_equal(metric.x, nodes):
        solution.reference = {name: metric.reference[:, k] for k, name in enumerate(names)}
    try:
        solution.residual = _residuals(setup, nodes, cells)
    except Exception as error:  # a user's residual may fail at points that training does not use
        solution.trouble = f"the residual cannot be evaluated in the centres of cells ({type(error).__name__}: {error})"
    return solution


def _operator_solution(setup: Setup, data: OperatorData) -> Solution:
    """What functions are mapped to, beside what they should be if that is known there."""
    assert isinstance(setup.domain, Box)
    nodes, cells = _grid(setup, setup.domain)
    if not setup.problem.grid:  # of nobody's choice: where the data are
        nodes, cells = data.locations, _cells_between(data.locations)
    values = evaluate(setup.surrogate, data.inputs, nodes)
    names = [f"{setup.surrogate.outputs[0]}_{k}" for k in range(len(data))]
    solution = Solution(nodes, cells, dict(zip(names, values, strict=True)))
    if data.locations.shape == nodes.shape and np.allclose(data.locations, nodes, rtol=0.0, atol=1e-12):
        solution.reference = dict(zip(names, data.values, strict=True))
    return solution


def _cells_between(locations: Array) -> dict[str, NDArray[np.integer]]:
    """Cells with the vertices (K, d): intervals, triangles, tetrahedra, or the vertices alone."""
    if locations.shape[1] == 1:
        order = np.argsort(locations[:, 0])
        return {"line": np.stack((order[:-1], order[1:]), axis=1)}
    if locations.shape[1] <= 3:
        with contextlib.suppress(QhullError):  # all of them in a plane or a line
            return {"triangle" if locations.shape[1] == 2 else "tetra": Delaunay(locations).simplices}
    return {"vertex": np.arange(len(locations))[:, None]}


def _grid(setup: Setup, box: Box) -> tuple[Array, dict[str, NDArray[np.integer]]]:
    """The grid of the error metric; beyond three dimensions the plane of the first two through the centre."""
    shape = evaluation_grid(setup.problem, box)
    if box.dimension > 3:
        shape = (65, 65)
        plane = Box(box.coordinates[:2], box.lower[:2], box.upper[:2]).grid(shape)
        nodes = np.tile(0.5 * np.add(box.lower, box.upper), (len(plane), 1))
        nodes[:, :2] = plane
    else:
        nodes = box.grid(shape)
    number = np.arange(np.prod(shape)).reshape(shape)
    if len(shape) == 1:
        corners = [number[:-1], number[1:]]
    elif len(shape) == 2:
        corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    else:
        low, high = number[:, :, :-1], number[:, :, 1:]
        around = [(slice(None, -1), slice(None, -1)), (slice(1, None), slice(None, -1))]
        around += [(slice(1, None), slice(1, None)), (slice(None, -1), slice(1, None))]
        corners = [part[index] for part in (low, high) for index in around]
    return nodes, {GRID_CELLS[len(shape)]: np.stack([c.ravel() for c in corners], axis=1)}


def _residuals(setup: Setup, nodes: Array, cells: dict[str, NDArray[np.integer]]) -> dict[str, Array]:
    """The unscaled residual of each interior term at the centre of each cell where it holds."""
    centres = np.concatenate([nodes[connectivity].mean(1) for connectivity in cells.values()])
    result = {}
    evaluator = setup.evaluator
    for samples in evaluator.samples:
        term = samples.term
        if term.place != "interior":
            continue
        inside = np.ones(len(centres), dtype=bool)
        if isinstance(setup.domain, Mesh) and term.on != "interior":
            inside[:] = False
            places = (term.on,) if isinstance(term.on, str) else term.on
            for place in places:
                inside[setup.domain.region_cells(place)] = True
        values = np.full((len(centres), samples.rows), np.nan)
        values[inside] = evaluator.local_residual_at(samples, centres[inside])
        for k in range(samples.rows):
            name = term.label if samples.rows == 1 else f"{term.label}_{k}"
            result[name] = values[:, k]
    return result


def write_vtu(solution: Solution, path: Path) -> None:
    """``solution.vtu``: point data of each output, ``<output>_reference``, ``<output>_error``; cell data: residuals."""
    nodes = solution.nodes
    padded = np.zeros((len(nodes), 3))
    padded[:, : min(3, nodes.shape[1])] = nodes[:, :3]
    point_data = dict(solution.fields)
    point_data |= {f"{name}_reference": values for name, values in solution.reference.items()}
    point_data |= {f"{name}_error": values for name, values in solution.error.items()}
    sizes = np.cumsum([len(connectivity) for connectivity in solution.cells.values()])[:-1]
    cell_data = {name: np.split(values, sizes) for name, values in solution.residual.items()}
    meshio.Mesh(padded, list(solution.cells.items()), point_data=point_data, cell_data=cell_data).write(path)
