"""Damped Gauss–Newton steps as least-squares problems in J: ``-tao_lm_space krylov -ksp_type lsqr`` or ``cgls``."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.operators import DampedJacobian, MatrixFreeGaussNewton, create_damped_jacobian
from pescitrain.evaluation import Linearization
from pescitrain.solvers.krylov_step import KrylovSteps
from pescitrain.solvers.outcome import Array

LEAST_SQUARES = ("lsqr", "cgls")

ROUNDING = 1e-15
"""Least λ of a preconditioner that factors entries of JᵀJ, relative to its trace: rounding makes them indefinite."""


class LeastSquaresSteps(KrylovSteps):
    """argmin ‖J s − c‖² + λ ‖s‖² by a Krylov method on [J; √λ I], whose condition is the root of that of JᵀJ + λI.

    The preconditioner is that of the normal equations, M ≈ (JᵀJ + λI)⁻¹. A solve ends with ‖Âᵀr‖ ≤ rtol ‖Â‖ ‖r‖, Â
    being the preconditioned matrix and r the residual, or with ‖r‖ ≤ rtol ‖c‖ where little is left; that of cgls with
    ‖Aᵀr‖ ≤ rtol ‖Aᵀc‖.

    Options, with ``prefix`` (and without it, where the method has no other Krylov solver)
    --------------------------------------------------------------------------------------
    -ksp_type lsqr      PETSc's KSPLSQR (Paige & Saunders, ACM Trans. Math. Softw. 8 (1982) 43), or its KSPCGLS, cgls,
                        which takes no preconditioner
    -ksp_rtol 1e-8, -ksp_max_it 10000
    """

    defaults: ClassVar[dict[str, object]] = {"ksp_rtol": 1e-8, "ksp_max_it": 10000}

    _operator: PETSc.Mat | None = None

    @property
    def largest(self) -> float:
        """What the least λ is relative to: √λ enters here, and may be as small as rounding in J."""
        return float(np.finfo(float).eps) * self.mean

    def move_to(self, linearization: Linearization, draw: int) -> None:
        super().move_to(linearization, draw)
        self._release()
        self._operator = create_damped_jacobian(self._system.layout, linearization)
        self._ksp = self._create_ksp(self._operator)
        self._right = self._operator.createVecLeft()

    def factor(self, damping: float) -> LeastSquaresSteps:
        assert self._operator is not None
        context = self._operator.getPythonContext()
        assert isinstance(context, DampedJacobian)
        context.damping = damping
        self._operator.assemble()
        if self._preconditioner is not None:
            with_entries = not isinstance(self._preconditioner.matrix, MatrixFreeGaussNewton)
            least = ROUNDING * self._system.layout.size * self.mean if with_entries else 0.0
            self._preconditioner.set_damping(max(damping, least))
        return self

    def __call__(self, c: Array, image: Array | None = None) -> Array:
        self._right.setArray(np.concatenate((c, np.zeros(self._system.layout.local_size))))
        return self._solve()

    def _release(self) -> None:
        for thing in (self._ksp, self._right, self._operator):
            if thing is not None:
                thing.destroy()

    def destroy(self) -> None:
        self._release()
        self._solution.destroy()
