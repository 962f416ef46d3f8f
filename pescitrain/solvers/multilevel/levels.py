"""The networks of a hierarchy with what moves vectors between them; every rank has all of every vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from pescitrain.algebra import System
from pescitrain.algebra.coarse_networks import coarse_evaluator
from pescitrain.algebra.hierarchy import Coarsening, coarsen, finest_level, on_every_rank
from pescitrain.evaluation import Evaluator
from pescitrain.solvers.outcome import Array


@dataclass(frozen=True)
class NetworkLevel:
    """A network and its transfers to the next coarser one.

    Attributes
    ----------
    evaluator : Evaluator               φ of this network; a closure costs its share of the finest one's parameters
    prolongation : (n, n_coarse)        P, with one entry in each row; None on the coarsest level
    """

    evaluator: Evaluator
    prolongation: csr_array | None

    def gradient(self, theta: Array) -> Array:
        """∇φ (n,). Collective."""
        return self.evaluator.objective_gradient(theta)[1]

    def prolong(self, change: Array) -> Array:
        """P c, of corrections."""
        assert self.prolongation is not None
        return self.prolongation @ change

    def restrict(self, gradient: Array) -> Array:
        """Pᵀ g, of gradients."""
        assert self.prolongation is not None
        return self.prolongation.T @ gradient

    def inject(self, values: Array) -> Array:
        """Those of the first that each coarse parameter is prolonged to: no dual of P, for comparison alone."""
        assert self.prolongation is not None
        _, first = np.unique(self.prolongation.indices, return_index=True)  # rows have one entry each
        return values[first]

    def project(self, theta: Array) -> Array:
        """Π θ with Π = (PᵀP)⁻¹Pᵀ, of parameters."""
        return self.restrict(theta) / self._squares

    @property
    def coarse_size(self) -> int:
        """Parameters of the next coarser network."""
        return len(self._squares)

    @cached_property
    def _squares(self) -> Array:
        assert self.prolongation is not None
        return np.asarray(self.prolongation.multiply(self.prolongation).sum(0)).ravel()

    def largest_child(self, values: Array) -> Array:
        """The largest of the values (n,) that each coarse parameter is prolonged to."""
        assert self.prolongation is not None
        result = np.full(self.coarse_size, -np.inf)
        np.maximum.at(result, self.prolongation.indices, values)
        return result


def create_levels(system: System, coarsening: Coarsening, count: int) -> list[NetworkLevel]:
    """``count`` networks, the finest first. Collective.

    Raises
    ------
    OptionError     a network that is no MLP or ResNet; nothing is left to coarsen
    """
    level, evaluator, result = finest_level(system.layout), system.evaluator, []
    for _ in range(count - 1):
        coarse, transfer = coarsen(level, coarsening)
        result.append(NetworkLevel(evaluator, on_every_rank(transfer)))
        transfer.destroy()
        evaluator, level = coarse_evaluator(evaluator, coarse), coarse
    return [*result, NetworkLevel(evaluator, None)]
