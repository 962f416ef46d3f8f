"""Allen–Cahn with fixed ends: u_t = D u_xx + 5(u − u³), u(x,0) = x² cos πx, u(±1,t) = −1, D = 0.001, t in [0, 1].

``allen_cahn_paper`` evaluates the shipped solution, ``allen_cahn_paper.npz``;
``python -m pescitrain.problems.references.allen_cahn`` computes that file again in about a minute.

Method: u is even in x, hence a function of y = 2x² − 1, for which u_xx = 8(1 + y) u_yy + 4 u_y. Collocation at 601
Chebyshev points of y (the same as even Chebyshev collocation in x with twice as many), and in time one Radau IIA step
of 15 stages on each of 43 slabs. The first slabs are tiny and double: the data meet the boundary conditions but not
the equation at x = ±1, t = 0, so a layer of width √(Dt) and height 0.008 t starts there. The collocation polynomial in
t of each slab is the solution; its Legendre coefficients in t and Chebyshev coefficients in y are stored, rounded to
multiples of 2⁻⁴⁹ so that they compress.

Accuracy: 2e-13 for t ≥ 1e-4 and 1e-11 before (in the layer), at any x and t in between as well; measured between 500,
600 and 640 points of y, 11, 15 and 19 stages, slabs of 0.01 to 0.1.
Source: Hairer & Wanner, Solving Ordinary Differential Equations II, 2nd ed., § IV.5 (Radau IIA) and § IV.8 (simplified
Newton, transformed to one real or complex system per stage).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.linalg
import scipy.special
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

DIFFUSION = 0.001
FILE = Path(__file__).with_name("allen_cahn_paper.npz")


def allen_cahn_paper(x: ArrayLike, t: ArrayLike) -> FloatArray:
    """u(x, t) for −1 ≤ x ≤ 1 and 0 ≤ t ≤ 1; x and t are broadcast against each other.

    Cost: up to 600 cosines for each point; 257 × 101 points take 0.2 s.

    >>> print(f"{allen_cahn_paper(0.25, 1.0):.10f}")
    0.9873211594
    """
    shape = np.broadcast_shapes(np.shape(x), np.shape(t))
    x_flat = np.broadcast_to(np.asarray(x, dtype=np.float64), shape).ravel()
    t_flat = np.broadcast_to(np.asarray(t, dtype=np.float64), shape).ravel()
    if x_flat.size and (np.abs(x_flat).max() > 1.0 or t_flat.min() < 0.0 or t_flat.max() > 1.0):
        raise ValueError("allen_cahn_paper is known for -1 <= x <= 1 and 0 <= t <= 1 only; see the points")
    edges, blocks = _load()
    slab = np.clip(np.searchsorted(edges, t_flat, side="right") - 1, 0, len(blocks) - 1)
    values = np.empty(x_flat.size)
    order = np.argsort(slab, kind="stable")
    for chunk in np.array_split(order, max(1, order.size // 2000)):
        for index in np.unique(slab[chunk]):
            points = chunk[slab[chunk] == index]
            block = blocks[index]
            local = 2.0 * (t_flat[points] - edges[index]) / (edges[index + 1] - edges[index]) - 1.0
            in_time = legendre.legvander(local, block.shape[0] - 1) @ block
            # T_k(y) with y = 2x² − 1 is cos(2k arccos x).
            angle = 2.0 * np.arccos(x_flat[points])
            values[points] = np.einsum("pk,pk->p", in_time, np.cos(np.outer(angle, np.arange(block.shape[1]))))
    return values.reshape(shape)


@lru_cache(maxsize=1)
def _load() -> tuple[FloatArray, list[FloatArray]]:
    """The ends of the slabs, (n + 1,), and the coefficients of each, (Legendre in t, Chebyshev in y)."""
    with np.load(FILE) as data:
        edges, shapes, flat = data["edges"], data["shapes"], data["coefficients"]
    ends = np.cumsum(shapes.prod(axis=1))[:-1]
    return edges, [part.reshape(shape) for part, shape in zip(np.split(flat, ends), shapes, strict=True)]


def chebyshev_matrices(degree: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Points cos(πj/degree), (degree + 1,), and the matrices of the first and second derivative on them.

    Source: Trefethen, Spectral Methods in MATLAB, ch. 6; differences of points by the sine formula, diagonals such that
    constants have no derivative; second derivatives by Welfert's recurrence.
    """
    index = np.arange(degree + 1)
    points = np.cos(np.pi * index / degree)
    half = 0.5 * np.pi / degree
    difference = 2.0 * np.sin(half * (index[:, None] + index)) * np.sin(half * (index - index[:, None]))
    np.fill_diagonal(difference, 1.0)
    weight = (-1.0) ** index
    weight[[0, -1]] *= 0.5
    ratio = weight / weight[:, None]
    first = ratio / difference
    np.fill_diagonal(first, 0.0)
    np.fill_diagonal(first, -first.sum(axis=1))
    second = 2.0 / difference * (ratio * np.diag(first)[:, None] - first)
    np.fill_diagonal(second, 0.0)
    np.fill_diagonal(second, -second.sum(axis=1))
    return points, first, second


