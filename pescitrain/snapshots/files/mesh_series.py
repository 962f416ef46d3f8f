"""Series of mesh files: a .vtu for each snapshot, or an .xdmf with the steps of each simulation. For one rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pescitrain.errors import MeshError, SnapshotError
from pescitrain.geometry.reading import TimeSeries, read_mesh_file, read_time_series
from pescitrain.snapshots.files.content import RECOVER, Content, Reading
from pescitrain.snapshots.files.series import Steps, parameters_of

Array = NDArray[np.float64]

MESH_ENDINGS = (".vtu", ".vtk", ".xdmf", ".xmf", ".msh")


def read_series(paths: Sequence[Path], reading: Reading) -> Content:
    """The field at the points of all files, which are the same.

    Raises
    ------
    SnapshotError       a broken file, other points, no such field, no parameters
    """
    files: list[Steps] = []
    rows: list[Array] = []
    points, notice, field = np.zeros((0, 0)), "", ""
    for path in paths:
        trouble = ""
        series = None
        try:
            series = _steps(path)
            trouble = series.trouble
            points = series.points if not rows else points
            if series.points.shape != points.shape or not np.allclose(series.points, points, rtol=0.0, atol=1e-12):
                trouble, series = "it has other points than the files before; write all on one mesh", None
        except MeshError as error:
            trouble = str(error).rstrip(".")
        if series is not None and series.point_data:
            found = [_field(data, reading.field, path) for data in series.point_data]
            field = found[0][0]
            rows += [values for _, values in found]
            files.append(Steps(str(path), len(found), series.times))
        if trouble:
            why = f"{path}: {trouble}; {len(rows)} snapshots before it are good"
            if not reading.recover or not rows:
                raise SnapshotError(why + (f"; write it again, or {RECOVER}" if rows else ""))
            notice = f"{why} and used"
            break
    if not rows:
        raise SnapshotError(f"{paths[0]}: it has no steps; write it again")
    table = parameters_of(files, reading, bool(notice))
    return Content(table.names, field, table.numbers, _flat(points), np.array(rows), notice)


def _steps(path: Path) -> TimeSeries:
    series = read_time_series(path) if path.suffix.lower() in (".xdmf", ".xmf") else None
    if series is not None:
        return series
    mesh = read_mesh_file(path)
    return TimeSeries(mesh.points, (), (mesh.point_data,), "")


def _flat(points: Array) -> Array:
    """Without the columns in which all points are the same: a plane mesh is stored with three."""
    wide = np.ptp(points, axis=0) > 0.0
    return np.ascontiguousarray(points[:, wide] if wide.any() else points[:, :1])


def _field(data: Mapping[str, NDArray], wanted: str | None, path: Path) -> tuple[str, Array]:
    """The name and the values (n,) of a scalar field, or of a component ``name:k`` of another."""
    arrays = {
        name: np.asarray(array, dtype=np.float64).reshape(len(array), -1)
        for name, array in data.items()
        if np.asarray(array).dtype.kind in "fiu" and not name.startswith("gmsh:")
    }
    listed = ", ".join(arrays) or "none"
    if wanted is None:
        if len(arrays) != 1:
            raise SnapshotError(f"{path}: say which of its point data by -data_field (there are {listed})")
        wanted = next(iter(arrays))
    name, _, component = (wanted, "", "") if wanted in arrays else wanted.rpartition(":")
    if name not in arrays:
        raise SnapshotError(f"{path}: it has no point data {wanted!r} (there are {listed})")
    columns = arrays[name].shape[1]
    if columns > 1 and not component:
        raise SnapshotError(f"{path}: {name!r} has {columns} components; say which by -data_field {name}:0")
    if component and not (component.isdigit() and int(component) < columns):
        raise SnapshotError(f"{path}: {name!r} has no component {component}; it has 0 … {columns - 1}")
    return wanted, arrays[name][:, int(component or 0)]
