"""The nonlinear system ∇φ(θ) = 0 as PETSc sees it: callbacks on Vecs for TAO and SNES."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.ghosts import Ghosts
from pescitrain.algebra.layout import ParameterLayout
from pescitrain.algebra.network_dm import create_network_dm
from pescitrain.algebra.operators import GaussNewtonOperator, create_gauss_newton
from pescitrain.algebra.preconditioner import Preconditioner
from pescitrain.evaluation import Evaluator, Value
from pescitrain.evaluation.couplings import Couplings

Array = NDArray[np.float64]


class System:
    """φ, ∇φ and the Gauss–Newton matrix of an evaluator on the Vecs of a layout; one for all stages of a run."""

    def __init__(
        self,
        evaluator: Evaluator,
        layout: ParameterLayout,
        blocks: list[Block],
        bounds: tuple[Array, Array] | None,
        couplings: Couplings | None = None,
    ) -> None:
        self.evaluator, self.layout, self.blocks, self.couplings = evaluator, layout, blocks, couplings
        self.operator = create_gauss_newton(layout, evaluator)
        self.bounds = bounds
        self._ghosts: Ghosts | None = None
        self.dm = create_network_dm(layout, blocks, lambda: self.operator)

    @property
    def gauss_newton(self) -> GaussNewtonOperator:
        """The context behind :attr:`operator`."""
        context = self.operator.getPythonContext()
        assert isinstance(context, GaussNewtonOperator)
        return context

    def see(self, seen: NDArray[np.integer] | None) -> None:
        """From here on, parameters and sums of gradients go between ranks that see one another's. Collective.

        For methods that look at the rank's own entries of θ and ∇φ alone. ``seen``: the sorted entries that its samples
        see; None: all of them on all ranks again.
        """
        if self._ghosts is not None:
            self._ghosts.destroy()
        self._ghosts = None if seen is None else Ghosts(self.layout, seen)
        self.evaluator.neighbour_sums = self._ghosts

    def gather(self, x: PETSc.Vec) -> Array:
        """θ (n,) as far as this rank sees it, or all of it, in a buffer that the next call overwrites. Collective."""
        return self.layout.gather(x) if self._ghosts is None else self._ghosts.gather(x)

    def whole(self, theta: Array) -> Array:
        """A copy of θ (n,) of which each rank has at least its own entries, with all of them. Collective."""
        if self.layout.comm.size == 1:
            return theta.copy()
        vec = self.layout.vec_from(theta)
        result = self.layout.gather(vec).copy()
        vec.destroy()
        return result

    def dot(self, a: Array, b: Array) -> float:
        """⟨a, b⟩ of two (n,) of which each rank has at least its own entries. Collective."""
        return float(a @ b) if self._ghosts is None else self._ghosts.dot(a, b)

    def agree(self, holds: bool) -> bool:
        """Whether something holds on all ranks. Collective."""
        return holds if self._ghosts is None else bool(self.evaluator.comm.allreduce(holds, op=MPI.LAND))

    def value(self, x: PETSc.Vec) -> Value:
        """φ with its terms. Collective."""
        return self.evaluator.objective(self.gather(x))

    def objective(self, x: PETSc.Vec) -> float:
        """φ. Collective."""
        return self.value(x).objective

    def objective_gradient(self, x: PETSc.Vec, g: PETSc.Vec) -> float:
        """φ, and ∇φ into g. Collective."""
        value, gradient = self.evaluator.objective_gradient(self.gather(x))
        self.layout.set(g, gradient)
        return value.objective

    def gradient(self, x: PETSc.Vec, g: PETSc.Vec) -> None:
        """∇φ into g. Collective."""
        self.objective_gradient(x, g)

    def linearize(
        self,
        x: PETSc.Vec,
        preconditioner: Preconditioner | None,
        refresh: bool = True,
        damping: float = 0.0,
        draw: int = 0,
    ) -> None:
        """Move the Gauss–Newton operator to x and refresh the preconditioner there, if there is one. Collective.

        ``damping``: λ of the operator JᵀJ + λI, relative to the mean of the diagonal of JᵀJ. ``draw``: the number of
        the random part of the samples that the preconditioner sees; the iteration, so that a restart draws it again.
        """
        context = self.gauss_newton
        context.move_to(self.gather(x))
        if preconditioner is not None and refresh:
            preconditioner.refresh(context.linearization, draw)
        context.damping = 0.0
        if damping > 0.0:
            known = preconditioner is not None
            mean = (
                preconditioner.matrix.mean_diagonal if known else context.linearization.gauss_newton_diagonal().mean()
            )
            context.damping = damping * float(mean)
        self.operator.assemble()

    def bound_vecs(self) -> tuple[PETSc.Vec, PETSc.Vec] | None:
        """Lower and upper bounds of θ as new Vecs, or None where nothing is bounded."""
        if self.bounds is None:
            return None
        return self.layout.vec_from(self.bounds[0]), self.layout.vec_from(self.bounds[1])

    def destroy(self) -> None:
        """Collective."""
        self.see(None)
        self.dm.destroy()
        self.operator.destroy()
        self.layout.destroy()
