"""Small hosts: a DMDA, a DMPlex, a plain Vec, with fields that are known at every location."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.snapshots.collection import Snapshots

PARAMETERS = [(0.5, 1.0), (2.0, -1.0), (0.1, 3.0), (1.5, 0.25), (0.7, 0.7)]


def exact(parameters, x):
    """(K,): a field that tells parameters and places apart."""
    a, b = parameters
    return a * np.sin(3.0 * x[:, 0]) + b * np.cos(x @ np.arange(1.0, x.shape[1] + 1.0)) + 4.0


def grid(comm, sizes=(7, 5), dof=1):
    dm = PETSc.DMDA().create(sizes=sizes, dof=dof, stencil_width=1, comm=comm)
    dm.setUniformCoordinates(0.0, 1.0, 0.0, 2.0, 0.0, 3.0)
    return dm


def triangles(comm):
    """3 × 2 squares in two triangles each, over the ranks, without fields."""
    number = np.arange(12).reshape(4, 3)
    a, b, c, d = (part.ravel() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]))
    cells = np.concatenate([np.stack((a, b, c), 1), np.stack((a, c, d), 1)]).astype(PETSc.IntType)
    x = np.stack(np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 3), indexing="ij"), -1).reshape(-1, 2)
    mine = slice(None) if comm.rank == 0 else slice(0)
    dm = PETSc.DMPlex().createFromCellList(2, cells[mine], x[mine], comm=comm)
    dm.distribute()
    return dm


def plex(comm, components=1, degree=1):
    dm = triangles(comm)
    element = PETSc.FE().createLagrange(2, components, True, degree, PETSc.DETERMINE, comm=comm)
    dm.setField(0, element)
    dm.createDS()
    element.destroy()
    return dm


def collected(comm, field="p"):
    """Snapshots of a DMDA, as a host collects them."""
    dm = grid(comm)
    snapshots = Snapshots(dm, ("a", "b"), field=field)
    vec = dm.createGlobalVec()
    for parameters in PARAMETERS:
        vec.setArray(exact(parameters, snapshots.locations))
        snapshots.append(parameters, vec)
    vec.destroy()
    dm.destroy()
    return snapshots


def check(snapshots, parameters=PARAMETERS, locations=35):
    """They are those of :func:`collected`, wherever their locations are."""
    assert snapshots.comm.allreduce(len(snapshots.locations)) == locations
    np.testing.assert_array_equal(snapshots.inputs, np.array(parameters))
    expected = np.array([exact(row[:2], snapshots.locations) for row in parameters])
    np.testing.assert_allclose(snapshots.values, expected.reshape(snapshots.values.shape), rtol=0.0, atol=1e-14)