def radau(stages: int) -> tuple[FloatArray, FloatArray]:
    """The nodes of Radau IIA in (0, 1], (stages,), and its matrix A, (stages, stages)."""
    interior, _ = scipy.special.roots_jacobi(stages - 1, 1.0, 0.0)
    nodes = np.append(interior, 1.0)
    # A maps values of a polynomial at the nodes to its integrals from −1, here through Legendre coefficients.
    vander = legendre.legvander(nodes, stages)
    integral = np.column_stack(
        [legendre.legval(nodes, legendre.legint(np.eye(stages)[k], lbnd=-1)) for k in range(stages)]
    )
    return 0.5 * (nodes + 1.0), 0.5 * np.linalg.solve(vander[:, :stages].T, integral.T).T


def slab_edges(start: float, longest: float) -> FloatArray:
    """0, start, 2 start, 4 start, … until slabs are ``longest``, then even ones to 1."""
    growing = start * 2.0 ** np.arange(60)
    growing = growing[growing <= 2.0 * longest]
    even = np.linspace(growing[-1], 1.0, int(np.ceil((1.0 - growing[-1]) / longest)) + 1)
    return np.concatenate([[0.0], growing, even[1:]])


def solve(degree: int, stages: int, edges: FloatArray) -> Iterator[FloatArray]:
    """For each slab the values at its start and at its Radau nodes, (stages + 1, degree + 1), at the Chebyshev points.

    Cost: (stages + 1)/2 complex factorisations of size ``degree`` for each slab, and two solves for each iteration.
    """
    y, first, second = chebyshev_matrices(degree)
    diffusion = DIFFUSION * (8.0 * (1.0 + y)[:, None] * second + 4.0 * first)
    # y[0] = 1 is x = ±1, where u stays −1: that row and column do not enter.
    inner = diffusion[1:, 1:]
    pull = -diffusion[1:, 0]
    matrix = radau(stages)[1]
    spectrum = scipy.linalg.eig(np.linalg.inv(matrix))
    eigenvalues, vectors = spectrum[0], spectrum[1]
    inverse = np.linalg.inv(vectors)
    # Of a pair of conjugate systems one is solved, and its real part counts twice.
    counts = {k: 1.0 + (eigenvalues[k].imag > 0.0) for k in range(stages) if eigenvalues[k].imag >= 0.0}
    x = np.sqrt(0.5 * (1.0 + y))
    u = (x**2 * np.cos(np.pi * x))[1:]
    for length in np.diff(edges):
        jacobian = inner + np.diag(5.0 * (1.0 - 3.0 * u**2))
        factors = [scipy.linalg.lu_factor(eigenvalues[k] / length * np.eye(degree) - jacobian) for k in counts]
        change = np.zeros((stages, degree))
        size = np.inf
        for _ in range(60):
            stage = u + change
            rate = stage @ inner.T + pull + 5.0 * (stage - stage**3)
            defect = inverse @ (rate - np.linalg.solve(matrix, change) / length)
            step = np.zeros((stages, degree))
            for k, factor in zip(counts, factors, strict=True):
                step += counts[k] * np.real(np.outer(vectors[:, k], scipy.linalg.lu_solve(factor, defect[k])))
            change += step
            last, size = size, float(np.abs(step).max())
            if size < 1e-15 or (size < 1e-11 and size > 0.5 * last):
                break
        else:
            raise ArithmeticError(f"the Newton iteration stalled at {size:.1e}: use shorter slabs")
        values = np.hstack([np.full((stages + 1, 1), -1.0), np.vstack([u, u + change])])
        u = u + change[-1]
        yield values


def coefficients(values: FloatArray) -> FloatArray:
    """Legendre × Chebyshev coefficients of one slab, (in t, in y), rounded and without what exceeds 1e-14 nowhere."""
    stages = values.shape[0] - 1
    nodes = np.append(-1.0, 2.0 * radau(stages)[0] - 1.0)
    in_time = np.linalg.solve(legendre.legvander(nodes, stages), values)
    in_space = scipy.fft.dct(in_time, type=1, axis=1) / (values.shape[1] - 1)
    in_space[:, [0, -1]] *= 0.5
    large = np.abs(in_space) > 1e-14
    in_space = in_space[: large.any(axis=1).nonzero()[0][-1] + 1, : large.any(axis=0).nonzero()[0][-1] + 1]
    return np.ldexp(np.round(np.ldexp(in_space, 49)), -49)


def compute(
    degree: int = 600, stages: int = 15, start: float = 1e-9, longest: float = 0.06
) -> tuple[FloatArray, list[FloatArray]]:
    """The ends of the slabs, (n + 1,), and the coefficients of each; the defaults are what is shipped."""
    edges = slab_edges(start, longest)
    return edges, [coefficients(values) for values in solve(degree, stages, edges)]


if __name__ == "__main__":
    slabs, tables = compute()
    np.savez_compressed(
        FILE,
        edges=slabs,
        shapes=np.array([table.shape for table in tables]),
        coefficients=np.concatenate([table.ravel() for table in tables]),
    )
    print(f"{FILE.name}: {len(tables)} slabs, {FILE.stat().st_size / 1024:.0f} KiB")
    print("u(0,1) =", allen_cahn_paper(0.0, 1.0))
