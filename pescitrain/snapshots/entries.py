"""Where the entries of a host's Vec are: of a DMDA, of a DMPlex, or said by coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Entries:
    """This rank's entries of one component of a global Vec.

    Attributes
    ----------
    locations : (K_local, d)
    places : (K_local,) int or None     in the local part of the Vec; None: of a plain Vec, with its block size
    size : int                          of the local part of the Vec; not used where ``places`` is None
    component : int
    """

    locations: Array
    places: NDArray[np.int64] | None
    size: int
    component: int

    def of(self, vec: PETSc.Vec | ArrayLike) -> Array:
        """A copy (K_local,) of these entries of a Vec, or of this rank's part of one as an array. Not collective.

        Raises
        ------
        SnapshotError       it has another size than the locations, or is complex
        """
        if isinstance(vec, PETSc.Vec):
            local, stride = vec.getArray(readonly=True), vec.getBlockSize()
        else:
            local, stride = np.asarray(vec), 1
        if np.iscomplexobj(local):
            raise SnapshotError("snapshots: the Vec is complex; append its real and its imaginary part apart")
        if self.places is not None:
            if local.shape != (self.size,):
                raise SnapshotError(
                    f"snapshots: the Vec has {local.size} entries on this rank, the DM has {self.size}; append a "
                    "global Vec of this DM"
                )
            return np.array(local[self.places], dtype=np.float64)
        count = len(self.locations)
        if local.shape != (count * stride,):
            raise SnapshotError(
                f"snapshots: the Vec has {local.size} entries on this rank in blocks of {stride}, there are {count} "
                "locations; give a location for each block, and set the block size of a Vec with several components"
            )
        if not self.component < stride:
            raise SnapshotError(
                f"snapshots: there is no component {self.component} in blocks of {stride}; set the block size of the "
                "Vec"
            )
        return np.array(local[self.component :: stride], dtype=np.float64)


def communicator(where: PETSc.DM | ArrayLike, comm: MPI.Intracomm | None) -> MPI.Intracomm:
    """The communicator of the snapshots: as said, else that of the DM if it has the ranks of COMM_WORLD or is serial.

    PETSc frees the communicator of a DM with its last object, and snapshots live longer.

    Raises
    ------
    SnapshotError       the DM is on a part of the ranks
    """
    if comm is not None:
        return comm
    if not isinstance(where, PETSc.DM):
        return MPI.COMM_WORLD
    own = where.comm.tompi4py()
    if own.size == 1 and MPI.COMM_WORLD.size > 1:
        return MPI.COMM_SELF
    if MPI.Comm.Compare(own, MPI.COMM_WORLD) not in (MPI.IDENT, MPI.CONGRUENT):
        raise SnapshotError("snapshots: the DM is on a part of the ranks: give its communicator, Snapshots(dm, comm=…)")
    return MPI.COMM_WORLD


def entries_of(where: PETSc.DM | ArrayLike, component: int, comm: MPI.Intracomm) -> Entries:
    """The entries of a component. Collective.

    Raises
    ------
    SnapshotError       no coordinates, a DM of another type, degrees of freedom that are not at points, no such
                        component
    """
    if isinstance(where, PETSc.DMDA):
        entries = _of_grid(where, component)
    elif isinstance(where, PETSc.DMPlex):
        entries = _of_plex(where, component, comm)
    elif isinstance(where, PETSc.DM):
        raise SnapshotError(
            f"snapshots: a DM of type {where.getType()!r} does not say where its entries are; give their coordinates "
            "(K, d)"
        )
    else:
        with agreed(comm):
            entries = _of_coordinates(where, component)
    _check(entries, comm)
    return entries


def _of_coordinates(where: ArrayLike, component: int) -> Entries:
    locations = np.array(where, dtype=np.float64)
    if locations.ndim != 2 or locations.shape[1] == 0:
        raise SnapshotError(f"snapshots: coordinates are an array (K, d) of this rank, not {locations.shape}")
    if component < 0:
        raise SnapshotError(f"snapshots: a component is a number of 0 or more, not {component}")
    return Entries(locations, None, 0, component)


def _check(entries: Entries, comm: MPI.Intracomm) -> None:
    with agreed(comm):
        if not np.isfinite(entries.locations).all():
            raise SnapshotError("snapshots: the coordinates hold NaN or infinity; repair them")
    shapes = comm.allgather(entries.locations.shape)
    columns = {shape[1] for shape in shapes}
    if len(columns) > 1:
        raise SnapshotError(f"snapshots: ranks give coordinates of {' and '.join(map(str, sorted(columns)))} columns")
    if not sum(shape[0] for shape in shapes):
        raise SnapshotError("snapshots: there are no locations on any rank; give some")


def _of_grid(dm: PETSc.DMDA, component: int) -> Entries:
    components, dimension = dm.getDof(), dm.getDim()
    _check_component(component, components)
    coordinates = dm.getCoordinates()
    if not coordinates:
        raise SnapshotError("snapshots: the DMDA has no coordinates; call its setUniformCoordinates first")
    locations = np.array(coordinates.getArray(readonly=True), dtype=np.float64).reshape(-1, dimension)
    count = len(locations)
    return Entries(locations, np.arange(count) * components + component, count * components, component)


def _check_component(component: int, components: int) -> None:
    if not 0 <= component < components:
        raise SnapshotError(f"snapshots: there is no component {component}, the DM has {components} (0, 1, …)")


def _of_plex(dm: PETSc.DMPlex, component: int, comm: MPI.Intracomm) -> Entries:
    """An entry lies in the middle of the vertices of its point: a vertex, an edge, a cell."""
    section, coordinates = dm.getLocalSection(), dm.getCoordinatesLocal()
    if not coordinates:
        raise SnapshotError("snapshots: the DMPlex has no coordinates; set them first")
    whole, vec = dm.getGlobalSection(), dm.createGlobalVec()
    (begin, end), size = vec.getOwnershipRange(), vec.getSize()
    vec.destroy()
    if size == 0:
        raise SnapshotError(
            "snapshots: the DMPlex has no section; set its fields and createDS, or setLocalSection, first"
        )
    locations: list[Array] = []
    places: list[int] = []
    with agreed(comm):
        _check_layout(section, component)
        middle = _Middles(dm, np.array(coordinates.getArray(readonly=True), dtype=np.float64))
        for point in range(*section.getChart()):
            start = whole.getOffset(point)
            if section.getDof(point) == 0 or start < 0:  # negative: another rank has it
                continue
            held = section.getConstraintIndices(point) if whole.getConstraintDof(point) > 0 else ()
            if component in held:  # given by a condition: it is not in the Vec
                continue
            locations.append(middle.of(point))
            places.append(start - begin + component - sum(index < component for index in held))
    found = np.array(locations).reshape(-1, middle.dimension)
    return Entries(found, np.array(places, dtype=np.int64), end - begin, component)


def _check_layout(section: PETSc.Section, component: int) -> None:
    """A point has one degree of freedom of each component, or none."""
    counts = {section.getDof(point) for point in range(*section.getChart())} - {0}
    fields = section.getNumFields()
    components = sum(section.getFieldComponents(field) for field in range(fields)) if fields else max(counts, default=0)
    if counts - {components}:
        raise SnapshotError(
            f"snapshots: the DMPlex has {' and '.join(map(str, sorted(counts)))} degrees of freedom at points for "
            f"{components} components, so that their locations are not known; use elements with one a point (linear, "
            "quadratic, constant in cells), or give coordinates (K, d)"
        )
    if counts:
        _check_component(component, components)


class _Middles:
    """The mean of the vertices of a point of a DMPlex, from the coordinates (local) of the vertices."""

    def __init__(self, dm: PETSc.DMPlex, values: Array) -> None:
        self.dimension = dm.getCoordinateDim()
        self._dm, self._section, self._values = dm, dm.getCoordinateSection(), values
        self._first, self._last = dm.getDepthStratum(0)

    def of(self, point: int) -> Array:
        """(d,)."""
        vertices = [point]
        if not self._first <= point < self._last:
            closure, _ = self._dm.getTransitiveClosure(point)
            vertices = [int(other) for other in closure if self._first <= other < self._last]
        starts = [self._section.getOffset(vertex) for vertex in vertices]
        return np.mean([self._values[start : start + self.dimension] for start in starts], axis=0)
