"""Limited-memory symmetric rank-one matrices in compact form, and the trust-region step that they give exactly.

B = γI + ΨMΨᵀ with Ψ = Y − γS and M⁻¹ = D + L + Lᵀ − γSᵀS, where SᵀY = L + D + U in strictly lower, diagonal and
strictly upper part (Byrd, Nocedal & Schnabel, Math. Program. 63 (1994) 129–156). Its eigenvalues are those of a small
matrix and γ, so that the trust-region problem is solved to round-off (Brust, Erway & Marcia, Comput. Optim. Appl. 66
(2017) 245–266).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from petsc4py import PETSc

from pescitrain.solvers.trust_region import Spectrum, spectral_step

Array = NDArray[np.float64]

SKIP = 1e-8
"""Pairs with |sᵀ(y − Bs)| below this part of ‖s‖ ‖y − Bs‖ are not learnt (Nocedal & Wright, eq. 6.26)."""
KNOWN = 1e-12
"""Nor are those with ‖y − Bs‖ below this part of ‖y‖: B maps them already."""
SMALLEST_SCALE, LARGEST_SCALE = 1e-3, 1e3
LARGEST_CONDITION = 1e10
"""Of the columns of Ψ, scaled to length one; the oldest pairs are dropped until it holds."""
SINGULAR = 1e-14
"""M⁻¹ counts as singular where its eigenvalues differ by more; the oldest pairs are dropped then, too."""


@dataclass(frozen=True)
class Step:
    """A minimiser of gᵀp + ½ pᵀBp over ‖p‖ ≤ Δ: local part, its length, what the model falls by, σ of B + σI."""

    vector: Array
    length: float
    reduction: float
    multiplier: float


class LimitedMemorySR1:
    """The newest pairs (s, y), which B maps exactly in the last one. Vectors are local parts.

    Parameters
    ----------
    size : int          pairs that are kept
    comm : Comm         over which they are distributed
    """

    def __init__(self, size: int, comm: PETSc.Comm) -> None:
        self.steps: deque[Array] = deque(maxlen=size)
        self.changes: deque[Array] = deque(maxlen=size)
        self.scale = 1.0
        self._comm = comm.tompi4py()
        self._basis: Array | None = None  # (n_local, r), orthonormal over all ranks
        self._eigenvalues: Array = np.zeros(0)  # (r,) of B in the range of the basis

    def clear(self) -> None:
        """B = I."""
        self.steps.clear()
        self.changes.clear()
        self.scale, self._basis, self._eigenvalues = 1.0, None, np.zeros(0)

    def restore(self, pairs: Sequence[tuple[Array, Array]], scale: float) -> None:
        """The matrix that these pairs, oldest first, and γ had. Collective."""
        self.clear()
        self.steps.extend(step.copy() for step, _ in pairs)
        self.changes.extend(change.copy() for _, change in pairs)
        self.scale = float(scale)
        if self.steps:
            self._decompose()

    def products(self, a: Array, b: Array) -> Array:
        """aᵀb over all ranks, of vectors or of matrices of columns. Collective."""
        local = np.asarray(a.T @ b)
        return np.asarray(self._comm.allreduce(local)) if self._comm.size > 1 else local

    def times(self, vector: Array) -> Array:
        """B v. Collective."""
        if self._basis is None:
            return self.scale * vector
        inside = self.products(self._basis, vector)
        return self.scale * vector + self._basis @ ((self._eigenvalues - self.scale) * inside)

    def add(self, step: Array, change: Array) -> bool:
        """Learn B s = y; False where the pair says nothing or is not finite. Collective."""
        residual = change - self.times(step)
        columns = np.stack((step, residual, change), axis=1)
        gram = self.products(columns, columns)
        if not np.isfinite(gram).all() or gram[1, 1] <= KNOWN**2 * gram[2, 2]:
            return False
        if abs(gram[0, 1]) < SKIP * np.sqrt(gram[0, 0] * gram[1, 1]):
            return False
        self.steps.append(step.copy())
        self.changes.append(change.copy())
        ratio = gram[2, 2] / max(abs(gram[0, 2]), np.finfo(float).tiny)
        self.scale = float(np.clip(ratio, SMALLEST_SCALE, LARGEST_SCALE))
        self._decompose()
        return bool(self.steps)

    def solve(self, gradient: Array, radius: float) -> Step:
        """The step of the trust region. Collective."""
        inside, outside, size = np.zeros(0), gradient, len(self._eigenvalues)
        if self._basis is not None:
            inside = self.products(self._basis, gradient)
            outside = gradient - self._basis @ inside
            again = self.products(self._basis, outside)  # one projection leaves round-off of the size of g
            outside, inside = outside - self._basis @ again, inside + again
        norm = float(np.sqrt(self.products(outside, outside)))
        spectrum = Spectrum(np.append(self._eigenvalues, self.scale), np.append(inside, norm))
        step = self._comm.bcast(spectral_step(spectrum, radius))  # ranks must not differ by a bit of LAPACK
        along = step.coefficients
        vector = outside * (along[size] / norm) if norm > 0.0 else np.zeros_like(gradient)
        if self._basis is not None:
            vector = vector + self._basis @ along[:size]
        return Step(vector, step.length, step.reduction, step.multiplier)

    def _decompose(self) -> None:
        """An orthonormal basis of the range of Ψ and the eigenvalues of B there. Collective."""
        while self.steps:
            pairs = np.stack((*self.steps, *self.changes), axis=1)
            count = len(self.steps)
            gram = self.products(pairs, pairs)
            psi = pairs[:, count:] - self.scale * pairs[:, :count]
            found = self._comm.bcast(_orthonormal(_psi_gram(gram, self.scale)))
            if found is not None and self._found(psi @ found[0], found[1], gram):
                return
            self.steps.popleft()
            self.changes.popleft()
        self._basis, self._eigenvalues = None, np.zeros(0)

    def _found(self, basis: Array, coordinates: Array, gram: Array) -> bool:
        """Take a nearly orthonormal basis of Ψ, made orthonormal; False where round-off has spoilt it. Collective."""
        # Once more, as the first time round-off grew with the condition of the columns (CholeskyQR2).
        lower = self._comm.bcast(_cholesky(self.products(basis, basis)))
        if lower is None:
            return False
        inner = self._comm.bcast(_eigen(_middle(gram, self.scale), lower.T @ coordinates))
        if inner is None:
            return False
        rotation, eigenvalues = inner
        basis = scipy.linalg.solve_triangular(lower, basis.T, lower=True).T
        self._basis, self._eigenvalues = basis @ rotation, eigenvalues + self.scale
        return True


def _cholesky(gram: Array) -> Array | None:
    """Its lower factor; None where it has none, as where Ψ is all cancellation."""
    try:
        return np.asarray(np.linalg.cholesky(gram), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None


def _psi_gram(gram: Array, scale: float) -> Array:
    """ΨᵀΨ from that of the columns of S and Y (2k, 2k)."""
    count = len(gram) // 2
    ss, sy, yy = gram[:count, :count], gram[:count, count:], gram[count:, count:]
    return yy - scale * (sy + sy.T) + scale**2 * ss


def _middle(gram: Array, scale: float) -> Array:
    """M⁻¹ = D + L + Lᵀ − γSᵀS."""
    count = len(gram) // 2
    ss, sy = gram[:count, :count], gram[:count, count:]
    lower = np.tril(sy, -1)
    return lower + lower.T + np.diag(np.diag(sy)) - scale * ss


def _orthonormal(columns: Array) -> tuple[Array, Array] | None:
    """T (k, r) such that Q = ΨT is orthonormal, and C (r, k) with Ψ = QC, from ΨᵀΨ; None where pairs are too alike."""
    lengths = np.sqrt(np.diag(columns).clip(0.0))
    if not (lengths > 0.0).all():
        return None
    values, vectors = scipy.linalg.eigh(columns / np.outer(lengths, lengths))
    if values[0] * LARGEST_CONDITION < values[-1]:
        return None
    roots = np.sqrt(values)
    return vectors / lengths[:, None] / roots, roots[:, None] * vectors.T * lengths


def _eigen(middle: Array, coordinates: Array) -> tuple[Array, Array] | None:
    """Eigenvectors and eigenvalues of C M Cᵀ; None where M⁻¹ is singular."""
    weights, axes = scipy.linalg.eigh(middle)
    if np.abs(weights).min() <= SINGULAR * np.abs(weights).max():
        return None
    turned = coordinates @ axes
    eigenvalues, rotation = scipy.linalg.eigh((turned / weights) @ turned.T)
    return rotation, eigenvalues
