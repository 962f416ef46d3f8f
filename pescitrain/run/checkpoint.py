"""Checkpoints: everything that a run needs to continue as if it had not stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.errors import RestartError
from pescitrain.evaluation import Evaluator
from pescitrain.geometry.points import share
from pescitrain.networks import Network
from pescitrain.networks.device import on_host
from pescitrain.solvers.outcome import Memory

Array = NDArray[np.float64]


@dataclass
class State:
    """Where a run stands: between two iterations of a stage.

    ``rounds``: of everything that refreshes, and ``refreshed`` the iteration of the last one; ``samples``: what this
    rank has, (N, ...) each, of samples that moved, and ``measures`` of the sets of points that they are.
    ``finished``: parameters of the networks that later stages correct, and ``scales`` (1,) of the corrections.
    ``best``: parameters with the smallest error of the stage, or none. ``method``: whose ``memory`` it is, as tao:lm.
    """

    theta: Array
    stage: int = 0
    iteration: int = 0
    wall_s: float = 0.0
    counters: dict[str, float] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    history: str = ""
    stage_start_s: float = 0.0
    rounds: dict[str, int] = field(default_factory=dict)
    refreshed: dict[str, int] = field(default_factory=dict)
    samples: dict[str, NDArray] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    finished: list[Array] = field(default_factory=list)
    scales: list[Array] = field(default_factory=list)
    best: list[Array] = field(default_factory=list)
    method: str = ""


def fingerprint(layout: ParameterLayout, evaluator: Evaluator) -> str:
    """A digest of the shape of θ, of the networks that it is of, of what is frozen and of all points.

    A checkpoint continues the same run or none.

    The same for any number of ranks. Collective.
    """
    digest = hashlib.sha256()
    digest.update(repr([(layer.name, layer.start, layer.stop) for layer in layout.layers]).encode())
    for network in evaluator.surrogate.networks.values():
        if isinstance(network, Network):
            digest.update(f"{type(network).__name__} {network.activation_name}".encode())
            for value in network.frozen().values():
                digest.update(on_host(value).tobytes())
    comm = evaluator.comm
    for term in evaluator.samples:
        digest.update(f"{term.term.label} {term.term.weight!r} {term.count}".encode())
        first = term.begin(comm.rank, comm.size)
        sums = np.array([checksum(term.points.x, first), checksum(term.points.weights, first)])
        if not term.resident:
            comm.Allreduce(MPI.IN_PLACE, sums)
        digest.update(sums.tobytes())
    return digest.hexdigest()


def checksum(rows: Array, first: int) -> np.uint64:
    """The sum modulo 2^64 of a number for each entry of rows (N, ...), which follows from its bits and its place.

    ``first``: the number of the first row, so that the sum for all rows is that for parts of them. The numbers are
    those of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014).
    """
    words = np.ascontiguousarray(rows).reshape(-1).view(np.uint64)
    start = first * int(np.prod(rows.shape[1:]))
    mixed = words ^ (np.arange(start + 1, start + len(words) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.sum(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def save(folder: Path, state: State, layout: ParameterLayout, mark: str) -> None:
    """Write ``folder`` so that at any moment a whole checkpoint is on disk. Collective.

    Vectors are PETSc binary files, which any PETSc program reads; the rest is JSON and CSV.
    """
    comm = layout.mpi_comm
    new = folder.with_name(folder.name + ".new")
    if comm.rank == 0:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    comm.barrier()
    own = {"theta": [state.theta], "best": state.best, "finished": state.finished, "scales": state.scales}
    vectors = {**own, **state.memory}
    viewer = PETSc.Viewer().createBinary(str(new / "vectors.petsc"), "w", comm=layout.comm)
    for arrays in vectors.values():
        for array in arrays:
            vec = _vec(layout, array)
            vec.view(viewer)
            vec.destroy()
    shapes = {name: _view_rows(viewer, layout, rows) for name, rows in state.samples.items()}
    viewer.destroy()
    if comm.rank == 0:
        header: dict[str, Any] = {
            "format": 1,
            "fingerprint": mark,
            "stage": state.stage,
            "iteration": state.iteration,
            "method": state.method,
            "wall_s": state.wall_s,
            "counters": state.counters,
            "stage_start_s": state.stage_start_s,
            "rounds": state.rounds,
            "refreshed": state.refreshed,
            "measures": state.measures,
            "samples": shapes,
            "vectors": {name: [len(array) for array in arrays] for name, arrays in vectors.items()},
        }
        (new / "state.json").write_text(json.dumps(header, indent=1))
        (new / "history.csv").write_text(state.history, newline="")
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    comm.barrier()


def _vec(layout: ParameterLayout, array: Array) -> PETSc.Vec:
    """A Vec of θ's layout, or a short one that rank 0 holds."""
    if len(array) == layout.size:
        return layout.vec_from(array)
    local = len(array) if layout.comm.rank == 0 else 0
    vec = PETSc.Vec().createMPI((local, len(array)), comm=layout.comm)
    vec.setArray(array[:local])
    return vec


