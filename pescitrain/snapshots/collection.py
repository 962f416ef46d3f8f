"""Snapshots: what a simulation computes for each of its parameters, collected where it lies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.entries import communicator, entries_of
from pescitrain.snapshots.files import Content, read_content, write_content

if TYPE_CHECKING:
    from pescitrain.problem import OperatorData

Array = NDArray[np.float64]
Collect = Callable[[PETSc.TS, int, float, PETSc.Vec], None]

TIME = "t"
"""The parameter that is not one of a simulation: snapshots that differ in it alone are one simulation's."""


class Snapshots:
    """N solutions at the K locations of a host's Vec, with the s parameters of each; collected without gathering.

    Construction is collective. The host keeps its Vecs and its DM: entries are copied, and no object of PETSc is held.

    Parameters
    ----------
    where : DMDA, DMPlex or (K_local, d)    the DM of the Vecs, or coordinates of this rank's entries of a plain Vec
    parameters : names                      a snapshot has a number for each; ``t`` is time
    component : int                         which one, of a Vec with several components at a location
    field : str                             the name of what is collected
    comm : mpi4py communicator              None: the one of the DM, COMM_WORLD for coordinates

    Raises
    ------
    SnapshotError       on all ranks: there are no coordinates, or degrees of freedom that are not at points

    >>> snapshots = Snapshots([[0.0], [0.5], [1.0]], ("a",), comm=MPI.COMM_SELF)
    >>> for a in (1.0, 2.0):
    ...     snapshots.append({"a": a}, [a, a / 2, 0.0])
    >>> snapshots.inputs.shape, snapshots.values.shape
    ((2, 1), (2, 3))
    """

    def __init__(
        self,
        where: PETSc.DM | ArrayLike,
        parameters: Sequence[str],
        component: int = 0,
        field: str = "u",
        comm: MPI.Intracomm | None = None,
    ) -> None:
        self.comm = communicator(where, comm)
        self.parameters, self.field = _names(parameters), field
        self.notice = ""
        """What a file or a time integration had that is left out, in a sentence."""
        self._entries = entries_of(where, component, self.comm)
        self._inputs: list[tuple[float, ...]] = []
        self._values: list[Array] = []
        self._data: OperatorData | None = None

    def __len__(self) -> int:
        """N."""
        return len(self._inputs)

    @property
    def locations(self) -> Array:
        """(K_local, d) coordinates of this rank's locations."""
        return self._entries.locations

    @property
    def inputs(self) -> Array:
        """(N, s) parameters, the same on all ranks; a copy."""
        return np.array(self._inputs, dtype=np.float64).reshape(len(self), len(self.parameters))

    @property
    def values(self) -> Array:
        """(N, K_local) at this rank's locations; a copy."""
        return np.array(self._values, dtype=np.float64).reshape(len(self), len(self.locations))

    def append(self, parameters: Mapping[str, float] | ArrayLike, vec: PETSc.Vec | ArrayLike) -> None:
        """Add a solution. Collective: one small message; where it fails, what was collected stays.

        Parameters
        ----------
        parameters : numbers (s,) in the order of the names, or by name; the same on all ranks
        vec : Vec, or this rank's part of one as an array

        Raises
        ------
        SnapshotError       on all ranks: a wrong count or size, NaN, infinity, parameters that differ between ranks
        """
        numbers, row, complaint = (), np.zeros(0), None
        try:
            numbers = self._numbers(parameters, self.parameters)
            row = self._entries.of(vec)
            if not np.isfinite(row).all():
                raise SnapshotError(
                    f"snapshots: the solution for {self._told(numbers)} holds NaN or infinity; not added"
                )
        except SnapshotError as error:
            complaint = str(error)
        everywhere = self.comm.allgather((complaint, numbers))
        for told, _ in everywhere:
            if told is not None:
                raise SnapshotError(told)
        if any(others != numbers for _, others in everywhere):
            raise SnapshotError("snapshots: the parameters differ between ranks; give the same on all")
        self._inputs.append(numbers)
        self._values.append(row)

    def monitor(self, parameters: Mapping[str, float] | ArrayLike = (), every: int = 1, first: int = 0) -> Collect:
        """A monitor for ``ts.setMonitor`` that appends every ``every``-th step from ``first`` on, with its time.

        The time is the parameter ``t``, the last one unless the names say otherwise. Not collective; its calls are.
        A step that cannot be taken, because it holds NaN, is left out, with a line on standard error and in
        :attr:`notice`: an exception would leave the host's Vec locked.

        Parameters
        ----------
        parameters : the numbers of this simulation, without the time

        Raises
        ------
        SnapshotError       a wrong count; snapshots without a time are there already
        """
        if TIME not in self.parameters:
            if len(self):
                raise SnapshotError(
                    f"snapshots: a monitor adds the parameter {TIME!r}, and there are snapshots without it"
                )
            self.parameters = (*self.parameters, TIME)
        if every < 1:
            raise SnapshotError(f"snapshots: every {every} steps makes no sense; give 1 or more")
        others = tuple(name for name in self.parameters if name != TIME)
        known = dict(zip(others, self._numbers(parameters, others), strict=True))

        def collect(ts: PETSc.TS, step: int, time: float, vec: PETSc.Vec) -> None:
            if step < first or step % every:
                return
            try:
                self.append({**known, TIME: time}, vec)
            except SnapshotError as error:
                self.notice = "; ".join(filter(None, (self.notice, str(error))))
                if self.comm.rank == 0:
                    print(f"pescitrain: {error}", file=sys.stderr, flush=True)

        return collect

    @property
    def simulations(self) -> NDArray[np.int64]:
        """(N,) the simulation 0, 1, … of each snapshot: those with equal parameters but for the time are one."""
        keep = [column for column, name in enumerate(self.parameters) if name != TIME]
        numbers: dict[tuple[float, ...], int] = {}
        keys = (tuple(row[column] for column in keep) for row in self._inputs)
        return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)

    def split(self, fractions: Sequence[float], seed: int = 0) -> tuple[Snapshots, ...]:
        """Parts for training, validation, tests: whole simulations, drawn at random. Not collective.

        Parameters
        ----------
        fractions : of the simulations, as (0.8, 0.1, 0.1); each part has at least one

        Raises
        ------
        SnapshotError       fractions that are not positive or more than the whole; fewer simulations than parts
        """
        if not fractions or min(fractions) <= 0.0 or sum(fractions) > 1.0 + 1e-9:
            told = ",".join(f"{fraction:g}" for fraction in fractions)
            raise SnapshotError(f"snapshots: the split {told} must be positive fractions of at most 1 in all")
        simulations = self.simulations
        count, parts = len(np.unique(simulations)), len(fractions)
        if count < parts:
            raise SnapshotError(
                f"snapshots: {count} simulations cannot be split into {parts} parts; give more, with other parameters"
            )
        order = np.random.default_rng(seed).permutation(count)
        ends = np.rint(count * np.cumsum(fractions)).astype(int)
        for part in range(parts):  # none is empty
            ends[part] = max(ends[part], ends[part - 1] + 1 if part else 1)
        for part in reversed(range(parts)):
            ends[part] = min(ends[part], count - (parts - 1 - part))
        return tuple(
            self._rows(np.flatnonzero(np.isin(simulations, chosen)))
            for chosen in np.split(order[: ends[-1]], ends[:-1])
        )

    def data(self) -> OperatorData:
        """What an operator is learnt from: parameters -> values at this rank's locations. Collective.

        Raises
        ------
        SnapshotError       there are no snapshots
        ProblemError        a solution is zero everywhere
        """
        if not len(self):
            raise SnapshotError("snapshots: there are none yet; append some")
        if self._data is None or len(self._data) != len(self):  # a problem asks for it again and again
            spread = self.comm if self.comm.size > 1 else None
            from pescitrain.problem import OperatorData  # PyTorch, which a simulation that only collects does without

            self._data = OperatorData(self.inputs, self.locations, self.values, spread)
        return self._data

    def write(self, path: str | PathLike[str]) -> None:
        """A file of the kind of its ending: .npz, .h5 or .hdf5 (needs h5py), else a PETSc binary file. Collective.

        The binary file has the Vecs of locations, inputs and solutions, and a JSON file ``<path>.json`` next to it says
        how long they are and what they mean. An older file stays until the new one is whole.

        Raises
        ------
        SnapshotError       on all ranks: the file cannot be written, no h5py
        """
        content = Content(self.parameters, self.field, self.inputs, self.locations, self.values)
        write_content(content, path, self.comm)

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        comm: MPI.Intracomm | None = None,
        *,
        parameters: str | PathLike[str] | None = None,
        coordinates: str | PathLike[str] | None = None,
        field: str | None = None,
        recover: bool = False,
    ) -> Snapshots:
        """Snapshots of a file; every rank gets a share of the locations. Collective.

        Files of :meth:`write`, and of others: .npz and .h5 with ``locations`` (K, d), ``inputs`` (N, s) and ``values``
        (N, K); Vecs that a PETSc code wrote one after the other in a binary file; series of .vtu (and what else meshio
        reads); .xdmf with time steps. Several files are given by a pattern, ``out/*.vtu``.

        Parameters
        ----------
        parameters : file       text or CSV with a row for each snapshot or each file, where the file itself has none
        coordinates : file      (K, d) as text, CSV or .npy, or a Vec in a PETSc binary file, where the file has none
        field : str             which one, where there are several: the name of an array, ``velocity:1`` for a component
                                of one, or the number of a component of Vecs
        recover : bool          use what is good: snapshots before the end of a file that is cut off, without those that
                                hold NaN; :attr:`notice` says what is left out

        Raises
        ------
        SnapshotError       the same sentence on all ranks: what is wrong, where, and what to do
        """
        comm = comm or MPI.COMM_WORLD
        content = read_content(path, comm, parameters, coordinates, field, recover)
        snapshots = cls(content.locations, content.parameters, field=content.field, comm=comm)
        snapshots.notice = content.notice
        snapshots._inputs = [tuple(row) for row in content.inputs.tolist()]
        snapshots._values = list(content.values)
        return snapshots

    def _rows(self, rows: NDArray[np.int64]) -> Snapshots:
        """Some of the snapshots, in the order that they have."""
        part = Snapshots.__new__(Snapshots)
        part.comm, part.parameters, part.field, part.notice = self.comm, self.parameters, self.field, self.notice
        part._entries, part._data = self._entries, None
        part._inputs = [self._inputs[row] for row in rows]
        part._values = [self._values[row] for row in rows]
        return part

    def _numbers(self, parameters: Mapping[str, float] | ArrayLike, names: tuple[str, ...]) -> tuple[float, ...]:
        listed = f"{len(names)} parameters ({', '.join(names)})"
        if isinstance(parameters, Mapping):
            if set(parameters) != set(names):
                raise SnapshotError(f"snapshots: there are {listed}, not {', '.join(map(str, parameters)) or 'none'}")
            parameters = [parameters[name] for name in names]
        try:
            numbers = tuple(np.asarray(parameters, dtype=np.float64).reshape(-1).tolist())
        except (TypeError, ValueError):
            raise SnapshotError(f"snapshots: the parameters {parameters!r} are no numbers") from None
        if len(numbers) != len(names):
            raise SnapshotError(f"snapshots: there are {listed}, not {len(numbers)}")
        if not np.isfinite(numbers).all():
            raise SnapshotError(f"snapshots: the parameters {self._told(numbers)} are not finite; not added")
        return numbers

    def _told(self, numbers: Sequence[float]) -> str:
        few = ", ".join(f"{name} = {number:g}" for name, number in zip(self.parameters[:4], numbers, strict=False))
        return few + (", …" if len(numbers) > 4 else "")


def _names(parameters: Sequence[str]) -> tuple[str, ...]:
    names = (parameters,) if isinstance(parameters, str) else tuple(parameters)
    if len(set(names)) < len(names):
        raise SnapshotError(f"snapshots: two parameters have one name: {', '.join(names)}")
    return names
