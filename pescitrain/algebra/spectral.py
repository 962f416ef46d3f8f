"""Two-level Schwarz with a spectral coarse space as a PC type: ``-pc_type spectral``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import cho_factor, cho_solve, eigh

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.operators import LinearizedGaussNewton, decouple, gauss_newton_behind
from pescitrain.algebra.options import get_choice
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization

Array = NDArray[np.float64]

TYPES = ("deflation", "additive")
LOCALS = ("identity", "blocks")


@dataclass(frozen=True)
class _BlockEigenvectors:
    """All of one block, on the rank that owns it: values descending."""

    indices: NDArray[np.integer]
    values: Array
    vectors: Array


class SpectralSchwarz:
    """A coarse solve on the leading eigenvectors of the blocks of JᵀJ, and a local part on what they leave.

    The blocks know nothing of one another; all of them reach the same few hundred directions of the residual, so that
    JᵀJ + λI is nearly singular where changes of several blocks cancel. The columns of Q, the leading eigenvectors of
    every block, span these changes, and the coarse matrix E = Qᵀ(JᵀJ + λI)Q = (JQ)ᵀ(JQ) + λI comes from J itself.
    With H = JᵀJ + λI, C = Q E⁻¹ Qᵀ and the local part S:

        deflation   C + (I − C H) S (I − H C)       no product with H: H Q is kept
        additive    C + S, or C + (I − Q Qᵀ) S where S is the identity

    S is the identity over λ + the largest eigenvalue that was left out, or the sum of the inverses of the blocks.

    Source: coarse spaces of local eigenvectors, Spillane et al., Numer. Math. 126 (2014) 741-770; deflation as A-DEF2
    of Tang et al., J. Sci. Comput. 39 (2009) 340-370, in its symmetric form BNN.

    Options (with the prefix of the PC)
    -----------------------------------
    -pc_spectral_vectors 20         of each block; the blocks are those of -part_type and -part_blocks
    -pc_spectral_type deflation     or additive
    -pc_spectral_local identity     or blocks
    """

    def __init__(self) -> None:
        self.vectors, self.type, self.local = 20, "deflation", "identity"
        self._at: Linearization | None = None
        self._source: LinearizedGaussNewton | None = None
        self._blocks: list[_BlockEigenvectors] = []
        self._basis, self._products, self._coarse_matrix = np.zeros((0, 0)), np.zeros((0, 0)), np.zeros((0, 0))
        self._images = np.zeros((0, 0))
        self._left_out = 0.0
        self._coarse = (np.zeros((0, 0)), True)
        self._diagonal = np.zeros(0)

    def setFromOptions(self, pc: PETSc.PC) -> None:
        """Read ``-pc_spectral_*``.

        Raises
        ------
        OptionError
        """
        prefix = pc.getOptionsPrefix() or ""
        self.vectors = PETSc.Options(pc).getInt("pc_spectral_vectors", self.vectors)
        if self.vectors < 1:
            raise OptionError(f"-{prefix}pc_spectral_vectors {self.vectors}: it must be at least 1")
        self.type = get_choice(f"{prefix}pc_spectral_type", self.type, TYPES)
        self.local = get_choice(f"{prefix}pc_spectral_local", self.local, LOCALS)

    def setUp(self, pc: PETSc.PC) -> None:
        """Eigenvectors and coarse matrix of a new linearization; a new λ costs a factorisation of E. Collective."""
        source = gauss_newton_behind(pc, "spectral")
        layout = source.layout
        mine = slice(layout.start, layout.stop)
        if self._at is not source.linearization:
            basis = self._coarse_basis(source, pc.getDM().getAttr("blocks"))
            products = source.coupled_products(basis)
            self._coarse_matrix = basis.T @ products
            self._basis, self._products = basis[mine].copy(), products[mine].copy()
            self._at, self._source = source.linearization, source
        damping = source.shift_of_identity
        self._images = self._products + damping * self._basis
        self._coarse = cho_factor(self._coarse_matrix + damping * np.eye(len(self._coarse_matrix)))
        diagonal = np.full(layout.size, damping + self._left_out)
        diagonal[source.uncoupled] = source.diagonal[source.uncoupled] + damping
        self._diagonal = diagonal[mine]

    def _coarse_basis(self, source: LinearizedGaussNewton, blocks: list[Block]) -> Array:
        """Q (n, K), orthonormal, the same on all ranks. Collective."""
        layout, comm = source.layout, source.layout.mpi_comm
        owners = [layout.owner(int(block.owned[0])) for block in blocks]
        counts = [min(self.vectors, len(block.owned)) for block in blocks]
        places = np.concatenate(([0], np.cumsum(counts)))
        require_room(
            sum(len(block.owned) ** 2 for block in blocks),
            f"-pc_type spectral: the matrix of {len(blocks)} blocks",
            "use -pc_type kfac, nystrom or woodbury, which hold no entries",
            comm,
        )
        basis, left_out = np.zeros((layout.size, places[-1])), 0.0
        self._blocks = []
        matrices = source.linearization.gauss_newton_blocks([block.owned for block in blocks], owners)
        for block, matrix, count, place in zip(blocks, matrices, counts, places[:-1], strict=True):
            if matrix is None:
                continue
            decouple(matrix, np.flatnonzero(np.isin(block.owned, source.uncoupled)))
            values, vectors = (part[..., ::-1] for part in eigh(matrix))
            basis[block.owned, place : place + count] = vectors[:, :count]
            left_out = max(left_out, *values[count : count + 1], 0.0)
            if self.local == "blocks":
                self._blocks.append(_BlockEigenvectors(block.owned, np.maximum(values, 0.0), vectors))
        comm.Allreduce(MPI.IN_PLACE, basis)
        self._left_out = float(comm.allreduce(left_out, op=MPI.MAX))
        return basis

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective: one or two reductions of K numbers; with local blocks one of n more."""
        right = x.array_r.copy()
        first = self._coarse_solve(self._basis, right)
        if self.type == "deflation":
            rest = self._local(right - self._images @ first)
            second = self._coarse_solve(self._images, rest)
            y.setArray(rest + self._basis @ (first - second))
            return
        if self.local == "identity":
            projected = self._reduced(self._basis.T @ right)
            right -= self._basis @ projected
        y.setArray(self._local(right) + self._basis @ first)

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric."""
        self.apply(pc, x, y)

    def _coarse_solve(self, columns: Array, values: Array) -> Array:
        """E⁻¹ Vᵀ x of columns V (this rank's rows). Collective."""
        return cho_solve(self._coarse, self._reduced(columns.T @ values), check_finite=False)

    def _reduced(self, part: Array) -> Array:
        assert self._source is not None
        self._source.layout.mpi_comm.Allreduce(MPI.IN_PLACE, part)
        return part

    def _local(self, values: Array) -> Array:
        """S x on this rank's rows. Collective where S is blocks."""
        if self.local == "identity":
            return values / self._diagonal
        assert self._source is not None
        layout, damping = self._source.layout, self._source.shift_of_identity
        whole, result = np.concatenate(layout.mpi_comm.allgather(values)), np.zeros(layout.size)
        for block in self._blocks:
            coefficients = block.vectors.T @ whole[block.indices]
            result[block.indices] = block.vectors @ (coefficients / (block.values + damping))
        return self._reduced(result)[layout.start : layout.stop]

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """The settings, and the dimension of the coarse space."""
        viewer.printfASCII(
            f"  two-level Schwarz: type={self.type} local={self.local} coarse space of {len(self._coarse_matrix)}\n"
        )