def _view_rows(viewer: PETSc.Viewer, layout: ParameterLayout, rows: NDArray) -> list[int]:
    """Write what each rank has of an array (N, ...), in order; how many rows and columns that is. Collective."""
    vec = PETSc.Vec().createMPI((rows.size, None), comm=layout.comm)
    vec.setArray(rows.reshape(-1).astype(np.float64))
    vec.view(viewer)
    vec.destroy()
    return [layout.mpi_comm.allreduce(len(rows)), int(np.prod(rows.shape[1:]))]


def _load_rows(viewer: PETSc.Viewer, layout: ParameterLayout, count: int, columns: int) -> Array:
    """This rank's share (N, columns) of the rows of an array. Collective."""
    begin, end = share(count, layout.comm.rank, layout.comm.size)
    vec = PETSc.Vec().createMPI(((end - begin) * columns, count * columns), comm=layout.comm)
    vec.load(viewer)
    rows = vec.array_r.reshape(end - begin, columns).copy()
    vec.destroy()
    return rows


def load(folder: Path, layout: ParameterLayout, mark: str) -> State:
    """Read a checkpoint on all ranks. Collective.

    Raises
    ------
    RestartError        no checkpoint there, a broken one, or one of another problem, network or set of points
    """
    comm = layout.mpi_comm
    header, history, problem = None, "", ""
    if comm.rank == 0:
        try:
            folder = _whole(folder)
            header = json.loads((folder / "state.json").read_text())
            history = (folder / "history.csv").read_text()
            if header["fingerprint"] != mark:
                problem = (
                    f"the checkpoint {folder} belongs to another run: its network, terms or points differ from these"
                )
        except FileNotFoundError:
            problem = f"there is no checkpoint in {folder}: give the folder `checkpoint` of a run"
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = (
                f"the checkpoint {folder} is broken ({type(error).__name__}: {error}): start without -ckpt_restart"
            )
    header, history, problem, folder = comm.bcast((header, history, problem, folder))
    if problem or header is None:
        raise RestartError(f"-ckpt_restart: {problem}")
    try:
        vectors, samples = _read_vectors(folder / "vectors.petsc", header["vectors"], header["samples"], layout)
        theta, finished, scales = vectors.pop("theta")[0], vectors.pop("finished"), vectors.pop("scales")
        best = vectors.pop("best")
        return State(
            theta,
            header["stage"],
            header["iteration"],
            header["wall_s"],
            header["counters"],
            vectors,
            history,
            header["stage_start_s"],
            header["rounds"],
            header["refreshed"],
            samples,
            header["measures"],
            finished,
            scales,
            best,
            header["method"],
        )
    except (KeyError, AttributeError, PETSc.Error) as error:  # on all ranks: they read the same
        reason = str(error).strip().splitlines()[-1]
        raise RestartError(f"-ckpt_restart: the checkpoint {folder} is broken ({reason})") from error


def _whole(folder: Path) -> Path:
    """The folder, or what a run that was killed while it renamed has left beside it."""
    for candidate in (folder, folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")):
        if (candidate / "state.json").is_file() and (candidate / "history.csv").is_file():
            return candidate
    raise FileNotFoundError(folder)


def _read_vectors(
    path: Path, sizes: dict[str, list[int]], shapes: dict[str, tuple[int, int]], layout: ParameterLayout
) -> tuple[Memory, dict[str, NDArray]]:
    total = sum(8 + 8 * size for lengths in sizes.values() for size in lengths)
    total += sum(8 + 8 * count * columns for count, columns in shapes.values())
    found = layout.mpi_comm.bcast(path.stat().st_size if layout.comm.rank == 0 and path.is_file() else -1)
    if found != total:
        raise RestartError(
            f"-ckpt_restart: {path} has {found} bytes where {total} are needed: the checkpoint is broken"
        )
    viewer = PETSc.Viewer().createBinary(str(path), "r", comm=layout.comm)
    result: Memory = {}
    for name, lengths in sizes.items():
        result[name] = []
        for length in lengths:
            vec = _vec(layout, np.zeros(length))
            vec.load(viewer)
            if length == layout.size:
                result[name].append(layout.gather(vec).copy())
            else:
                result[name].append(layout.mpi_comm.bcast(vec.array_r.copy() if layout.comm.rank == 0 else None))
            vec.destroy()
    samples: dict[str, NDArray] = {
        name: _load_rows(viewer, layout, count, columns) for name, (count, columns) in shapes.items()
    }
    viewer.destroy()
    return result, samples
