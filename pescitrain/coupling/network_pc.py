"""A trained network as a preconditioner of a host's linear solves, by options alone from any PETSc program."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc
from scipy.linalg import lu_factor, lu_solve

from pescitrain.coupling.columns import times_columns
from pescitrain.coupling.locations import locations_of
from pescitrain.coupling.prediction import Model, function_of
from pescitrain.errors import OptionError, PescitrainError

Array = NDArray[np.float64]

INDEPENDENT = 1e-10
"""Directions in the span of the functions whose square is smaller than this, relative to the largest, are dropped."""

VEC_FILE_CLASSID = 1211214
"""First number of a Vec in a PETSc binary file."""


class NetworkPC:
    """Python PC: a coarse correction in the space of a network's functions.

    With T (K, p) the functions that a trained trunk gives at the host's nodes, made orthonormal, and the coarse matrix
    E = TᵀAT of the host's present A,

        z = T E⁻¹ Tᵀ r.

    It is linear, and a projection: it goes with a smoother, as

        -pc_type composite -pc_composite_type multiplicative -pc_composite_pcs python,sor
        -sub_0_pc_python_type pescitrain.coupling.NetworkPC -sub_0_pc_network_file basis.pt2

    (trunk basis: Kopaničáková and Karniadakis, arXiv:2401.02016). ``-pc_network_file`` is what
    :meth:`~pescitrain.Solver.save_basis` wrote; nodes come from the DM of the PC or of its matrix, or from the Vec in
    ``-pc_network_coordinates``.

    Parameters
    ----------
    model           (K, d) -> (K, p); None: from ``-pc_network_file``
    where           DM or (K, d), this rank's nodes; None: as above
    """

    def __init__(self, model: Model | None = None, where: PETSc.DM | ArrayLike | None = None) -> None:
        self._model, self._where = model, where
        self._functions: Array | None = None

    def setFromOptions(self, pc: PETSc.PC) -> None:
        """Read ``-pc_network_*``."""
        options, prefix = PETSc.Options(), pc.getOptionsPrefix() or ""
        file = options.getString(f"{prefix}pc_network_file", "")
        if file:
            self._model = file
        coordinates = options.getString(f"{prefix}pc_network_coordinates", "")
        if coordinates:
            self._where = _read_coordinates(coordinates, pc)

    def setUp(self, pc: PETSc.PC) -> None:
        """Coarse matrix of the present operator; the functions once. Collective.

        Raises
        ------
        OptionError     no network, or no nodes
        """
        comm = pc.getComm().tompi4py()
        matrix, _ = pc.getOperators()
        if self._functions is None:
            failure, functions = "", np.zeros((0, 0))
            try:
                functions = self._evaluate(pc, matrix)
            except (PescitrainError, OSError) as error:
                failure = str(error)
            texts = [text for text in comm.allgather(failure) if text]
            if texts:
                raise OptionError(texts[0])
            self._functions = orthonormal(functions, comm)
        image = times_columns(matrix, self._functions)
        self._coarse = lu_factor(comm.allreduce(self._functions.T @ image))

    def _evaluate(self, pc: PETSc.PC, matrix: PETSc.Mat) -> Array:
        prefix = pc.getOptionsPrefix() or ""
        if self._model is None:
            raise OptionError(f"-{prefix}pc_network_file: give the file of a trained network's functions")
        where = self._where
        if where is None:
            dm = next((dm for dm in (pc.getDM(), matrix.getDM()) if dm and dm.handle), None)
            if dm is None or dm.getType() == PETSc.DM.Type.SHELL:
                raise OptionError(
                    f"-{prefix}pc_network_coordinates: neither the PC nor its matrix has a DM that knows the nodes; "
                    "give a file with a Vec of their coordinates, node by node"
                )
            where = dm
        nodes = locations_of(where)
        functions = np.asarray(function_of(self._model)(nodes))
        rows = matrix.getLocalSize()[0]
        if len(functions) != rows:
            raise OptionError(
                f"-{prefix}pc_network_file: its functions have {len(functions)} values here, the matrix {rows} rows: "
                "it is for one value at each node"
            )
        return functions

    def apply(self, _: PETSc.PC, r: PETSc.Vec, z: PETSc.Vec) -> None:
        """z = T E⁻¹ Tᵀ r. Collective."""
        self._correct(r, z, 0)

    def applyTranspose(self, _: PETSc.PC, r: PETSc.Vec, z: PETSc.Vec) -> None:
        """z = T E⁻ᵀ Tᵀ r. Collective."""
        self._correct(r, z, 1)

    def _correct(self, r: PETSc.Vec, z: PETSc.Vec, transposed: int) -> None:
        assert self._functions is not None
        coarse = r.getComm().tompi4py().allreduce(self._functions.T @ r.array_r)
        z.setArray(self._functions @ lu_solve(self._coarse, coarse, trans=transposed))

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """The size of the space."""
        size = "not yet made" if self._functions is None else f"of {self._functions.shape[1]} functions"
        viewer.printfASCII(f"  coarse space of a network, {size}\n")


def orthonormal(functions: Array, comm) -> Array:
    """An orthonormal basis (K, q) of the columns (K, p), whose rows are distributed; q ≤ p. Collective.

    By the Gram matrix twice, which leaves orthogonality to round-off.
    """
    for _ in range(2):
        values, vectors = np.linalg.eigh(comm.allreduce(functions.T @ functions))
        keep = values > INDEPENDENT * values[-1]
        functions = functions @ (vectors[:, keep] / np.sqrt(values[keep]))
    return functions


def _read_coordinates(file: str, pc: PETSc.PC) -> Array:
    """A Vec of coordinates, node by node, with the nodes of the rows that this rank has. Collective."""
    matrix, _ = pc.getOperators()
    rows, total = matrix.getLocalSize()[0], matrix.getSize()[0]
    comm = pc.getComm()
    size = comm.tompi4py().bcast(_entries(file) if comm.rank == 0 else None)
    if size is None or size % total:
        raise OptionError(
            f"-pc_network_coordinates {file}: it must be a PETSc binary file with one Vec of d numbers for each of the "
            f"{total} rows"
        )
    vec = PETSc.Vec().createMPI((rows * (size // total), size), comm=comm)
    viewer = PETSc.Viewer().createBinary(file, "r", comm=comm)
    vec.load(viewer)
    viewer.destroy()
    coordinates = vec.array_r.reshape(rows, -1).copy()
    vec.destroy()
    return coordinates


def _entries(file: str) -> int | None:
    """Length of the one Vec that is a PETSc binary file, or None."""
    try:
        header = np.fromfile(file, dtype=">i4", count=2)
        size = np.memmap(file, mode="r").size
    except (OSError, ValueError):
        return None
    whole = len(header) == 2 and header[0] == VEC_FILE_CLASSID and size == 8 + 8 * int(header[1])
    return int(header[1]) if whole else None
