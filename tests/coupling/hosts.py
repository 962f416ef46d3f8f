"""A simulation that knows nothing of pescitrain: the one of the examples, small and solved to the last digits."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from petsc4py import PETSc

FILE = Path(__file__).resolve().parents[2] / "examples" / "coupling" / "bratu_host.py"


def _module():
    spec = importlib.util.spec_from_file_location("bratu_host", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Bratu(_module().Bratu):
    """With its Vec and Mat at hand; ``solve`` gives a new Vec."""

    def __init__(self, size=9, rate=2.0, comm=PETSc.COMM_WORLD):
        super().__init__(size, comm)
        self.rate = rate
        self.residual, self.matrix = self.snes.getFunction()[0], self.snes.getJacobian()[0]
        self.snes.setTolerances(rtol=1e-12)
        self.snes.ksp.setType("preonly")
        self.snes.ksp.pc.setType("lu" if PETSc.Comm(comm).size == 1 else "redundant")

    def solve(self, rate=None):
        super().solve(self.rate if rate is None else rate, 1.0)
        return self.x.copy()
