"""A trained network as the initial guess of a host's nonlinear solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from petsc4py import PETSc

from pescitrain.coupling.locations import locations_of
from pescitrain.coupling.prediction import Model, function_of
from pescitrain.errors import ProblemError


class InitialGuess:
    """``snes.setInitialGuess(InitialGuess(model, snes.getDM(), lambda: [host.load]))``: solves start from a network.

    Where the prediction does not lower ‖F‖, the solve starts from where it would have started; :attr:`kept` counts
    these.

    Parameters
    ----------
    model                       of the fields (K, d) -> (K, k), or of an operator (1, s), (K, d) -> (1, K)
    where : DM or (K, d)        this rank's nodes
    parameters : callable       -> (s,), the inputs of the operator for the solve that begins; None for fields
    """

    def __init__(
        self, model: Model, where: PETSc.DM | ArrayLike, parameters: Callable[[], ArrayLike] | None = None
    ) -> None:
        self._predict, self._locations, self._parameters = function_of(model), locations_of(where), parameters
        self.used = self.kept = 0

    def follow(self, model: Model) -> None:
        """Predict by another network from now on. Not collective."""
        self._predict = function_of(model)

    def __call__(self, snes: PETSc.SNES, x: PETSc.Vec) -> None:
        """Overwrite x. Collective.

        Raises
        ------
        ProblemError        the network gives another number of values than the Vec has here
        """
        arguments = [] if self._parameters is None else [np.atleast_2d(np.asarray(self._parameters(), dtype=float))]
        values = np.asarray(self._predict(*arguments, self._locations)).reshape(-1)
        comm = x.getComm().tompi4py()
        if not all(comm.allgather(values.size == x.getLocalSize())):
            raise ProblemError(
                f"InitialGuess: the network gives {values.size} values for the {x.getLocalSize()} of the Vec on rank "
                f"{comm.rank}: are its nodes those of the solve?"
            )
        guess, residual = x.duplicate(), x.duplicate()
        guess.setArray(values)
        snes.computeFunction(x, residual)
        before = residual.norm()
        snes.computeFunction(guess, residual)
        after = residual.norm()
        if float(after) < float(before):  # pyright: ignore[reportArgumentType]
            guess.copy(x)
            self.used += 1
        else:
            self.kept += 1
        guess.destroy()
        residual.destroy()
