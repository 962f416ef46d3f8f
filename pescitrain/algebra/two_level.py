"""Two-level overlapping Schwarz with a coarse space of local eigenvectors, for sparse JᵀJ: ``-pc_type two_level``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import cho_factor, cho_solve, eigh

from pescitrain.algebra.coarse_solve import CoarseSolve
from pescitrain.algebra.decomposition import Block, with_neighbours
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.local_solves import LocalSolves
from pescitrain.algebra.operators import ShiftedMatrix
from pescitrain.algebra.options import get_choice
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization
from pescitrain.evaluation.couplings import Couplings

Array = NDArray[np.float64]

TYPES = ("deflation", "additive")

RIDGE = 1e-10
"""The least shift of the local eigenproblems, relative to the largest entry of the diagonal: S is singular."""


LOCAL_NUMBERS = 16_000_000
"""In the matrices of the local eigenproblems that a rank has at a time."""


class TwoLevelSchwarz:
    """Overlapping local solves, and a coarse solve on what they cannot see.

    For a block with parameters O let I ⊃ O have those of its overlap too, or of its neighbours where it has none, and
    Ã be JᵀJ on I from those samples alone that see a parameter of O: a part of A, positive semidefinite and local. The
    coarse space takes the eigenvectors of (JᵀJ)_OO u = μ S u with the largest μ, S being the Schur complement of Ã
    on O: changes that cost much alone and little together with those of the neighbours. With P their columns,
    C = P (PᵀAP)⁻¹ Pᵀ and the local solves B:

        deflation   C + (I − C A) B (I − A C)
        additive    C + B

    A Krylov method for A x = b that starts at C b has residuals r with Pᵀr = 0 only. Between :meth:`deflate` and
    :meth:`release`, ``deflation`` is therefore C + (I − C A) B, which is the same for them and takes half of the
    coarse solves and one product less (A-DEF2: Tang, Nabben, Vuik & Erlangga, J. Sci. Comput. 39 (2009) 340).

    Source: Al Daas, Jolivet & Scott, SIAM J. Sci. Comput. 44 (2022) A1047 (normal equations); Spillane et al., Numer.
    Math. 126 (2014) 741 (GenEO).

    Options (with the prefix of the PC)
    -----------------------------------
    -pc_two_level_vectors 20        of each block, at most
    -pc_two_level_threshold 10      those with μ above it
    -pc_two_level_type deflation    or additive
    -pc_two_level_lag 10            linearizations that share the eigenvectors of the first of them
    -two_level_pc_type asm          the local solves, with options of their own
    -two_level_coarse_pc_type cholesky      the coarse solve, of all ranks the same; or any PC over all ranks
    """

    def __init__(self) -> None:
        self.vectors, self.threshold, self.type, self.lag = 20, 10.0, "deflation", 10
        self._at: Linearization | None = None
        self._made = 0
        self._local: LocalSolves | None = None
        self._basis: PETSc.Mat | None = None
        self._coarse: CoarseSolve | None = None
        self._entries, self._deflated = 0, False
        self._rest: PETSc.Vec | None = None
        self._image: PETSc.Vec | None = None

    def setFromOptions(self, pc: PETSc.PC) -> None:
        """Read ``-pc_two_level_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(pc), pc.getOptionsPrefix() or ""
        self.vectors = options.getInt("pc_two_level_vectors", self.vectors)
        self.threshold = options.getReal("pc_two_level_threshold", self.threshold)
        self.type = get_choice(f"{prefix}pc_two_level_type", self.type, TYPES)
        self.lag = options.getInt("pc_two_level_lag", self.lag)
        for name, number in (("vectors", self.vectors), ("lag", self.lag)):
            if number < 1:
                raise OptionError(f"-{prefix}pc_two_level_{name} {number}: it must be at least 1")

    def setUp(self, pc: PETSc.PC) -> None:
        """Eigenvectors of a new linearization; a new λ costs the local and the coarse factorisations. Collective."""
        matrix, dm = pc.getOperators()[1], pc.getDM()
        linearization = dm.getAttr("linearization")
        assert isinstance(linearization, Linearization)
        if self._local is None:
            self._local = LocalSolves(matrix, dm, f"{pc.getOptionsPrefix() or ''}two_level_")
            self._rest, self._image = matrix.createVecRight(), matrix.createVecLeft()
        self._local.update(matrix)
        moved = self._at is not linearization
        age = dm.getAttr("age")
        assert isinstance(age, int)
        if moved and (self._basis is None or not 0 < age - self._made < self.lag):
            self._made = age
            self._forget_coarse()
            if self._basis is not None:
                self._basis.destroy()
            shifted = dm.getAttr("matrix")
            assert isinstance(shifted, ShiftedMatrix)
            layout, blocks, couplings = (dm.getAttr(name) for name in ("layout", "blocks", "couplings"))
            assert isinstance(layout, ParameterLayout)
            assert isinstance(blocks, list)
            assert isinstance(couplings, Couplings)
            surrounded = _surrounded(blocks, layout, couplings)
            self._basis = self._coarse_basis(linearization, layout, surrounded, matrix, shifted.shift)
        self._at = linearization
        self._update_coarse(matrix, f"{pc.getOptionsPrefix() or ''}two_level_coarse_")

    def _update_coarse(self, matrix: PETSc.Mat, prefix: str) -> None:
        """(PᵀAP)⁻¹ for the entries of A, anew where there are more of them. Collective."""
        assert self._basis is not None
        entries = int(matrix.getInfo(PETSc.Mat.InfoType.GLOBAL_SUM)["nz_used"])
        if self._coarse is not None and entries == self._entries:
            self._coarse.update(matrix)
            return
        self._forget_coarse()
        self._entries = entries
        if self._basis.getSize()[1]:
            self._coarse = CoarseSolve(matrix, self._basis, prefix)

    def _forget_coarse(self) -> None:
        if self._coarse is not None:
            self._coarse.destroy()
            self._coarse = None

    def _coarse_basis(
        self,
        linearization: Linearization,
        layout: ParameterLayout,
        blocks: list[Block],
        matrix: PETSc.Mat,
        shift: float,
    ) -> PETSc.Mat:
        """P (n, K), sparse: the columns of a block are zero but on its own parameters. Collective."""
        diagonal = matrix.getDiagonal()
        ridge = max(shift, RIDGE * max(diagonal.max()[1], float(np.finfo(float).tiny)))
        diagonal.destroy()
        mine = []
        for some, owners in _at_a_time(blocks, layout):
            local = linearization.gauss_newton_blocks(
                [block.active for block in some], owners, seen_by=[block.owned for block in some]
            )
            for block, part in zip(some, local, strict=True):
                if part is not None:
                    mine.append((block, self._eigenvectors(block, part, ridge)))
        counts = [vectors.shape[1] for _, vectors in mine]
        comm = layout.mpi_comm
        first = comm.exscan(sum(counts)) or 0
        sizes = ((layout.local_size, layout.size), (sum(counts), PETSc.DETERMINE))
        basis = PETSc.Mat().createAIJ(sizes, nnz=self.vectors, comm=layout.comm)
        basis.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, False)
        for (block, vectors), place in zip(mine, first + np.cumsum([0, *counts])[:-1], strict=True):
            columns = np.arange(place, place + vectors.shape[1], dtype=PETSc.IntType)
            basis.setValues(block.owned.astype(PETSc.IntType), columns, vectors)
        basis.assemble()
        return basis

    def _eigenvectors(self, block: Block, local: Array, ridge: float) -> Array:
        """Of one block (|O|, k), also none; on O, Ã is JᵀJ."""
        inside = np.isin(block.active, block.owned)
        shifted = local + ridge * np.eye(len(local))
        own = schur = shifted[np.ix_(inside, inside)]
        if not inside.all():
            sides = shifted[np.ix_(~inside, inside)]
            factor = cho_factor(shifted[np.ix_(~inside, ~inside)], lower=True)
            schur = schur - sides.T @ cho_solve(factor, sides)
        values, vectors = eigh(own, 0.5 * (schur + schur.T))
        chosen = vectors[:, values > self.threshold][:, -self.vectors :]
        return np.ascontiguousarray(chosen / np.linalg.norm(chosen, axis=0))  # petsc4py reads Fortran order as C order

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective."""
        assert self._local is not None
        matrix, rest, image = pc.getOperators()[1], self._rest, self._image
        assert rest is not None
        assert image is not None
        if self.type == "additive":
            self._local.apply(x, y)
            self._add_coarse(x, y, 1.0)
            return
        if self._deflated:
            self._local.apply(x, y)
            matrix.mult(y, image)
            image.aypx(-1.0, x)
            self._add_coarse(image, y, 1.0)
            return
        y.set(0.0)
        self._add_coarse(x, y, 1.0)
        matrix.mult(y, image)
        image.aypx(-1.0, x)
        self._local.apply(image, rest)
        y.axpy(1.0, rest)
        matrix.mult(rest, image)
        self._add_coarse(image, y, -1.0)

    def deflate(self, b: PETSc.Vec, x: PETSc.Vec) -> bool:
        """x = C b, where a solve of A x = b is to start; False where the type has no use for it. The PC is set up.
        Collective.
        """
        if self.type == "deflation":
            x.set(0.0)
            self._add_coarse(b, x, 1.0)
            self._deflated = True
        return self._deflated

    def release(self) -> None:
        """Vectors may have a part in the coarse space again."""
        self._deflated = False

    def destroy(self, _: PETSc.PC) -> None:
        """Collective."""
        for thing in (self._local, self._coarse, self._basis, self._rest, self._image):
            if thing is not None:
                thing.destroy()
        self._local = self._coarse = self._basis = self._at = self._rest = self._image = None

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric where the local solves are."""
        self.apply(pc, x, y)

    def _add_coarse(self, x: PETSc.Vec, y: PETSc.Vec, factor: float) -> None:
        """y += factor · C x. Collective."""
        assert self._basis is not None
        if self._coarse is None:
            return
        restricted, solved = self._basis.createVecRight(), self._basis.createVecRight()
        prolonged = self._basis.createVecLeft()
        self._basis.multTranspose(x, restricted)
        self._coarse.apply(restricted, solved)
        self._basis.mult(solved, prolonged)
        y.axpy(factor, prolonged)
        for vec in (restricted, solved, prolonged):
            vec.destroy()

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """The settings, and the dimension of the coarse space."""
        size = 0 if self._basis is None else self._basis.getSize()[1]
        viewer.printfASCII(f"  two-level Schwarz: type={self.type} coarse space of {size}\n")
        if self._local is not None:
            self._local.view(viewer)


def _at_a_time(blocks: list[Block], layout: ParameterLayout) -> Iterator[tuple[list[Block], list[int]]]:
    """Blocks and their owners, of each rank so many at a time that it never has more than some local matrices."""
    owners = [layout.owner(int(block.owned[0])) for block in blocks]
    most = max(1, LOCAL_NUMBERS // max(len(block.active) ** 2 for block in blocks))
    met: Counter[int] = Counter()
    groups: dict[int, list[int]] = {}
    for number, owner in enumerate(owners):
        groups.setdefault(met[owner] // most, []).append(number)
        met[owner] += 1
    for numbers in groups.values():
        yield [blocks[number] for number in numbers], [owners[number] for number in numbers]


def _surrounded(blocks: list[Block], layout: ParameterLayout, couplings: Couplings) -> list[Block]:
    """Blocks with their overlap, those that have none with their neighbours: alone they would see no coarse space."""
    around = with_neighbours(blocks, layout.layers, couplings.neighbours)
    return [own if len(own.active) > len(own.owned) else wider for own, wider in zip(blocks, around, strict=True)]
