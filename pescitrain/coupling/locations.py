"""Where the values of a host's Vec live: the coordinates of its nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.errors import ProblemError

Array = NDArray[np.float64]


def locations_of(dm: PETSc.DM) -> tuple[Array, int]:
    """Coordinates (K, d) of this rank's nodes as a global Vec of ``dm`` has them, and the values at each. Collective.

    Of a DMDA all nodes, of a DMPlex the points of its section, each at the mean of its vertices: vertices, centres of
    edges and of cells.

    Raises
    ------
    ProblemError        another kind of DM, one without coordinates, or numbers of values that differ from node to node
    """
    kind = dm.getType()
    if kind == PETSc.DM.Type.DA:
        coordinates = dm.getCoordinates()
        if not coordinates or not coordinates.handle:
            raise ProblemError("the DMDA has no coordinates: call its setUniformCoordinates() before")
        return coordinates.array_r.reshape(-1, dm.getCoordinateDim()).copy(), dm.getDof()  # pyright: ignore[reportAttributeAccessIssue]
    if kind == PETSc.DM.Type.PLEX:
        return _locations_of_plex(dm)  # pyright: ignore[reportArgumentType]
    raise ProblemError(
        f"a DM of type {kind} does not say where its values live: give the coordinates (K, d) of this rank's nodes"
    )


def _locations_of_plex(plex: PETSc.DMPlex) -> tuple[Array, int]:
    section, owned = plex.getLocalSection(), plex.getGlobalSection()
    places, sizes = [], []
    for point in range(*section.getChart()):
        first, size = owned.getOffset(point), owned.getDof(point)  # both negative where another rank owns it
        if size > 0:
            places.append((first, point))
            sizes.append(size)
    # Ranks must agree: sizes that differ anywhere are told everywhere.
    comm = plex.getComm().tompi4py()
    known = {size for part in comm.allgather(sorted(set(sizes))) for size in part}
    if len(known) > 1:
        raise ProblemError(
            f"the DMPlex has nodes with {' and '.join(map(str, sorted(known)))} values: give the coordinates (K, d) of "
            "the nodes of one field"
        )
    coordinates, of_vertices = plex.getCoordinatesLocal(), plex.getCoordinateSection()
    dimension = plex.getCoordinateDim()
    vertices = plex.getDepthStratum(0)
    array = coordinates.array_r
    result = np.zeros((len(places), dimension))
    for row, (_, point) in enumerate(sorted(places)):
        closure, _ = plex.getTransitiveClosure(point)
        corners = [corner for corner in closure if vertices[0] <= corner < vertices[1]]
        starts = [of_vertices.getOffset(corner) for corner in corners]
        result[row] = np.mean([array[start : start + dimension] for start in starts], axis=0)
    return result, known.pop() if known else 1
