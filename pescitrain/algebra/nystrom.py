"""The randomised Nyström preconditioner as a PC type: ``-pc_type nystrom``."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import LinAlgError, cholesky, solve_triangular, svd

from pescitrain.algebra.operators import LinearizedGaussNewton, gauss_newton_behind
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization

Array = NDArray[np.float64]


class Nystrom:
    """The inverse of a low-rank approximation of JᵀJ from its products with random vectors, plus λI.

    With JᵀJ ≈ U Λ Uᵀ of rank k and smallest eigenvalue λ_k it is U (Λ + λI)⁻¹ Uᵀ + (I − U Uᵀ) / (λ_k + λ): k where the
    spectrum has fallen to λ leaves CG a handful of iterations. J enters by matrix products with k columns, once for
    each refresh. Every rank has the same random vectors, and its own rows of U.

    Source: Frangella, Tropp & Udell, SIAM J. Matrix Anal. Appl. 44 (2023) 718-752, algorithm 2.1 and eq. (5.3), here
    divided by λ_k + λ, so that it approximates the inverse itself.

    Options (with the prefix of the PC)
    -----------------------------------
    -pc_nystrom_rank        k; by default a tenth of the parameters, and no more than 200
    -pc_nystrom_seed 0      of the random vectors
    """

    def __init__(self) -> None:
        self.rank: int | None = None
        self.seed = 0
        self._sketched: Linearization | None = None
        self._vectors, self._values = np.zeros((0, 0)), np.zeros(0)
        self._weights, self._rest = np.zeros(0), np.zeros(0)
        self._comm: MPI.Intracomm = MPI.COMM_SELF

    def setFromOptions(self, pc: PETSc.PC) -> None:
        """Read ``-pc_nystrom_*``.

        Raises
        ------
        OptionError
        """
        options = PETSc.Options(pc)
        if options.hasName("pc_nystrom_rank"):
            self.rank = options.getInt("pc_nystrom_rank")
            if self.rank < 1:
                raise OptionError(f"-{pc.getOptionsPrefix() or ''}pc_nystrom_rank {self.rank}: it must be at least 1")
        self.seed = options.getInt("pc_nystrom_seed", self.seed)

    def setUp(self, pc: PETSc.PC) -> None:
        """Sketch JᵀJ where it has changed; a new λ alone costs nothing. Collective."""
        source = gauss_newton_behind(pc, "nystrom")
        layout = source.layout
        if self._sketched is not source.linearization:
            coupled = layout.size - len(source.uncoupled)
            rank = min(coupled, self.rank or max(1, min(200, layout.size // 10)))
            vectors, self._values = low_rank(source, rank, self.seed)
            own = vectors[layout.start : layout.stop]
            self._vectors = own if len(own) == layout.size else own.copy()  # the rest need not stay
            self._sketched, self._comm = source.linearization, layout.mpi_comm
        damping, last = source.shift_of_identity, self._values[-1]
        self._weights = 1.0 / (self._values + damping) - 1.0 / (last + damping)
        rest = np.full(layout.size, last + damping)
        rest[source.uncoupled] = source.diagonal[source.uncoupled] + damping
        self._rest = 1.0 / rest[layout.start : layout.stop]

    def apply(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective: one reduction of k numbers."""
        values = x.array_r
        coefficients = self._vectors.T @ values
        self._comm.Allreduce(MPI.IN_PLACE, coefficients)
        y.setArray(self._rest * values + self._vectors @ (self._weights * coefficients))

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """It is symmetric."""
        self.apply(pc, x, y)

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """Rank and range of the eigenvalues."""
        if len(self._values):
            viewer.printfASCII(
                f"  Nystrom: rank={len(self._values)} eigenvalues from {self._values[0]:g} to {self._values[-1]:g}\n"
            )


def low_rank(source: LinearizedGaussNewton, rank: int, seed: int) -> tuple[Array, Array]:
    """U (n, k) and eigenvalues (k,), descending, of a Nyström approximation of JᵀJ without λ. Collective.

    Rows of the parameters that are coupled with no other are zero.
    """
    size = source.layout.size
    test = np.random.default_rng(seed).standard_normal((size, rank))
    test[source.uncoupled] = 0.0
    if 4 * rank > size:
        test, _ = np.linalg.qr(test)
    else:  # random columns this long are nearly orthonormal
        test /= np.sqrt(size)
    products = source.coupled_products(test)
    small, identity = test.T @ products, test.T @ test
    shift = float(np.finfo(float).eps * np.linalg.norm(products)) + float(np.finfo(float).tiny)
    while True:  # the shift of algorithm 2.1 keeps the core definite; where rounding wins nevertheless it grows
        try:
            core = cholesky(small + shift * identity, lower=False)
            break
        except LinAlgError:
            shift *= 10.0
    test *= shift
    products += test
    del test
    # Transposed, they are in LAPACK's order: what follows works in place.
    factor = solve_triangular(core, products.T, trans="T", overwrite_b=True, check_finite=False)
    _, singular, vectors = svd(factor, full_matrices=False, overwrite_a=True, check_finite=False)
    return vectors.T, np.maximum(singular**2 - shift, 0.0)
