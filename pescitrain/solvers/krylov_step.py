"""Damped Gauss–Newton steps by a Krylov method with the one preconditioner: ``-tao_lm_space krylov``."""

from __future__ import annotations

from typing import ClassVar

from petsc4py import PETSc

from pescitrain.algebra import Preconditioner, System
from pescitrain.algebra.operators import mean_of_diagonal
from pescitrain.algebra.options import DIRECT, set_default
from pescitrain.errors import OptionError
from pescitrain.evaluation import Linearization
from pescitrain.solvers.outcome import Array

START_ANYWHERE = ("cg", "fcg", "pipecg", "groppcg", "cr", "gmres", "fgmres")
"""Krylov methods that take an initial guess; those with a trust region do not."""


class KrylovSteps:
    """(JᵀJ + λI)⁻¹ Jᵀc of one linearization after another, for any λ, to the tolerance of a KSP.

    J enters by products alone, unless the preconditioner has all entries of JᵀJ at every linearization: then the matrix
    is the operator (:attr:`sparse`), and a product exchanges what neighbouring subdomains share. The preconditioner is
    refreshed every ``lag``-th linearization and has the λ of the system.

    Options, with ``prefix`` (and without it, where the method has no other Krylov solver)
    --------------------------------------------------------------------------------------
    -ksp_type cg, -ksp_rtol 0.1, -ksp_max_it 100
    """

    defaults: ClassVar[dict[str, object]] = {"ksp_type": "cg", "ksp_rtol": 0.1, "ksp_max_it": 100}

    def __init__(self, system: System, preconditioner: Preconditioner | None, lag: int, prefix: str) -> None:
        if preconditioner is not None and preconditioner.pc_type in DIRECT and system.layout.comm.size > 1:
            # PETSc's redundant factorisation keeps the first λ.
            raise OptionError(
                f"-pc_type {preconditioner.pc_type} takes one λ only on several ranks: use -tao_lm_space parameters, "
                "which factors JᵀJ + λI itself"
            )
        self._system, self._preconditioner, self._lag, self._linearizations = system, preconditioner, lag, 0
        self._prefix = prefix
        for key, value in self.defaults.items():
            set_default(prefix + key, value)
        operator = system.operator
        self.sparse = preconditioner is not None and preconditioner.has_all_entries and lag == 1
        if preconditioner is not None and self.sparse:
            operator = preconditioner.matrix.mat
        self._ksp = self._create_ksp(operator)
        self._starts = self.sparse and self._ksp.getType() in START_ANYWHERE
        self._right, self._solution = (system.layout.create_vec() for _ in range(2))
        self.mean = 1.0

    def _create_ksp(self, operator: PETSc.Mat) -> PETSc.KSP:
        """From the options, with the one preconditioner."""
        preconditioner = self._preconditioner
        ksp = PETSc.KSP().create(self._system.layout.comm)
        ksp.setOptionsPrefix(self._prefix)
        ksp.setOperators(operator, operator if preconditioner is None else preconditioner.matrix.mat)
        if preconditioner is None:
            ksp.getPC().setType("none")
        else:
            preconditioner.attach(ksp, operator)
        ksp.setFromOptions()
        return ksp

    @property
    def largest(self) -> float:
        """What the least λ is relative to; nothing is factored here that could break down."""
        return self.mean

    def move_to(self, linearization: Linearization, draw: int) -> None:
        """Another J; ``mean`` is that of the diagonal of JᵀJ, for the scale of λ. Collective.

        ``draw``: the number of the random part of the samples that the preconditioner sees.
        """
        self._linearization = linearization
        if self._preconditioner is not None and self._linearizations % self._lag == 0:
            self._preconditioner.refresh(linearization, draw)
        self._linearizations += 1
        if self._preconditioner is None:
            diagonal = linearization.gauss_newton_diagonal()
            self.mean = mean_of_diagonal(diagonal.sum(), len(diagonal))
        else:
            self.mean = self._preconditioner.matrix.mean_diagonal

    def factor(self, damping: float) -> KrylovSteps:
        """Take this λ. Collective."""
        self._system.gauss_newton.take(self._linearization, damping)
        self._system.operator.assemble()
        if self._preconditioner is not None:
            self._preconditioner.set_damping(damping)
        return self

    def __call__(self, c: Array, image: Array | None = None) -> Array:
        """c (m_local,), Jᵀc (n,) if it is known -> (n,), as far as this rank sees it. Collective."""
        layout = self._system.layout
        layout.set(self._right, self._linearization.transpose_times(c) if image is None else image)
        if self._preconditioner is None or not self._starts:
            return self._solve()
        with self._preconditioner.solving(self._right, self._solution) as started:
            self._ksp.setInitialGuessNonzero(started)
            return self._solve()

    def _solve(self) -> Array:
        self._ksp.solve(self._right, self._solution)
        self._system.evaluator.counters.krylov += self._ksp.getIterationNumber()
        return self._system.gather(self._solution).copy()

    def destroy(self) -> None:
        """Collective."""
        for thing in (self._ksp, self._right, self._solution):
            thing.destroy()
