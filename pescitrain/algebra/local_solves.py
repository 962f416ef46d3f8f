"""The local solves of a two-level method: a PC on the blocks of θ."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.network_dm import blocks_of_rank, index_set
from pescitrain.algebra.options import SCHWARZ, get_string, set_default


class LocalSolves:
    """B ≈ A⁻¹ by a PC with the blocks of a network's DM. Construction is collective.

    Where no block of ``asm`` has a parameter of another rank, it is the PC of the rank's own rows and columns: the same
    B, for whose submatrices PETSc need not ask all ranks.

    Attributes
    ----------
    alone : bool        whether it is

    Options, with ``prefix``
    ------------------------
    -pc_type asm
    """

    def __init__(self, matrix: PETSc.Mat, dm: PETSc.DM, prefix: str) -> None:
        for key, value in SCHWARZ.items():
            set_default(prefix + key, value)
        layout, blocks = dm.getAttr("layout"), dm.getAttr("blocks")
        assert isinstance(layout, ParameterLayout)
        assert isinstance(blocks, list)
        own: list[Block] = blocks_of_rank(layout, blocks)
        kept = all(block.active[0] >= layout.start and block.active[-1] < layout.stop for block in own)
        asm = get_string(f"{prefix}pc_type") == PETSc.PC.Type.ASM and not PETSc.Options(prefix).hasName(
            "pc_asm_overlap"
        )
        self.alone = asm and layout.mpi_comm.allreduce(kept, MPI.LAND)
        self._pc = PETSc.PC().create(PETSc.COMM_SELF if self.alone else matrix.getComm())
        self._pc.setOptionsPrefix(prefix)
        if self.alone:
            self._right, self._solution = (PETSc.Vec().createSeq(layout.local_size) for _ in range(2))
            self._pc.setType(PETSc.PC.Type.ASM)
            nothing = np.zeros(0, dtype=PETSc.IntType)
            sets = [
                [index_set(indices - layout.start) for indices in part] or [index_set(nothing)]
                for part in ([block.active for block in own], [block.owned for block in own])
            ]
            self._pc.setASMLocalSubdomains(len(sets[0]), *sets)
        else:
            self._pc.setDM(dm)
        self._take(matrix)
        self._pc.setFromOptions()

    def _take(self, matrix: PETSc.Mat) -> None:
        rows = matrix.getDiagonalBlock() if self.alone else matrix
        self._pc.setOperators(rows, rows)

    def update(self, matrix: PETSc.Mat) -> None:
        """Factor the blocks of A (n, n). Collective."""
        self._take(matrix)
        self._pc.setUp()

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = B x. Collective."""
        if not self.alone:
            self._pc.apply(x, y)
            return
        x.getLocalVector(self._right, readonly=True)
        y.getLocalVector(self._solution)
        self._pc.apply(self._right, self._solution)
        y.restoreLocalVector(self._solution)
        x.restoreLocalVector(self._right, readonly=True)

    def view(self, viewer: PETSc.Viewer) -> None:
        """The PC, or that of the first rank. Collective."""
        if not self.alone:
            self._pc.view(viewer)
            return
        own = viewer.getSubViewer(PETSc.COMM_SELF)
        if viewer.comm.rank == 0:
            self._pc.view(own)
        viewer.restoreSubViewer(own)

    def destroy(self) -> None:
        """Collective."""
        self._pc.destroy()
        if self.alone:
            self._right.destroy()
            self._solution.destroy()
