"""A field that is known at the nodes of a mesh file, to compare with or to learn from."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from pescitrain.errors import MeshError
from pescitrain.geometry.conversion import MeshFile
from pescitrain.geometry.mesh import Mesh
from pescitrain.geometry.points import Floats
from pescitrain.geometry.reading import FilePath, on_root, read_mesh_file

SAME_NODE = 1e-9
"""Distance below which a point is a node, relative to the extent of the mesh."""

SLIGHTLY_OUTSIDE = 0.1
"""Distance, relative to the diameter of the nearest cell, up to which a field is extrapolated: the sagitta of a curved
boundary is h²/8R, below 0.1 h for every mesh that deserves the name."""

USUAL_VECTORS = ("displacement", "velocity", "u")


class ReferenceField:
    """Nodal values with first-order interpolation between them: points (N, d) -> values (N, k).

    At a node the value is the one of the file; elsewhere it is as good as linear interpolation is, O(h²).

    Parameters
    ----------
    nodes : (n, d) float64      points with values, also those that are no vertex of a cell
    values : (n, k) float64
    fields : k names
    mesh : Mesh                 the cells to interpolate in
    vertices : (m,) int64       where the nodes of ``mesh`` are among ``nodes``
    """

    def __init__(
        self, nodes: Floats, values: Floats, fields: Sequence[str], mesh: Mesh, vertices: NDArray[np.int64]
    ) -> None:
        self.nodes = nodes
        self.values = values
        self.fields = tuple(fields)
        self.mesh = mesh
        self._vertex_values = values[vertices]
        self._tree = KDTree(nodes)
        self._same = SAME_NODE * float(np.ptp(mesh.nodes, axis=0).max())

    @classmethod
    def read(
        cls, path: FilePath, mesh: Mesh | None, fields: Sequence[str], comm: MPI.Comm = MPI.COMM_WORLD
    ) -> ReferenceField:
        """Read point data of a mesh file of any format of meshio, once, and give it to all ranks of ``comm``.

        Collective. A field is the array of its name; fields without one (``ux``, ``uy``) are the components of one
        vector array called as what they have in common (``u``), ``displacement``, ``velocity`` or ``u``, or of the
        only vector array; a single field may be the only array of the file, whatever its name.

        Parameters
        ----------
        mesh : the mesh of the problem, whose dimension the file must have; None: no check
        fields : the names of the k fields of the problem

        Raises
        ------
        MeshError : the same sentence on all ranks, for a file that cannot be read, has another dimension, lacks a
            field (with the names it has), or has values that are not finite
        """

        def work() -> tuple[MeshFile, Floats]:
            file = read_mesh_file(path)
            own = Mesh.from_file(file, os.fspath(path))
            if mesh is not None and mesh.dimension != own.dimension:
                raise MeshError(
                    f"The reference '{os.fspath(path)}' is {own.dimension}-dimensional and the mesh of the problem "
                    f"{mesh.dimension}-dimensional; give the reference of this mesh."
                )
            values = _select(file.point_data, tuple(fields), own.columns, os.fspath(path))
            return MeshFile(file.points, file.cells, {}, {}, {}, file.middles), values

        file, values = on_root(comm, work)
        own = Mesh.from_file(file, os.fspath(path))
        return cls(file.points[:, list(own.columns)], values, fields, own, own.node_numbers)

    def __call__(self, x: ArrayLike) -> Floats:
        """The values (N, k) at points (N, d). Not collective.

        Points slightly outside (a curved boundary) take the extrapolation of the nearest cell.

        Raises MeshError for points farther outside than a tenth of the nearest cell.
        """
        points = np.asarray(x, dtype=np.float64)
        distance, node = self._tree.query(points)
        result = self.values[np.minimum(node, len(self.values) - 1)]
        between = np.flatnonzero(~(np.asarray(distance) <= self._same))
        if len(between) == 0:
            return result
        locator = self.mesh.locator
        places = locator.find(points[between])
        outside = np.flatnonzero(places.cells < 0)
        if len(outside):
            near, away = locator.closest(points[between[outside]])
            far = ~(away <= SLIGHTLY_OUTSIDE * locator.sizes[near.cells])
            if far.any():
                place = ", ".join(f"{value:.6g}" for value in points[between[outside[np.argmax(far)]]])
                raise MeshError(
                    f"{np.count_nonzero(far)} points lie outside the reference field of {self.mesh.source}, the first "
                    f"at ({place}); give a reference that covers the domain."
                )
            places.cells[outside], places.reference[outside] = near.cells, near.reference
        result[between] = locator.interpolate(places, self._vertex_values)
        return result


def _select(data: Mapping[str, NDArray], fields: tuple[str, ...], columns: tuple[int, ...], path: str) -> Floats:
    """The values (n, k) of the fields among the point data of a file."""
    arrays = {
        name: np.asarray(array, dtype=np.float64).reshape(len(array), -1)
        for name, array in data.items()
        if not name.startswith("gmsh:") and np.asarray(array).dtype.kind in "fiu"
    }
    scalars = {name: array for name, array in arrays.items() if array.shape[1] == 1}
    if len(fields) == 1 and fields[0] not in scalars and len(arrays) == 1:
        scalars = dict(zip(fields, scalars.values(), strict=False))
    missing = [name for name in fields if name not in scalars]
    found = {name: scalars[name][:, 0] for name in fields if name in scalars}
    if missing:
        vector = _vector_for(missing, {name: array for name, array in arrays.items() if name not in scalars})
        if vector is None:
            listed = ", ".join(arrays) or "none"
            raise MeshError(f"The reference '{path}' has no field {', '.join(missing)}; its arrays are {listed}.")
        use = columns if len(columns) == len(missing) and vector.shape[1] > max(columns) else range(len(missing))
        found.update({name: vector[:, column] for name, column in zip(missing, use, strict=True)})
    values = np.stack([found[name] for name in fields], axis=1)
    if not np.isfinite(values).all():
        raise MeshError(f"The reference '{path}' has values that are not finite numbers; write it again.")
    return values


def _vector_for(missing: list[str], vectors: dict[str, Floats]) -> Floats | None:
    """The vector array whose components serve the fields, if there is one that can be meant."""
    if len(missing) < 2:
        return None
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*missing, strict=False))
    common = "".join(letters[0] for letters in alike).rstrip("_")
    for name in (common, *USUAL_VECTORS):
        if name in vectors and vectors[name].shape[1] >= len(missing):
            return vectors[name]
    fitting = [array for array in vectors.values() if array.shape[1] >= len(missing)]
    return fitting[0] if len(vectors) == 1 and fitting else None
