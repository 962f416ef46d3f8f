"""Files of snapshots: which kind is read and written by which module."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
from mpi4py import MPI

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.agreement import agreed, on_root
from pescitrain.snapshots.files.content import Content, Reading, checked
from pescitrain.snapshots.files.foreign_binary import read_vecs
from pescitrain.snapshots.files.hdf5 import read_hdf5, write_hdf5
from pescitrain.snapshots.files.mesh_series import MESH_ENDINGS, read_series
from pescitrain.snapshots.files.npz import read_npz, write_npz
from pescitrain.snapshots.files.own_binary import header_of, read_binary, write_binary

HDF5_ENDINGS = (".h5", ".hdf5")


def read_content(
    path: str | PathLike[str],
    comm: MPI.Intracomm,
    parameters: str | PathLike[str] | None = None,
    coordinates: str | PathLike[str] | None = None,
    field: str | None = None,
    recover: bool = False,
) -> Content:
    """The snapshots of a file, or of the files of a pattern, at this rank's locations. Collective.

    Raises
    ------
    SnapshotError       on all ranks: what is wrong, where, and what to do
    """
    name = os.fspath(path)
    reading = Reading(
        comm,
        None if parameters is None else os.fspath(parameters),
        None if coordinates is None else os.fspath(coordinates),
        field,
        recover,
    )
    paths, ours = on_root(comm, lambda: _found(name))
    kind = paths[0].suffix.lower()
    if kind in (".npz", *HDF5_ENDINGS) and len(paths) > 1:
        raise SnapshotError(f"{name}: it stands for {len(paths)} files; give one {kind} file")
    if kind in HDF5_ENDINGS:
        content = read_hdf5(paths[0], reading)
    elif kind == ".npz" or kind in MESH_ENDINGS:
        whole = None
        with agreed(comm):
            if comm.rank == 0:
                whole = read_npz(paths[0], reading) if kind == ".npz" else read_series(paths, reading)
        content = reading.scatter(whole)
    else:
        content = read_binary(paths[0], reading) if ours else read_vecs(paths, reading)
    return checked(content, reading, name)


def _found(name: str) -> tuple[list[Path], bool]:
    """The files that a path or a pattern stands for, numbers in their names in order; whether it is a Vec file of ours.

    For one rank.
    """
    path = Path(name)
    if path.is_file():
        return [path], header_of(path).is_file()
    if path.is_dir():
        raise SnapshotError(f"{name}: it is a folder; give a file, or files by a pattern as '{name}/*.vtu'")
    names = [found for found in glob.glob(name) if Path(found).is_file()]
    if not names:
        raise SnapshotError(f"{name}: there is no such file")
    numbered = sorted(names, key=lambda text: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", text)])
    return [Path(found) for found in numbered], False


def write_content(content: Content, path: str | PathLike[str], comm: MPI.Intracomm) -> None:
    """A file of the kind of its ending; an older one stays until the new one is whole. Collective.

    Raises
    ------
    SnapshotError       on all ranks: it cannot be written
    """
    target = Path(path)
    kind = target.suffix.lower()
    if kind in MESH_ENDINGS:
        raise SnapshotError(f"{target}: snapshots are written as .npz, .h5 or a PETSc binary file, not as {kind}")
    new = target.with_name(target.name + ".new")
    parts = [new]
    with agreed(comm):
        if comm.rank == 0:
            new.touch()
    try:
        if kind == ".npz" or kind in HDF5_ENDINGS:
            whole = _gathered(content, comm)
            with agreed(comm):
                if whole is not None:
                    (write_npz if kind == ".npz" else write_hdf5)(whole, new)
        else:
            write_binary(content, new, comm)
            parts.append(header_of(new))
        with agreed(comm):
            if comm.rank == 0:
                for part, final in zip(parts, (target, header_of(target)), strict=False):
                    part.replace(final)
    finally:
        if comm.rank == 0:
            for part in (
                new,
                header_of(new),
                new.with_name(new.name + ".info"),
            ):  # PETSc's own notes, which say nothing
                part.unlink(missing_ok=True)


def _gathered(content: Content, comm: MPI.Intracomm) -> Content | None:
    """The snapshots at all locations, on rank 0. Collective."""
    everywhere = comm.gather((content.locations, content.values))
    if everywhere is None:
        return None
    locations, values = (list(parts) for parts in zip(*everywhere, strict=True))
    return replace(content, locations=np.concatenate(locations), values=np.concatenate(values, axis=1))
