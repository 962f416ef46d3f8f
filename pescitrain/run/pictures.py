"""What a person looks at first: convergence.png and solution.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation
from numpy.typing import NDArray

from pescitrain.run.solution import Solution

matplotlib.use("Agg", force=False)
Array = NDArray[np.float64]


def draw_convergence(columns: list[str], rows: list[list[Any]], metric: str, title: str, path: Path) -> None:
    """Objective with its terms, gradient and error against closures; ``metric``: what the error is."""
    if not rows:
        return
    data = {name: np.array([float(row[k]) if row[k] != "" else np.nan for row in rows]) for k, name in
            enumerate(columns) if name != "stage"}  # fmt: skip
    closures, terms = data["closures"], columns[7:]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(closures, data["objective"], color="black", linewidth=2, label="objective")
    if len(terms) > 1:
        for name in terms:
            left.semilogy(closures, np.where(data[name] > 0, data[name], np.nan), linewidth=1, label=name)
    left.set(xlabel="closures (passes over all points)", title="objective and its terms")
    left.legend(fontsize=8)
    known = np.isfinite(data["rel_l2"])
    if known.any():
        right.semilogy(closures[known], data["rel_l2"][known], "o-", markersize=3, label=metric)
    right.semilogy(closures, data["gradient_norm"], color="grey", linewidth=1, label="gradient norm")
    right.set(xlabel="closures (passes over all points)", title="error and gradient")
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(visible=True, alpha=0.3)
    stages = [row[0] for row in rows]
    for k in range(1, len(stages)):
        if stages[k] != stages[k - 1]:
            left.axvline(float(closures[k]), color="grey", linestyle=":")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def draw_solution(solution: Solution, coordinates: tuple[str, ...], title: str, path: Path) -> None:
    """A row for each output: prediction, and where there is a reference also the reference and the error."""
    names = list(solution.fields)
    width = 3 if solution.reference else 1
    figure = Figure(figsize=(4.4 * width, 3.6 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), width, squeeze=False)
    for row, name in enumerate(names):
        panels = [(name, solution.fields[name])]
        if name in solution.reference:
            panels += [(f"{name}, reference", solution.reference[name]), (f"{name}, error", solution.error[name])]
        limits = None
        if name in solution.reference:
            both = np.concatenate([solution.fields[name], solution.reference[name]])
            limits = (float(both.min()), float(both.max()))
        for column, (label, values) in enumerate(panels):
            _panel(figure, axes[row, column], solution, coordinates, values, label, limits if column < 2 else None)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _panel(
    figure: Figure,
    axes: Axes,
    solution: Solution,
    coordinates: tuple[str, ...],
    values: Array,
    label: str,
    limits: tuple[float, float] | None,
) -> None:
    axes.set_title(label)
    x = solution.nodes
    if x.shape[1] == 1:
        order = np.argsort(x[:, 0])
        axes.plot(x[order, 0], values[order])
        axes.set_xlabel(coordinates[0])
        return
    keep = np.ones(len(x), dtype=bool)
    if x.shape[1] == 3 and "hexahedron" in solution.cells:  # a slice through the middle of a box or of a volume mesh
        levels = np.unique(x[:, 2])
        keep = np.isclose(x[:, 2], levels[len(levels) // 2])
    colours = "RdBu_r" if limits is None else "viridis"
    if limits is None:
        largest = float(np.abs(values).max()) or 1.0
        limits = (-largest, largest)
    triangles = _triangles(solution)
    if x.shape[1] == 2 and triangles is not None:
        mesh = Triangulation(x[:, 0], x[:, 1], triangles)
        picture = axes.tripcolor(mesh, values, shading="gouraud", cmap=colours, vmin=limits[0], vmax=limits[1])
    else:
        picture = axes.scatter(
            x[keep, 0], x[keep, 1], c=values[keep], s=6, cmap=colours, vmin=limits[0], vmax=limits[1]
        )
    figure.colorbar(picture, ax=axes)
    axes.set(xlabel=coordinates[0], ylabel=coordinates[1])
    if "t" not in coordinates:
        axes.set_aspect("equal")


def _triangles(solution: Solution) -> NDArray[np.integer] | None:
    parts = []
    for kind, cells in solution.cells.items():
        if kind == "triangle":
            parts.append(cells)
        elif kind == "quad":
            parts += [cells[:, [0, 1, 2]], cells[:, [0, 2, 3]]]
    return np.concatenate(parts) if parts else None
