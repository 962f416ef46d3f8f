"""Linear finite elements for −Δc + k c² = 0: the independent answer for an example that has no exact solution."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import spsolve

from pescitrain import Mesh

Array = NDArray[np.float64]


def reaction_diffusion(mesh: Mesh, rate: float, fixed: str) -> Array:
    """c at the nodes of a mesh of triangles: 1 on the boundary ``fixed``, no flux elsewhere. Newton's method."""
    triangles, corners = mesh.cells["triangle"], mesh.nodes[mesh.cells["triangle"]]
    edges = np.roll(corners, 1, axis=1) - np.roll(corners, -1, axis=1)  # opposite to each corner
    areas = np.abs(np.linalg.det(edges[:, :2])) / 2
    entries = np.einsum("tid,tjd->tij", edges, edges) / (4 * areas[:, None, None])
    rows, columns = np.repeat(triangles, 3, axis=1), np.tile(triangles, 3)
    count = len(mesh.nodes)
    stiffness = sparse.coo_array((entries.ravel(), (rows.ravel(), columns.ravel())), (count, count)).tocsr()
    mass = mesh.nodal_weights()
    free = np.setdiff1d(np.arange(count), mesh.boundary_nodes(fixed))

    c = np.ones(count)
    for _ in range(20):
        residual = (stiffness @ c + rate * mass * c**2)[free]
        jacobian = sparse.csr_array(stiffness + sparse.diags_array(2 * rate * mass * c))
        step = np.asarray(spsolve(jacobian[free][:, free].tocsc(), -residual))
        c[free] += step
        if np.abs(step).max() < 1e-12:
            return c
    raise AssertionError("Newton's method did not converge")
