"""What a solver says when it stops, and what it is given to report to while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.algebra.hierarchy import Coarsening

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """Why a solve ended.

    Attributes
    ----------
    reason : str        PETSc's name of the reason, CONVERGED_… or DIVERGED_…
    iterations : int    iterations of this solve
    budget : bool       it stopped at the number of iterations it was given, nothing else
    """

    reason: str
    iterations: int
    budget: bool

    @property
    def diverged(self) -> bool:
        """Stopped by trouble, not by a test or a budget."""
        return not self.reason.startswith("CONVERGED") and not self.budget


NOTHING_LEFT = Outcome("DIVERGED_MAXITS", 0, budget=True)
"""Of a solve that was asked for no iterations."""


@dataclass(frozen=True)
class Iterate:
    """One accepted iterate, as the monitor sees it.

    Attributes
    ----------
    theta : (n,)        as far as this rank sees it; it is overwritten later
    whole : function    all of θ (n,), a copy. Collective
    """

    iteration: int
    theta: Array
    objective: float
    gradient_norm: float
    whole: Callable[[], Array]


Monitor = Callable[[Iterate], bool]
"""Called collectively with each iterate; True asks the solver to stop politely."""


@dataclass(frozen=True)
class GaussNewtonSettings:
    """How the preconditioner is made: the ``-gn_*`` and ``-hier_*`` options of a stage.

    lag None means the default of the method: each linearization for Newton types, every 10 iterations for
    quasi-Newton ones.
    """

    matrix: str | None = None
    lag: int | None = None
    shift: float = 3e-2
    damping: float | None = None
    rows: int = 0
    coarsening: Coarsening = "both"
    levels: int = 2
    single: bool = False

    @property
    def damping_of_line_search(self) -> float:
        """Relative damping of the operator in Newton methods that have no trust region: the shift unless given."""
        return self.shift if self.damping is None else self.damping


def reason_name(reasons: type, code: int) -> str:
    """PETSc's name of a converged reason of TAO or SNES."""
    names = {value: name for name, value in vars(reasons).items() if isinstance(value, int)}
    return names.get(code, str(code))


Memory = dict[str, list[Array]]
"""What a method remembers between iterations, as lists of vectors (n,) in the order of θ; {} where nothing is."""


def report(tao: PETSc.TAO, iteration: int, objective: float, gradient: PETSc.Vec, step: float) -> None:
    """Tell TAO's monitors and tests where a method with a loop of its own is; ``step``: its length. Collective."""
    tao.setIterationNumber(iteration)
    tao.monitor(iteration, objective, gradient.norm(), 0.0, step)
    tao.checkConverged()
