"""Local filtering of features by rank-revealing QR factorisations as a PC type: ``-pc_type filter``."""

from __future__ import annotations

from typing import cast

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import qr, solve_triangular

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.operators import LinearizedGaussNewton, gauss_newton_behind
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization

Array = NDArray[np.float64]


class LocalFiltering:
    """M = Σ T⁻¹ T⁻ᵀ over the blocks, each on those of its parameters that the others of the block do not replace.

    Of the columns of [J; √λ I] that belong to a block, with its overlap, a QR factorisation with column pivoting gives
    the order in which they matter. From the first entry of the diagonal of R that is below the tolerance they are
    dropped, and T is R without them: what all blocks drop stays as it is. The columns of J T⁻¹ are orthonormal in each
    block, which makes T⁻¹ the right preconditioner of a least-squares problem (``-ksp_type lsqr``). R is made from J,
    not from JᵀJ.

    Source: van Beek, Dolean & Moseley, arXiv:2506.17626, there without overlap and λ.

    Options (with the prefix of the PC)
    -----------------------------------
    -pc_filter_tolerance 1e-10      of the diagonal of R, relative to its first entry
    """

    def __init__(self) -> None:
        self.tolerance = 1e-10
        self._at: Linearization | None = None
        self._layout: ParameterLayout | None = None
        self._factors: list[tuple[Block, Array]] = []
        self._inverses: list[tuple[NDArray[np.integer], Array]] = []

    def setFromOptions(self, pc: PETSc.PC) -> None:
        """Read ``-pc_filter_tolerance``.

        Raises
        ------
        OptionError
        """
        self.tolerance = PETSc.Options(pc).getReal("pc_filter_tolerance", self.tolerance)
        if not 0.0 < self.tolerance < 1.0:
            prefix = pc.getOptionsPrefix() or ""
            raise OptionError(f"-{prefix}pc_filter_tolerance {self.tolerance:g}: it must be above 0 and below 1")

    def setUp(self, pc: PETSc.PC) -> None:
        """QR factorisations of a new linearization; a new λ costs those of the small factors. Collective."""
        source = gauss_newton_behind(pc, "filter")
        if self._at is not source.linearization:
            self._factors = self._triangular_factors(source, pc.getDM().getAttr("blocks"))
            self._at, self._layout = source.linearization, source.layout
        self._inverses = [self._filtered(block, factor, source) for block, factor in self._factors]

    def _triangular_factors(self, source: LinearizedGaussNewton, blocks: list[Block]) -> list[tuple[Block, Array]]:
        """R of the columns of J of each block of this rank. Collective."""
        owners = [source.layout.owner(int(block.owned[0])) for block in blocks]
        require_room(
            sum(len(block.active) ** 2 for block in blocks),
            f"-pc_type filter: the matrix of {len(blocks)} blocks",
            "use -pc_type kfac, nystrom or woodbury, which hold no entries",
            source.layout.mpi_comm,
        )
        factors = source.linearization.triangular_factors([block.active for block in blocks], owners)
        return [(block, factor) for block, factor in zip(blocks, factors, strict=True) if factor is not None]

    def _filtered(
        self, block: Block, factor: Array, source: LinearizedGaussNewton
    ) -> tuple[NDArray[np.integer], Array]:
        """The parameters that a block keeps, and T⁻¹."""
        alone = np.isin(block.active, source.uncoupled)
        lengths = np.linalg.norm(factor, axis=0)
        damped = np.sqrt(source.shift_of_identity) * np.eye(len(block.active))
        rows = np.vstack((np.where(alone, 0.0, factor), np.diag(np.where(alone, lengths, 0.0))[alone], damped))
        result = qr(rows, mode="r", pivoting=True, check_finite=False)
        triangle, order = cast("tuple[Array, NDArray[np.integer]]", result)  # the stubs do not know what pivoting adds
        diagonal = np.abs(triangle.diagonal())
        dropped = diagonal <= self.tolerance * diagonal[0]
        count = int(dropped.argmax()) if dropped.any() else len(dropped)
        inverse = solve_triangular(triangle[:count, :count], np.eye(count), check_finite=False)
        return block.active[order[:count]], inverse

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective: gathers x and sums n numbers."""
        assert self._layout is not None
        right, result = self._layout.gather(x), np.zeros(self._layout.size)
        for kept, inverse in self._inverses:
            result[kept] += inverse @ (inverse.T @ right[kept])
        self._layout.mpi_comm.Allreduce(MPI.IN_PLACE, result)
        self._layout.set(y, result)

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric."""
        self.apply(pc, x, y)

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """How many parameters are kept, those in several blocks as often."""
        kept = sum(len(indices) for indices, _ in self._inverses)
        total = sum(len(block.active) for block, _ in self._factors)
        if self._layout is not None:
            kept, total = (self._layout.mpi_comm.allreduce(number) for number in (kept, total))
        viewer.printfASCII(f"  local filtering: {kept} of {total} parameters kept at tolerance {self.tolerance:g}\n")
