"""φ over θ + P z for a few z: minimisation in a subspace by a TAO of its own."""

from __future__ import annotations

from petsc4py import PETSc
from scipy.sparse import csr_array

from pescitrain.algebra import System
from pescitrain.algebra.options import get_string, set_default
from pescitrain.errors import OptionError
from pescitrain.solvers.names import OWN_TAO_TYPES, check_type
from pescitrain.solvers.outcome import Array
from pescitrain.solvers.schwarz.search import Point, point_at

WITHOUT_RESIDUAL = ("adam", "lbfgs")
"""Our own types that need φ and ∇φ alone."""


class Subspace:
    """A TAO in k unknowns, ``-<prefix>tao_*``; the default is our L-BFGS, whose first step is −Pᵀ∇φ.

    All ranks hold z and do the same; only evaluations of φ are shared.
    """

    def __init__(self, system: System, prefix: str, defaults: dict[str, object]) -> None:
        self._system, self._prefix = system, prefix
        for key, value in defaults.items():
            set_default(f"{prefix}{key}", value)
        self._type = get_string(f"{prefix}tao_type", "lbfgs") or "lbfgs"
        if self._type != "python":
            check_type("tao", self._type, f"-{prefix}tao_type")
        if self._type in OWN_TAO_TYPES:
            if self._type not in WITHOUT_RESIDUAL:
                raise OptionError(
                    f"-{prefix}tao_type {self._type} needs the residual of a block of layers; in a subspace use "
                    f"{', '.join(WITHOUT_RESIDUAL)} or a type of TAO"
                )
            PETSc.Options()[f"{prefix}tao_type"] = "python"
            PETSc.Options()[f"{prefix}tao_python_type"] = OWN_TAO_TYPES[self._type]

    def minimise(self, start: Point, basis: Array | csr_array) -> Point:
        """From z = 0, basis (n, k); the start where no φ below it is found. Collective."""
        system, size = self._system, len(basis.T @ start.theta)
        known = {bytes(8 * size): start}

        def at(z: PETSc.Vec) -> Point:
            key = (z.array_r + 0.0).tobytes()  # − 0 is 0
            if key not in known:
                known[key] = point_at(system, start.theta + basis @ z.array_r)
            return known[key]

        def gradient(_: PETSc.TAO, z: PETSc.Vec, g: PETSc.Vec) -> float:
            here = at(z)
            g.setArray(basis.T @ here.gradient)
            return here.value.objective

        z = PETSc.Vec().createSeq(size)
        tao = PETSc.TAO().create(PETSc.COMM_SELF)
        try:
            tao.setOptionsPrefix(self._prefix)
            tao.setObjective(lambda _, z: at(z).value.objective)
            tao.setObjectiveGradient(gradient, z.duplicate())
            tao.setSolution(z)
            tao.setFromOptions()
            tao.solve()
            end = at(z)
        finally:
            tao.destroy()
            z.destroy()
        return end if end.value.objective < start.value.objective else start
