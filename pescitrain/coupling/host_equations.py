"""A host's equations as a term: its SNES function, or its matrix and right-hand side, at its own nodes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc

from pescitrain.algebra.options import set_default
from pescitrain.coupling.columns import times_columns
from pescitrain.coupling.locations import locations_of
from pescitrain.errors import ProblemError
from pescitrain.problem.discrete import Discrete, DiscreteOperator

Array = NDArray[np.float64]


class HostEquations:
    """F(u) = 0 of a host, through Vecs and Mats of its own: a :class:`~pescitrain.problem.discrete.DiscreteEquations`.

    Parameters
    ----------
    function : callable         (u, F) with Vecs: F(u) into F. Collective.
    jacobian : callable         u -> the Mat F'(u), which is looked at before the next call. Collective.
    vec : Vec                   of the layout of u; it is not changed
    locations : (K, d)          of this rank's nodes; the local values of u are K groups of k
    """

    def __init__(
        self,
        function: Callable[[PETSc.Vec, PETSc.Vec], None],
        jacobian: Callable[[PETSc.Vec], PETSc.Mat],
        vec: PETSc.Vec,
        locations: ArrayLike,
    ) -> None:
        self.comm: MPI.Intracomm = vec.getComm().tompi4py()
        self.locations: Array = np.asarray(locations, dtype=np.float64)
        self._function, self._jacobian = function, jacobian
        self._inverse: PETSc.PC | None = None
        self._u, self._residual, self._other = vec.duplicate(), vec.duplicate(), vec.duplicate()
        self.rows = self._u.getLocalSize()
        nodes = len(self.locations) if self.locations.ndim == 2 else -1
        fits = nodes >= 0 and (self.rows == 0 if nodes == 0 else self.rows % nodes == 0)
        if not self.comm.allreduce(fits, MPI.LAND):
            raise ProblemError(
                f"the equations of the simulation: {self.rows} values and locations {self.locations.shape} here do "
                "not fit; give (K, d), a row for each node that the Vec has here"
            )
        self._matrix: PETSc.Mat | None = None
        self._matrix_at: tuple[Array, int] | None = None

    def residual(self, values: Array) -> Array:
        """F(u). Collective."""
        self._u.setArray(values.reshape(-1))
        self._function(self._u, self._residual)
        if self._inverse is None:
            return self._residual.array_r.copy()
        self._inverse.apply(self._residual, self._other)
        return self._other.array_r.copy()

    def times(self, values: Array, changes: Array) -> Array:
        """F'(u) V. Collective."""
        return times_columns(self._linearize(values), changes, self._inverse)

    def transpose_times(self, values: Array, cotangents: Array) -> Array:
        """F'(u)ᵀ W. Collective."""
        matrix = self._linearize(values)
        result = np.empty((self.rows, cotangents.shape[1]))
        for column in range(cotangents.shape[1]):
            self._residual.setArray(cotangents[:, column])
            given = self._residual
            if self._inverse is not None:
                self._inverse.applyTranspose(self._residual, self._other)
                given = self._other
            matrix.multTranspose(given, self._u)
            result[:, column] = self._u.array_r
        return result

    def _linearize(self, values: Array) -> PETSc.Mat:
        if self._matrix is None or not self._known(values):
            self._u.setArray(values.reshape(-1))
            self._matrix = self._jacobian(self._u)
            self._matrix_at = values, self._matrix.stateGet()
        return self._matrix

    def _known(self, values: Array) -> bool:
        """Whether the matrix is that of this array, and the host has not used it for a solve of its own since.

        By the array, not its numbers, so that ranks agree without a reduction. Not collective.
        """
        assert self._matrix is not None and self._matrix_at is not None
        at, state = self._matrix_at
        return values is at and state == self._matrix.stateGet()

    def forget(self) -> None:
        """The host's coefficients have changed. Not collective."""
        self._matrix = None

    def invert(self, kind: str, prefix: str) -> None:
        """Put a PC of F'(0) before F from now on; ``<prefix>pc_type`` and the like choose another. Collective."""
        zero = np.zeros((len(self.locations), self.rows // max(1, len(self.locations))))
        own = self._linearize(zero).duplicate(copy=True)
        pc = PETSc.PC().create(own.getComm())
        pc.setOptionsPrefix(prefix)
        pc.setOperators(own)
        direct = kind in (PETSc.PC.Type.LU, PETSc.PC.Type.CHOLESKY)
        pc.setType(PETSc.PC.Type.REDUNDANT if direct and self.comm.size > 1 else kind)
        if direct and self.comm.size > 1:
            set_default(f"{prefix}redundant_pc_type", kind)
        pc.setFromOptions()
        pc.setUp()
        own.destroy()  # the PC keeps it
        self._inverse = pc

    def destroy(self) -> None:
        """Collective; the objects of the host stay."""
        for vec in (self._u, self._residual, self._other):
            vec.destroy()
        if self._inverse is not None:
            self._inverse.destroy()


def PETScResidual(
    host: PETSc.SNES | PETSc.Mat,
    rhs: PETSc.Vec | None = None,
    *,
    locations: ArrayLike | None = None,
    inverse: str | None = None,
    inputs: ArrayLike | None = None,
    set_inputs: Callable[[Array], object] | None = None,
    weight: float = 1.0,
    name: str = "equations",
) -> Discrete:
    """The term ½ weight ‖F(u_θ)‖² of a host's own equations at its own nodes. Collective.

    With ``inputs`` it is for an operator, which needs no data then: the mean over them of ½ weight ‖F(u_θ(a); a)‖².

    Parameters
    ----------
    host : SNES or Mat      F and F' are those of the SNES; or F(u) = A u − ``rhs``
    locations : (K, d)      of this rank's nodes; None: from the DM of the SNES
    inverse : str           type of a PC with a transpose ("lu", "ilu", "hypre", …), made once of M = F'(0):
                            ½ weight ‖M⁻¹ F(u_θ)‖², near to the error, which ‖F‖ weighs by the operator. Its options are
                            ``-<name>_pc_*``.
    inputs : (N, s)         of the operator
    set_inputs : callable   makes the host's equations those of one input (s,)

    Raises
    ------
    ProblemError            the host does not say where its nodes are, or numbers that do not fit
    """
    if isinstance(host, PETSc.Mat):
        if rhs is None or locations is None:
            raise ProblemError(f"term {name!r}: a matrix needs its right-hand side, and locations=(K, d) of its rows")

        def affine(u: PETSc.Vec, out: PETSc.Vec) -> None:
            host.mult(u, out)
            out.axpy(-1.0, rhs)

        equations = HostEquations(affine, lambda _: host, rhs, locations)
    else:
        equations = _of_snes(host, locations, name)
    if inverse is not None:
        equations.invert(inverse, f"{name}_")
    if inputs is None:
        return Discrete(equations, weight=weight, name=name)
    rows = np.asarray(inputs, dtype=np.float64)
    if set_inputs is None or rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ProblemError(
            f"term {name!r}: inputs {rows.shape} must be (N, s), finite, with a function set_inputs of (s,)"
        )
    if equations.rows != len(equations.locations):
        raise ProblemError(f"term {name!r}: an operator gives one value at a node, the equations have more")
    return DiscreteOperator(equations, rows, set_inputs, weight=weight, name=name)


def _of_snes(host: PETSc.SNES, locations: ArrayLike | None, name: str) -> HostEquations:
    if locations is None:
        dm = host.getDM()
        if not dm.handle or dm.getType() == PETSc.DM.Type.SHELL:  # which a SNES makes itself
            raise ProblemError(
                f"term {name!r}: the SNES has no DM of nodes; give locations=(K, d) of this rank's nodes"
            )
        locations = locations_of(dm)
    host.setUp()
    vec = host.getFunction()[0]
    if not vec or not vec.handle:
        raise ProblemError(f"term {name!r}: the SNES has no function: set it before the term is made")

    def jacobian(u: PETSc.Vec) -> PETSc.Mat:
        matrix, other = host.getJacobian()[:2]
        host.computeJacobian(u, matrix, other)
        return matrix

    return HostEquations(host.computeFunction, jacobian, vec, locations)
