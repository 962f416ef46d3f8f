"""G as a SNES: the preconditioner of qn, ngmres, newtonls, … by ``-npc_snes_type spqn``."""

from __future__ import annotations

from typing import Any

from petsc4py import PETSc

from pescitrain.algebra import System
from pescitrain.errors import OptionError
from pescitrain.solvers.schwarz.preconditioner import NonlinearSchwarz
from pescitrain.solvers.schwarz.search import point_at


class SchwarzIteration:
    """x ← G(x) once in each solve (:class:`NonlinearSchwarz`); options ``-npc_snes_spqn_*`` and ``-npc_sub_tao_*``."""

    def __init__(self) -> None:
        self._system: System | None = None
        self._schwarz: NonlinearSchwarz | None = None
        self._applied, self._prefix = 0, ""

    def setFromOptions(self, snes: PETSc.SNES) -> None:
        """Its options are read in :meth:`connect`."""
        self._prefix = snes.getOptionsPrefix() or ""

    def connect(self, system: System, start: int) -> None:
        """The system behind the residual, which SNES does not know; ``start``: solves before this one. Collective."""
        self._system, self._applied = system, start
        self._schwarz = NonlinearSchwarz(system, self._prefix, "snes_spqn_")

    def solve(self, snes: PETSc.SNES, _: PETSc.Vec | None, x: PETSc.Vec) -> None:
        """One G, and the residual there, which the outer method reads. Collective."""
        if self._system is None or self._schwarz is None:
            raise OptionError("-npc_snes_type spqn needs a pescitrain system; use it through pescitrain")
        system = self._system
        there = self._schwarz.apply(point_at(system, system.layout.gather(x).copy()), self._applied)
        self._applied += 1
        system.layout.set(x, there.theta)
        residual = snes.getFunction()[0]
        snes.computeFunction(x, residual)
        snes.setConvergedReason(PETSc.SNES.ConvergedReason.CONVERGED_ITS)

    def destroy(self, _: Any = None) -> None:
        """Collective."""
        if self._schwarz is not None:
            self._schwarz.destroy()
        self._system = self._schwarz = None
