"""The edge to meshio: whatever happens in it becomes a MeshFile or one MeshError, on all ranks."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from xml.etree import ElementTree

import meshio
import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import MeshError
from pescitrain.geometry.conversion import MeshFile, convert

Result = TypeVar("Result")
FilePath = str | os.PathLike[str]


def on_root(comm: MPI.Comm, work: Callable[[], Result]) -> Result:
    """Do ``work`` on rank 0 and give its result to all ranks. Collective.

    Raises MeshError on all ranks, with the same text, where ``work`` raises an exception.
    """
    result, failure = None, None
    if comm.rank == 0:
        try:
            result = work()
        except MeshError as error:
            failure = str(error)
        except Exception as error:  # every failure must reach the other ranks, which wait
            failure = f"An unexpected {type(error).__name__} came up while a mesh was read: {error}"
    result, failure = comm.bcast((result, failure), root=0)
    if failure is not None:
        raise MeshError(failure)
    return result


def read_mesh_file(path: FilePath) -> MeshFile:
    """Read any file that meshio reads. Not collective: call it on one rank, through :func:`on_root`.

    Raises MeshError in one sentence: what is wrong, with which file, what to do.
    """
    try:
        _check_file(Path(path))
        mesh = _quietly(Path(path), meshio.read)
        _check_complete(Path(path), mesh)
        return convert(mesh)
    except MeshError as error:
        cause = str(error)
    except OSError as error:
        cause = f"the system refuses it ({error.strerror}); check its permissions"
    raise MeshError(f"Cannot use the mesh file '{os.fspath(path)}': {cause}.")


@dataclass(frozen=True)
class TimeSeries:
    """Fields on fixed points at several times.

    Attributes
    ----------
    points : (n, c)
    times : (N,) floats
    point_data : {name: (n, ...)} for each time
    trouble : why there are not more of them; empty at the end of a good file
    """

    points: NDArray[np.float64]
    times: tuple[float, ...]
    point_data: tuple[dict[str, NDArray], ...]
    trouble: str


def read_time_series(path: FilePath) -> TimeSeries | None:
    """The steps of an .xdmf file; None where it is one mesh without steps. Not collective, as :func:`read_mesh_file`.

    Raises MeshError in one sentence.
    """
    try:
        _check_file(Path(path))
        return _quietly(Path(path), _steps)
    except MeshError as error:
        cause = str(error)
    except OSError as error:
        cause = f"the system refuses it ({error.strerror}); check its permissions"
    raise MeshError(f"Cannot use the file '{os.fspath(path)}': {cause}.")


def _steps(path: Path) -> TimeSeries | None:
    root = ElementTree.parse(path).getroot()
    if not any(grid.get("GridType") == "Collection" for grid in root.iter("Grid")):
        return None
    times: list[float] = []
    steps: list[dict[str, NDArray]] = []
    with meshio.xdmf.TimeSeriesReader(path) as reader:
        points, _ = reader.read_points_cells()
        for number in range(reader.num_steps):
            try:
                time, point_data, _ = reader.read_data(number)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit among them: the steps before it are good
                return TimeSeries(points, tuple(times), tuple(steps), f"its step {number} is broken ({error!r})"[:160])
            times.append(float(time))
            steps.append(point_data)
    return TimeSeries(np.asarray(points, dtype=np.float64), tuple(times), tuple(steps), "")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise MeshError("it is a folder; give a file" if path.is_dir() else "there is no such file; check the path")
    if path.stat().st_size == 0:
        raise MeshError("it is empty; write it again")
    known: set[str] = set(meshio.extension_to_filetypes)
    if not any("".join(path.suffixes[start:]).lower() in known for start in range(len(path.suffixes))):
        raise MeshError(
            f"the extension '{path.suffix}' is unknown; use .msh, .vtu, .vtk, .xdmf or another format of meshio"
        )
    # Text formats cut in the middle of a number still parse: gmsh's sections must be closed.
    with path.open("rb") as file:
        if file.read(11) == b"$MeshFormat":
            file.seek(max(path.stat().st_size - 64, 0))
            if not file.read().rstrip().rpartition(b"\n")[2].startswith(b"$End"):
                raise MeshError("it is cut off: its last section has no end; write it again")


def _quietly(path: Path, read: Callable[[Path], Result]) -> Result:
    """A reader of meshio, without its printing, its warnings and its way to leave the program."""
    printed = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(),
            np.errstate(all="ignore"),
        ):
            warnings.simplefilter("ignore")
            return read(path)
    except KeyboardInterrupt:
        raise
    except ImportError as error:
        package = error.name or "h5py"
        raise MeshError(
            f"reading it needs the package {package}, which is not installed; install it, or write the data of the "
            "file as XML or binary instead of HDF"
        ) from None
    except BaseException as error:  # SystemExit among them
        if path.suffix == ".msh" and "Incompatible cell data" in str(error):
            raise MeshError(
                "some of its cells have a physical group and others have none; give a group to everything that is "
                "saved, or save only what has a group (Mesh.SaveAll = 0)"
            ) from None
        said = printed.getvalue() if isinstance(error, SystemExit) else str(error)
        if isinstance(error, LookupError):  # its text is but the key
            said = f"{type(error).__name__} {said}"
        cause = f" ({_first_line(said)})" if _first_line(said) else ""
        raise MeshError(f"it is broken or not in the format of its extension{cause}; write it again") from None


def _check_complete(path: Path, mesh: meshio.Mesh) -> None:
    """meshio takes a legacy VTK file that was cut in its list of cell types for a smaller mesh."""
    announced = re.search(rb"^CELL_TYPES\s+(\d+)", path.read_bytes(), re.M) if path.suffix == ".vtk" else None
    if announced and int(announced[1]) != sum(len(block.data) for block in mesh.cells):
        raise MeshError(f"it is cut off: it announces {int(announced[1])} cells and has fewer; write it again")


def _first_line(text: str) -> str:
    lines = [" ".join(line.split()).rstrip(".") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Error: Couldn't read")]  # says no more than we do
    return lines[0][:160] if lines else ""
