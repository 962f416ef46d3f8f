"""How the corrections of blocks that were trained side by side become one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pescitrain.algebra import Block, System
from pescitrain.solvers.outcome import Array
from pescitrain.solvers.schwarz.search import LineSearch, Point, point_at
from pescitrain.solvers.schwarz.subspace import Subspace

SYNCHRONISATIONS = ("single", "subdomain", "subspace", "copy")
WEIGHTS = ("average", "mean", "restrict", "sum")

Notice = Callable[[str], None]


def weights_of(kind: str, blocks: Sequence[Block], size: int) -> list[Array]:
    """W_s (n,) for every block: how its correction counts where blocks overlap; one everywhere without overlap.

    average     1 / number of blocks that hold the parameter
    mean        1 / the mean of that number
    restrict    one on the block's own layers, zero on its overlap
    sum         one
    """
    multiplicity = np.zeros(size)
    for block in blocks:
        multiplicity[block.active] += 1.0
    held = multiplicity > 0
    multiplicity = np.maximum(multiplicity, 1.0)  # in the layers of other blocks nothing is weighted
    if kind == "average":
        return [1.0 / multiplicity] * len(blocks)
    if kind == "mean":
        return [np.full(size, 1.0 / multiplicity[held].mean())] * len(blocks)
    weights = []
    for block in blocks:
        weight = np.zeros(size)
        weight[block.owned if kind == "restrict" else block.active] = 1.0
        weights.append(weight)
    return weights


class Synchronisation:
    """One of

    single      one line search along Σ W_s c_s (Kopaničáková et al. 2024)
    subdomain   one line search for every c_s from where the one before ended, in feed-forward order (Lee et al. 2025)
    subspace    minimisation over the span of the c_s (after multi-preconditioned L-BFGS, arXiv:2601.08709)
    copy        θ + Σ W_s c_s as it is

    Corrections that do not descend are left out. Line searches are ``-sync_tao_ls_*``, the minimisation is the TAO
    ``-sync_tao_*``, both after the prefix of the method.
    """

    def __init__(self, kind: str, weights: Sequence[Array], system: System, prefix: str, notice: Notice) -> None:
        self.kind, self.weights, self.system, self.notice = kind, weights, system, notice
        self.search = LineSearch(system, f"{prefix}sync_")
        defaults = {
            "tao_type": "lbfgs",
            "tao_max_it": 5,
            "tao_gatol": 0,
            "tao_grtol": 0,
            "tao_gttol": 0.1,
            "tao_lbfgs_first_step": 1e30,
        }
        self.subspace = Subspace(system, f"{prefix}sync_", defaults) if kind == "subspace" else None

    def join(self, start: Point, corrections: Sequence[Array], more: Sequence[Array] = ()) -> Point:
        """From the point of the local solves and their corrections (n,) to the next point. Collective.

        ``more``: other directions for the subspace.
        """
        if self.kind == "copy":
            return point_at(self.system, start.theta + self._weighted(corrections))
        if self.kind == "subdomain":
            return self._one_by_one(start, corrections)
        kept = [c if float(start.gradient @ c) < 0.0 else np.zeros_like(c) for c in corrections]
        if self.kind == "subspace":
            return self._in_span(start, [c for c in kept if c.any()], more)
        if not any(c.any() for c in kept):
            return start
        direction = self._weighted(kept)
        if not float(start.gradient @ direction) < 0.0:
            self.notice("the corrections together do not descend: they are left out of an iteration")
            return start
        return self.search.along(start, direction)[0]

    def _weighted(self, corrections: Sequence[Array]) -> Array:
        return np.sum([w * c for w, c in zip(self.weights, corrections, strict=True)], axis=0)

    def _one_by_one(self, start: Point, corrections: Sequence[Array]) -> Point:
        for correction in corrections:
            if float(start.gradient @ correction) < 0.0:
                start, _ = self.search.along(start, correction)
        return start

    def _in_span(self, start: Point, corrections: Sequence[Array], more: Sequence[Array]) -> Point:
        """The reduced Hessian Cᵀ∇²φ C, from a gradient for each direction, scales the subspace: C ← C H^(−½)."""
        assert self.subspace is not None
        kept, changes = [], []
        for direction in (*corrections, *more):
            length = float(np.linalg.norm(direction))
            if length > 0.0:
                ahead = point_at(self.system, start.theta + direction)
                if np.isfinite(ahead.value.objective):
                    kept.append(direction / length)
                    changes.append((ahead.gradient - start.gradient) / length)
        if not kept:
            return start
        columns = np.stack(kept, axis=1)
        hessian = columns.T @ np.stack(changes, axis=1)
        if not (np.isfinite(hessian).all() and hessian.any()):
            return start
        values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        sizes = np.maximum(np.abs(values), 1e-8 * np.abs(values).max())
        return self.subspace.minimise(start, columns @ (vectors / np.sqrt(sizes)))
