"""The one preconditioner of a run: a PETSc PC on the assembled Gauss–Newton matrix, the same for every solver.

Solvers take it through :class:`SharedPC`, a thin Python PC: TAO and LMVM overwrite the operators of a PC and reset it,
after which PCASM would have forgotten its subdomains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.coarse_networks import RediscretisedLevels
from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.hierarchy import Coarsening
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.network_dm import create_network_dm
from pescitrain.algebra.operators import (
    AssembledGaussNewton,
    MatrixFreeGaussNewton,
    MatrixKind,
    RestrictedOperator,
)
from pescitrain.algebra.options import DIRECT, SCHWARZ, get_string, set_default
from pescitrain.algebra.sparse_gauss_newton import SparseGaussNewton
from pescitrain.algebra.two_level import TwoLevelSchwarz
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator, Linearization
from pescitrain.evaluation.couplings import Couplings

OWN_PC_TYPES = {
    "filter": "pescitrain.algebra.filtering.LocalFiltering",
    "kfac": "pescitrain.algebra.kfac.KroneckerFactored",
    "nystrom": "pescitrain.algebra.nystrom.Nystrom",
    "spectral": "pescitrain.algebra.spectral.SpectralSchwarz",
    "two_level": "pescitrain.algebra.two_level.TwoLevelSchwarz",
    "woodbury": "pescitrain.algebra.woodbury.Woodbury",
}
"""Short name -> Python type, for ``-pc_type``; they read J and no entries, but two_level, which reads both."""


def pc_type_of(prefix: str) -> str | None:
    """What ``-<prefix>pc_type`` asks for, by the short name if it is one of ours; None if nothing."""
    name = get_string(prefix + "pc_type")
    if name == PETSc.PC.Type.PYTHON:
        context = get_string(prefix + "pc_python_type")
        return next((short for short, python in OWN_PC_TYPES.items() if python == context), name)
    return name


class Preconditioner:
    """P = JᵀJ + λI, assembled where it is needed, and the PC with options prefix ``prefix`` that approximates P⁻¹.

    Parameters
    ----------
    layout, blocks : the parameters and their decomposition
    prefix : str            options prefix: a bare ``-pc_type``, ``-sub_*``, ``-fieldsplit_*``, ``-mg_*`` means this PC
    kind : str or None      ``-gn_mat``; None: dense for lu, cholesky and mg, none for jacobi and our own types, else
                            blocks; "none" of mg: products with J on all levels but the coarsest
    damping : float         ``-gn_shift``, relative to the mean of the diagonal
    uncoupled : (k,)        parameters that P couples with no other; none unless given
    coarsening, levels      ``-hier_type`` and ``-hier_levels``: the networks of ``-pc_type mg``
    rows : int              ``-gn_rows``: P is made from a random part of about this many; 0: from all
    single : bool           ``-gn_precision single``: of the products that the entries of P are sums of
    evaluator : Evaluator   of the residual behind P; for ``-pc_type mg -pc_mg_galerkin none`` alone
    couplings               of networks in subdomains, whose P is sparse
    """

    def __init__(
        self,
        layout: ParameterLayout,
        blocks: list[Block],
        prefix: str,
        kind: MatrixKind | None,
        damping: float,
        uncoupled: np.ndarray | None = None,
        coarsening: Coarsening = "both",
        levels: int = 2,
        rows: int = 0,
        single: bool = False,
        evaluator: Evaluator | None = None,
        couplings: Couplings | None = None,
    ) -> None:
        self.layout, self.blocks, self.prefix, self.levels, self.rows = layout, blocks, prefix, levels, rows
        self.pc_type = pc_type_of(prefix) or "asm"
        self.matrix: AssembledGaussNewton | MatrixFreeGaussNewton | SparseGaussNewton
        if self.pc_type == "two_level":
            if couplings is None:
                raise OptionError(f"-{prefix}pc_type two_level is for -net_type subdomain: use spectral")
            if kind not in (None, "sparse"):
                raise OptionError(f"-gn_mat {kind}: -{prefix}pc_type two_level reads a sparse matrix; leave it out")
            self.matrix = self._create_sparse(couplings, damping, uncoupled, single)
        elif self.pc_type in OWN_PC_TYPES:
            if kind not in (None, "none"):
                raise OptionError(f"-gn_mat {kind}: -{prefix}pc_type {self.pc_type} reads no entries; leave it out")
            if single:
                raise OptionError(
                    f"-gn_precision single: -{prefix}pc_type {self.pc_type} reads no entries; leave it out"
                )
            self.matrix = MatrixFreeGaussNewton(layout, damping, uncoupled)
        elif self.pc_type == "jacobi" and kind in (None, "none") and couplings is None and not single:
            self.matrix = MatrixFreeGaussNewton(layout, damping, uncoupled)
        elif kind == "none":
            self.matrix = self._create_products(damping, uncoupled, single)
        else:
            entries = kind or self._entries(couplings)
            if entries == "sparse":
                self.matrix = self._create_sparse(couplings, damping, uncoupled, single)
            else:
                self._require_room(entries)
                self.matrix = AssembledGaussNewton(layout, blocks, entries, damping, uncoupled, single)
        self.coarser = self._create_coarser(evaluator, coarsening)
        coarser = [] if self.coarser is None else self.coarser.matrices
        self.dm = create_network_dm(layout, blocks, lambda: self.matrix.mat, coarsening, coarser)
        self.dm.setAttr("matrix", self.matrix)
        self.dm.setAttr("couplings", couplings)
        self.pc = self._create_pc()
        self.scale = 1.0
        self._checked, self._age = False, 0

    def begin(self) -> None:
        """Keep nothing of earlier linearizations from here on, so that a restarted run has the same preconditioner."""
        self._age = 0

    def _create_products(self, damping: float, uncoupled: np.ndarray | None, single: bool) -> MatrixFreeGaussNewton:
        """P of multigrid whose levels are products with J, but for the coarsest."""
        if self.pc_type != "mg":
            raise OptionError(
                f"-gn_mat none leaves -{self.prefix}pc_type {self.pc_type} without a matrix: use blocks or dense"
            )
        if uncoupled is not None and len(uncoupled):
            raise OptionError("-gn_mat none: its levels know no bounds of parameters; use -gn_mat dense")
        if single:
            raise OptionError("-gn_precision single: -gn_mat none sums no entries; leave one of them out")
        set_default(f"{self.prefix}pc_mg_galerkin", "none")
        return MatrixFreeGaussNewton(self.layout, damping)

    def _entries(self, couplings: Couplings | None) -> MatrixKind:
        """What ``-gn_mat auto`` means."""
        if couplings is not None:
            return "sparse"
        return "dense" if self.pc_type in (*DIRECT, "mg") else "blocks"

    def _require_room(self, kind: MatrixKind) -> None:
        """For what every rank adds to: all of the matrix, or all of its blocks."""
        sizes = [self.layout.size] if kind == "dense" else [len(block.active) for block in self.blocks]
        what = f"the matrix of {self.layout.size} parameters"
        if kind == "blocks":
            what = f"the matrix of {len(sizes)} blocks, of which the largest has {max(sizes)} parameters,"
        require_room(
            sum(size**2 for size in sizes),
            f"-{self.prefix}pc_type {self.pc_type}: {what}",
            "use -pc_type kfac, nystrom or woodbury, which hold no entries, or none",
            self.layout.mpi_comm,
            indexed=kind == "blocks",
        )

    def _create_sparse(
        self, couplings: Couplings | None, damping: float, uncoupled: np.ndarray | None, single: bool
    ) -> SparseGaussNewton:
        if couplings is None:
            raise OptionError("-gn_mat sparse: all layers meet at every sample but with -net_type subdomain; use dense")
        if single:
            raise OptionError("-gn_precision single: the sparse matrix is summed in double precision; leave it out")
        return SparseGaussNewton(self.layout, couplings.coupled, damping, uncoupled)

    @property
    def has_all_entries(self) -> bool:
        """Whether P is JᵀJ + λI and sparse, so that it may stand for the products with J."""
        if not isinstance(self.matrix, SparseGaussNewton) or self.coarser is not None:
            return False
        return not self.rows and not len(self.matrix.uncoupled)

    def _create_pc(self) -> PETSc.PC:
        prefix = self.prefix
        defaults: dict[str, object] = {
            "pc_type": self.pc_type,
            "pc_fieldsplit_type": "additive",
        }
        if self.pc_type == "asm":
            defaults |= SCHWARZ
        elif self.pc_type == "gasm":
            self._require_blocks_on_one_rank()
            defaults |= {"pc_gasm_type": "basic", "pc_gasm_use_dm_subdomains": True, "sub_pc_type": "cholesky"}
        elif self.pc_type == "bjacobi":
            defaults |= {"sub_pc_type": "cholesky", "sub_pc_factor_mat_ordering_type": "natural"}
        elif self.pc_type == "mg":
            defaults |= self._multigrid_defaults()
        for key, value in defaults.items():
            set_default(prefix + key, value)
        pc = PETSc.PC().create(self.layout.comm)
        pc.setOptionsPrefix(prefix or None)
        pc.setOperators(self.matrix.mat, self.matrix.mat)
        pc.setDM(self.dm)
        options = PETSc.Options()
        if self.pc_type in OWN_PC_TYPES:
            options[prefix + "pc_type"] = PETSc.PC.Type.PYTHON  # PETSc reads it again for the KSP of a SNES
            set_default(prefix + "pc_python_type", OWN_PC_TYPES[self.pc_type])
        elif self.pc_type in DIRECT and self.layout.comm.size > 1:
            set_default(prefix + "redundant_pc_type", self.pc_type)
            options[prefix + "pc_type"] = PETSc.PC.Type.REDUNDANT
        pc.setFromOptions()
        return pc

    def _create_coarser(self, evaluator: Evaluator | None, coarsening: Coarsening) -> RediscretisedLevels | None:
        """The operators of the coarser levels, where PETSc does not make them from P."""
        if self.pc_type != "mg" or get_string(f"{self.prefix}pc_mg_galerkin") != "none":
            return None
        if evaluator is None:
            raise OptionError(f"-{self.prefix}pc_mg_galerkin none needs the networks behind P: use both")
        count = PETSc.Options().getInt(f"{self.prefix}pc_mg_levels", self.levels)
        entries = 1 if isinstance(self.matrix, MatrixFreeGaussNewton) else count - 1
        return RediscretisedLevels(evaluator, self.layout, coarsening, count, entries)

    def _require_blocks_on_one_rank(self) -> None:
        """GASM aborts where the part of a subdomain without its overlap lives on several ranks."""
        for block in self.blocks:
            if self.layout.owner(int(block.owned[0])) != self.layout.owner(int(block.owned[-1])):
                raise OptionError(
                    f"-{self.prefix}pc_type gasm: block {block.name} lives on several ranks, which PETSc's GASM does "
                    "not take; use -pc_type asm, or -part_owner blocks with blocks that fit the ranks"
                )

    def _multigrid_defaults(self) -> dict[str, object]:
        """V-cycles with Schwarz smoothers, symmetric: damped by the number of blocks, so that no sum overshoots.

        Where nothing but products is known, Chebyshev's with the diagonal.
        """
        smoother: dict[str, object] = {
            "ksp_type": "richardson",
            "ksp_richardson_scale": 1.0 / len(self.blocks),
            **SCHWARZ,
        }
        if isinstance(self.matrix, MatrixFreeGaussNewton):
            smoother = {"ksp_type": "chebyshev", "pc_type": "jacobi"}
        coarse = {"pc_type": "redundant", "redundant_pc_type": "cholesky"}
        return {
            "pc_mg_levels": self.levels,
            "pc_mg_galerkin": "both",
            **{f"mg_levels_{key}": value for key, value in smoother.items()},
            **{f"mg_coarse_{key}": value for key, value in coarse.items()},
        }

    def refresh(self, linearization: Linearization, draw: int = 0) -> None:
        """P from the linearization at a new θ; the PC is set up again at its next application. Collective.

        ``draw``: the number of the random part of the residual, where P is made from a part.
        """
        part = linearization.subset(self.rows, draw) if self.rows else linearization
        self.matrix.assemble(part)
        self.dm.setAttr("linearization", part if self.pc_type == "two_level" else None)
        self.dm.setAttr("age", self._age)
        self._age += 1
        if self.coarser is not None:
            self.coarser.assemble(linearization.theta, self.matrix.damping * self.matrix.mean_diagonal)

    def set_damping(self, damping: float) -> None:
        """P = JᵀJ + λI with this λ until the next refresh. Collective."""
        self.matrix.set_damping(damping)

    def apply(self, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y ≈ scale · P⁻¹ x. Collective."""
        self.pc.apply(x, y)
        y.scale(self.scale)

    @contextmanager
    def solving(self, right: PETSc.Vec, start: PETSc.Vec) -> Iterator[bool]:
        """While a Krylov method solves P x = ``right``: whether it has to begin at ``start``, now set. Collective."""
        self.pc.setUp()
        two_level = self.pc.getPythonContext() if self.pc_type == "two_level" else None
        try:
            yield isinstance(two_level, TwoLevelSchwarz) and two_level.deflate(right, start)
        finally:
            if isinstance(two_level, TwoLevelSchwarz):
                two_level.release()

    def rescale(self, step: PETSc.Vec, change: PETSc.Vec) -> None:
        """Choose ``scale`` so that M = scale · P⁻¹ has the curvature of the last secant pair (s, y): sᵀy / yᵀP⁻¹y.

        Additive Schwarz counts what its blocks share once for each block, so that P⁻¹ overshoots; this is the
        preconditioned form of the usual scaling of L-BFGS (Nocedal & Wright, eq. (7.20)). Collective.
        """
        curvature = float(step.dot(change).real)
        if curvature <= 0.0:
            return
        self.scale = 1.0
        product = change.duplicate()
        self.apply(change, product)
        self.scale = curvature / product.dot(change)
        product.destroy()

    def require_symmetric_positive_definite(self, method: str) -> None:
        """Refuse what a method with short recurrences or secant updates cannot use. Collective.

        Raises
        ------
        OptionError     ⟨u, M v⟩ ≠ ⟨M u, v⟩ or ⟨u, M u⟩ ≤ 0 on random vectors
        """
        if self._checked:
            return
        u, v, mu, mv = (self.layout.create_vec() for _ in range(4))
        random = np.random.default_rng(7)
        self.layout.set(u, random.standard_normal(self.layout.size))
        self.layout.set(v, random.standard_normal(self.layout.size))
        self.apply(u, mu)
        self.apply(v, mv)
        scale = abs(u.dot(mu)) + abs(v.dot(mv))
        asymmetry, positive = abs(u.dot(mv) - mu.dot(v)), min(u.dot(mu), v.dot(mv)) > 0.0
        for vec in (u, v, mu, mv):
            vec.destroy()
        if asymmetry > 1e-6 * scale or not positive:
            what = "not symmetric" if asymmetry > 1e-6 * scale else "not positive definite"
            raise OptionError(
                f"-{self.prefix}pc_type {self.pc_type} is {what} with these options, and {method} needs a symmetric "
                "positive definite preconditioner: choose -pc_asm_type basic, -pc_fieldsplit_type additive or "
                "symmetric_multiplicative, a symmetric smoother, or raise -gn_shift"
            )
        self._checked = True

    def attach(self, ksp: PETSc.KSP, operator: PETSc.Mat) -> None:
        """Make this the preconditioner of a KSP."""
        pc = PETSc.PC().create(self.layout.comm)
        pc.setOptionsPrefix(f"{ksp.getOptionsPrefix() or ''}shared_")  # some methods read the options of their PC again
        pc.setOperators(operator, self.matrix.mat)
        pc.setType(PETSc.PC.Type.PYTHON)
        pc.setPythonContext(SharedPC(self))
        ksp.setPC(pc)

    def destroy(self) -> None:
        """Collective."""
        self.pc.destroy()
        if self.coarser is not None:
            self.coarser.destroy()
        self.matrix.destroy()
        self.dm.destroy()


class SharedPC:
    """Python PC context that hands everything to the one preconditioner M; it has no ``reset`` on purpose.

    Where a method solves on the parameters that no bound holds, it is R M Rᵀ.
    """

    def __init__(self, inner: Preconditioner) -> None:
        self.inner = inner

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = M x. Collective."""
        operator = pc.getOperators()[0]
        restricted = operator.getPythonContext() if operator.getType() == PETSc.Mat.Type.PYTHON else None
        if not isinstance(restricted, RestrictedOperator):
            self.inner.apply(x, y)
            return
        whole, result = self.inner.layout.create_vec(), self.inner.layout.create_vec()
        restricted.extend(x, whole)
        self.inner.apply(whole, result)
        restricted.restrict(result, y)
        whole.destroy()
        result.destroy()

    def applyTranspose(self, _: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec) -> None:
        """y = Mᵀ x. Collective."""
        self.inner.pc.applyTranspose(x, y)
        y.scale(self.inner.scale)

    def view(self, _: PETSc.PC, viewer: PETSc.Viewer) -> None:
        """The inner PC."""
        self.inner.pc.view(viewer)
