"""J and the Gauss–Newton matrix as PETSc Mats: matrix-free, and assembled where a preconditioner needs entries."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from petsc4py import PETSc
from scipy.sparse import csr_array, vstack

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator, Linearization

MatrixKind = Literal["blocks", "dense", "sparse", "none"]


class JacobianOperator:
    """Python Mat context of J (m, n): ``mult`` is J v, ``multTranspose`` is Jᵀ w.

    Rows are distributed as the residual, columns as θ.
    """

    def __init__(self, layout: ParameterLayout, linearization: Linearization) -> None:
        self.layout, self.linearization = layout, linearization

    def mult(self, _: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = J v. Collective."""
        out.setArray(self.linearization.times(self.layout.gather(v)))

    def multTranspose(self, _: PETSc.Mat, w: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = Jᵀ w. Collective."""
        self.layout.set(out, self.linearization.transpose_times(w.array_r.copy()))  # torch wants writable memory


def create_jacobian(layout: ParameterLayout, linearization: Linearization) -> PETSc.Mat:
    """J as a Python Mat. Collective."""
    sizes = ((linearization.rows, PETSc.DETERMINE), (layout.local_size, layout.size))
    mat = PETSc.Mat().createPython(sizes, JacobianOperator(layout, linearization), comm=layout.comm)
    mat.setUp()
    return mat


class DampedJacobian:
    """Python Mat context of [J; √λ I], (m + n, n): least squares with it have JᵀJ + λI for their normal equations.

    Rows are distributed as the residual and, after those of each rank, as θ.
    """

    def __init__(self, layout: ParameterLayout, linearization: Linearization, damping: float = 0.0) -> None:
        self.layout, self.linearization, self.damping = layout, linearization, damping

    def mult(self, _: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = [J v; √λ v]. Collective."""
        change = self.linearization.times(self.layout.gather(v))
        out.setArray(np.concatenate((change, np.sqrt(self.damping) * v.array_r)))

    def multTranspose(self, _: PETSc.Mat, w: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = Jᵀ w₁ + √λ w₂ of w = [w₁; w₂]. Collective."""
        of_rows, of_parameters = np.split(w.array_r.copy(), [self.linearization.rows])
        self.layout.set(out, self.linearization.transpose_times(of_rows))
        out.setArray(out.array_r + np.sqrt(self.damping) * of_parameters)


def create_damped_jacobian(layout: ParameterLayout, linearization: Linearization) -> PETSc.Mat:
    """[J; √λ I] as a Python Mat, λ = 0. Collective."""
    sizes = ((linearization.rows + layout.local_size, PETSc.DETERMINE), (layout.local_size, layout.size))
    mat = PETSc.Mat().createPython(sizes, DampedJacobian(layout, linearization), comm=layout.comm)
    mat.setUp()
    return mat


class GaussNewtonProducts:
    """Python Mat context of JᵀJ + λI by products with J; a subclass says at which linearization."""

    def __init__(self, layout: ParameterLayout, damping: float) -> None:
        self.layout, self.damping = layout, damping
        self._shift = 0.0

    @property
    def linearization(self) -> Linearization:
        """J. Collective."""
        raise NotImplementedError

    @property
    def shift_of_identity(self) -> float:
        """λ, with what PETSc has added to it."""
        return self.damping + self._shift

    def mult(self, _: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = (JᵀJ + λI) v. Collective."""
        direction = self.layout.gather(v).copy()
        self.layout.set(out, self.linearization.gauss_newton_times(direction))
        out.axpy(self.shift_of_identity, v)

    def multTranspose(self, mat: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """The operator is symmetric."""
        self.mult(mat, v, out)

    def getDiagonal(self, _: PETSc.Mat, out: PETSc.Vec) -> None:
        """diag(JᵀJ) + λ. Collective."""
        self.layout.set(out, self.linearization.gauss_newton_diagonal())
        out.shift(self.shift_of_identity)

    def shift(self, _: PETSc.Mat, amount: float) -> None:
        """Add a multiple of the identity until the linearization changes, as Newton types do."""
        self._shift += amount

    def createSubMatrix(self, mat: PETSc.Mat, rows: PETSc.IS, _: PETSc.IS, __: PETSc.Mat | None) -> PETSc.Mat:
        """The operator on the parameters that no bound holds, as bounded Newton types ask for it. Collective."""
        size = (rows.getLocalSize(), PETSc.DETERMINE)
        return PETSc.Mat().createPython((size, size), RestrictedOperator(mat, rows), comm=self.layout.comm)

    def productSetFromOptions(self, mat: PETSc.Mat, kind: str, a: PETSc.Mat, p: PETSc.Mat, _: PETSc.Mat | None) -> bool:
        """Of PETSc's products, PᵀAP: the coarse matrix of a Galerkin method."""
        return kind == "PtAP" and mat == a

    def productSymbolic(
        self, _: PETSc.Mat, product: PETSc.Mat, __: str, ___: PETSc.Mat, p: PETSc.Mat, ____: PETSc.Mat | None
    ) -> None:
        """A dense matrix of the columns of P. Collective."""
        columns = p.getSizes()[1]
        product.setSizes((columns, columns))
        product.setType(PETSc.Mat.Type.DENSE)
        product.setUp()

    def productNumeric(
        self, _: PETSc.Mat, product: PETSc.Mat, __: str, ___: PETSc.Mat, p: PETSc.Mat, ____: PETSc.Mat | None
    ) -> None:
        """Pᵀ(JᵀJ + λI)P = (JP)ᵀ(JP) + λ PᵀP, without JᵀJ: 2 m_local (nnz(P) + k²) flops. Collective.

        P (n, k) is held whole on every rank.
        """
        whole = gather_rows(p)
        entries = whole.T.tocoo()
        places = torch.from_numpy(np.stack(entries.coords))
        values = torch.from_numpy(entries.data)
        restriction = torch.sparse_coo_tensor(places, values, entries.shape, check_invariants=True)
        coarse = self.linearization.gauss_newton_matrix(lambda rows: restriction.to(rows.device) @ rows)
        coarse = coarse + self.shift_of_identity * (whole.T @ whole).toarray()
        first, last = product.getOwnershipRange()
        product.getDenseArray()[:] = coarse[first:last]
        product.assemble()


def gather_rows(mat: PETSc.Mat) -> csr_array:
    """All rows of a distributed matrix on every rank. Collective."""
    comm = mat.getComm().tompi4py()
    local = mat if mat.getType() in (PETSc.Mat.Type.SEQAIJ, PETSc.Mat.Type.MPIAIJ) else mat.convert("aij", PETSc.Mat())
    start, indices, values = local.getValuesCSR()
    if local is not mat:
        local.destroy()
    columns = mat.getSize()[1]
    parts = comm.allgather((values, indices, start))
    return csr_array(vstack([csr_array(part, shape=(len(part[2]) - 1, columns)) for part in parts]))


class GaussNewtonOperator(GaussNewtonProducts):
    """JᵀJ + λI where the solver is; the linearization is made at the first product after a new θ."""

    def __init__(self, layout: ParameterLayout, evaluator: Evaluator, damping: float = 0.0) -> None:
        super().__init__(layout, damping)
        self.evaluator = evaluator
        self._theta = layout.parameters.current()
        self._linearization: Linearization | None = None

    def move_to(self, theta: np.ndarray) -> None:
        """θ (n,) of the next products; forgets PETSc's shifts."""
        if self._linearization is not None and not np.array_equal(theta, self._theta):
            self._linearization = None
        self._theta[:] = theta
        self._shift = 0.0

    def take(self, linearization: Linearization, damping: float) -> None:
        """J of a linearization that a solver has, and λ. Not collective."""
        self._theta[:] = linearization.theta
        self._linearization, self.damping, self._shift = linearization, damping, 0.0

    def forget(self) -> None:
        """Linearize anew at the next product: the residual has changed. Not collective."""
        self._linearization = None

    @property
    def linearization(self) -> Linearization:
        """J at the current θ. Collective."""
        if self._linearization is None:
            self._linearization = self.evaluator.linearize(self._theta)
        return self._linearization


class RestrictedOperator:
    """Python Mat context of R A Rᵀ, where R picks some of the parameters."""

    def __init__(self, whole: PETSc.Mat, indices: PETSc.IS) -> None:
        self.whole, self.indices = whole, indices
        self._v, self._out = whole.createVecRight(), whole.createVecLeft()

    def extend(self, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = Rᵀ v: zero where the others are. Collective."""
        out.set(0.0)
        part = out.getSubVector(self.indices)
        v.copy(part)
        out.restoreSubVector(self.indices, part)

    def restrict(self, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R v. Collective."""
        part = v.getSubVector(self.indices)
        part.copy(out)
        v.restoreSubVector(self.indices, part)

    def mult(self, _: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = R A Rᵀ v. Collective."""
        self.extend(v, self._v)
        self.whole.mult(self._v, self._out)
        self.restrict(self._out, out)

    def getDiagonal(self, _: PETSc.Mat, out: PETSc.Vec) -> None:
        """The diagonal of A at these parameters. Collective."""
        self.whole.getDiagonal(self._out)
        self.restrict(self._out, out)


def create_gauss_newton(layout: ParameterLayout, evaluator: Evaluator, damping: float = 0.0) -> PETSc.Mat:
    """JᵀJ + λI as a Python Mat of the layout of θ. Collective."""
    sizes = ((layout.local_size, layout.size),) * 2
    context = GaussNewtonOperator(layout, evaluator, damping)
    mat = PETSc.Mat().createPython(sizes, context, comm=layout.comm)
    mat.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    mat.setUp()
    return mat


def decouple(matrix: np.ndarray, alone: np.ndarray) -> None:
    """Zero rows and columns (indices ``alone``) of a square matrix, but for their diagonal."""
    own = matrix[alone, alone]
    matrix[alone, :] = matrix[:, alone] = 0.0
    matrix[alone, alone] = own


class ShiftedMatrix:
    """The matrix ``mat`` of JᵀJ + λI, with entries; ``damping`` is λ relative to the mean of the diagonal of JᵀJ."""

    def __init__(self, layout: ParameterLayout, mat: PETSc.Mat, damping: float, uncoupled: np.ndarray | None) -> None:
        self.layout, self.mat, self.damping = layout, mat, damping
        self.uncoupled = np.zeros(0, dtype=int) if uncoupled is None else uncoupled
        self.mean_diagonal, self._damping = 1.0, 0.0
        self.mat.setUp()

    def assemble(self, linearization: Linearization) -> None:
        """Overwrite the entries with those of JᵀJ + λI at a linearization. Collective."""
        self.fill(linearization)
        self.mat.assemble()
        diagonal = self.mat.getDiagonal()
        self.mean_diagonal = mean_of_diagonal(diagonal.sum(), self.layout.size)
        diagonal.destroy()
        self._damping = 0.0
        self.set_damping(self.damping * self.mean_diagonal)

    @property
    def shift(self) -> float:
        """λ."""
        return self._damping

    def fill(self, linearization: Linearization) -> None:
        """Overwrite the entries with those of JᵀJ, before they are assembled. Collective."""
        raise NotImplementedError

    def set_damping(self, damping: float) -> None:
        """Another λ, absolute, on the same JᵀJ. Collective."""
        self.mat.shift(damping - self._damping)
        self.mat.setOption(PETSc.Mat.Option.SPD, True)  # here, because new entries make PETSc forget it
        self._damping = damping

    def destroy(self) -> None:
        """Collective."""
        self.mat.destroy()


class AssembledGaussNewton(ShiftedMatrix):
    """The entries of JᵀJ + λI that a preconditioner reads: the blocks of a decomposition, or all of them.

    ``kind="blocks"`` is an AIJ matrix with a dense block for each subdomain (with its overlap), zero elsewhere;
    ``kind="dense"`` a dense matrix. Blocks are computed on all ranks' points and summed onto the ranks that own them.

    Parameters
    ----------
    damping : float         λ relative to the mean of the diagonal of JᵀJ
    uncoupled : (k,)        parameters whose rows and columns are zero but for the diagonal
    single : bool           sum the products in single precision
    """

    def __init__(
        self,
        layout: ParameterLayout,
        blocks: list[Block],
        kind: MatrixKind,
        damping: float,
        uncoupled: np.ndarray | None = None,
        single: bool = False,
    ) -> None:
        self.kind, self.single = kind, single
        sizes = ((layout.local_size, layout.size),) * 2
        if kind == "dense":
            everything = np.arange(layout.size, dtype=PETSc.IntType)
            self.blocks = [everything]
            mat = PETSc.Mat().createDense(sizes, comm=layout.comm)
        else:
            self.blocks = [block.active.astype(PETSc.IntType) for block in blocks]
            mat = PETSc.Mat().createAIJ(sizes, nnz=self._row_lengths(layout), comm=layout.comm)
            mat.setOption(PETSc.Mat.Option.NEW_NONZERO_ALLOCATION_ERR, True)
            mat.setOption(PETSc.Mat.Option.IGNORE_ZERO_ENTRIES, False)
        self.owners = [layout.owner(int(indices[0])) for indices in self.blocks]
        super().__init__(layout, mat, damping, uncoupled)

    def _row_lengths(self, layout: ParameterLayout) -> tuple[np.ndarray, np.ndarray]:
        """Entries in the diagonal and off-diagonal part of each local row."""
        covered = np.zeros((layout.local_size, 2), dtype=PETSc.IntType)
        for local in range(layout.local_size):
            row = layout.start + local
            containing = [b for b in self.blocks if b[0] <= row <= b[-1]]
            lowest, highest = min(b[0] for b in containing), max(b[-1] for b in containing) + 1
            inside = max(0, min(highest, layout.stop) - max(lowest, layout.start))
            covered[local] = inside, highest - lowest - inside
        return covered[:, 0].copy(), covered[:, 1].copy()

    def fill(self, linearization: Linearization) -> None:
        dense_blocks = linearization.gauss_newton_blocks(self.blocks, self.owners, self.single)
        for indices, block in zip(self.blocks, dense_blocks, strict=True):
            if block is not None:
                decouple(block, np.flatnonzero(np.isin(indices, self.uncoupled)))
                self.mat.setValues(indices, indices, block, addv=PETSc.InsertMode.INSERT)


class LinearizedGaussNewton(GaussNewtonProducts):
    """JᵀJ + λI at a given linearization: what a preconditioner sees that reads J, and no entries.

    ``diagonal`` (n,) is that of JᵀJ; ``uncoupled`` are parameters that the preconditioner couples with no other.
    """

    def __init__(self, layout: ParameterLayout, uncoupled: np.ndarray) -> None:
        super().__init__(layout, 0.0)
        self.uncoupled = uncoupled
        self.diagonal = np.ones(layout.size)
        self._linearization: Linearization | None = None

    @property
    def linearization(self) -> Linearization:
        """J of the last refresh."""
        assert self._linearization is not None
        return self._linearization

    def coupled_products(self, directions: np.ndarray) -> np.ndarray:
        """JᵀJ V (n, k), with only the diagonal in the rows and columns of ``uncoupled``. Collective."""
        if not len(self.uncoupled):
            return self.linearization.gauss_newton_products(directions)
        coupled = directions.copy()
        coupled[self.uncoupled] = 0.0
        products = self.linearization.gauss_newton_products(coupled)
        products[self.uncoupled] = self.diagonal[self.uncoupled, None] * directions[self.uncoupled]
        return products

    def move_to(self, linearization: Linearization, relative_damping: float) -> None:
        """Another J, with λ relative to the mean of the diagonal; forgets PETSc's shifts. Collective."""
        self._linearization = linearization
        self.diagonal = linearization.gauss_newton_diagonal()
        self.damping = relative_damping * mean_of_diagonal(self.diagonal.sum(), self.layout.size)
        self._shift = 0.0


class MatrixFreeGaussNewton:
    """The counterpart of :class:`AssembledGaussNewton` for preconditioners that read no entries."""

    def __init__(self, layout: ParameterLayout, damping: float, uncoupled: np.ndarray | None = None) -> None:
        self.layout, self.damping = layout, damping
        self.context = LinearizedGaussNewton(layout, np.zeros(0, dtype=int) if uncoupled is None else uncoupled)
        self.mean_diagonal = 1.0
        sizes = ((layout.local_size, layout.size),) * 2
        self.mat = PETSc.Mat().createPython(sizes, self.context, comm=layout.comm)
        self.mat.setOption(PETSc.Mat.Option.SPD, True)
        self.mat.setUp()

    def assemble(self, linearization: Linearization) -> None:
        """JᵀJ + λI at a linearization. Collective."""
        self.context.move_to(linearization, self.damping)
        self.mean_diagonal = mean_of_diagonal(self.context.diagonal.sum(), self.layout.size)
        self.mat.assemble()

    def set_damping(self, damping: float) -> None:
        """Another λ, absolute, on the same JᵀJ. Collective."""
        self.mat.shift(damping - self.context.shift_of_identity)

    def destroy(self) -> None:
        """Collective."""
        self.mat.destroy()


def mean_of_diagonal(total: float, size: int) -> float:
    """Of JᵀJ from its trace; above zero also where J is zero."""
    return max(float(total) / size, float(np.finfo(float).tiny))


def gauss_newton_behind(pc: PETSc.PC, name: str) -> LinearizedGaussNewton:
    """The context of the Pmat of a PC.

    Raises
    ------
    OptionError     it is not a matrix of ours, so that there is no J
    """
    matrix = pc.getOperators()[1]
    context = matrix.getPythonContext() if matrix.getType() == PETSc.Mat.Type.PYTHON else None
    if not isinstance(context, LinearizedGaussNewton):
        raise OptionError(
            f"-pc_type {name} needs the Jacobian of a pescitrain system; use it as the outermost -pc_type"
        )
    return context
