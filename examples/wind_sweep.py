"""A PETSc program that collects snapshots: −Δu + w·∇u = 1 on a DMDA, u = 0 on its boundary, for a sweep of winds w.

    mpiexec -n 2 python examples/wind_sweep.py -count 100 -file winds.petsc
    python -m pescitrain -problem deeponet -data_file winds.petsc -net_trunk pod -tao_type lm -data_patience 10

Of the program's own lines four are about snapshots.
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import sys

import numpy as np
import petsc4py

petsc4py.init(sys.argv)
from petsc4py import PETSc

from pescitrain import Snapshots

POINTS = 33


def assemble(matrix, dm, wind):
    """Central differences, divided by nothing: the equation times h²."""
    (x0, x1), (y0, y1) = dm.getRanges()
    h, row, column = 1.0 / (POINTS - 1), PETSc.Mat.Stencil(), PETSc.Mat.Stencil()
    p, q = 0.5 * h * wind[0], 0.5 * h * wind[1]
    stencil = {(0, 0): 4.0, (-1, 0): -1.0 - p, (1, 0): -1.0 + p, (0, -1): -1.0 - q, (0, 1): -1.0 + q}
    for j in range(y0, y1):
        for i in range(x0, x1):
            row.index = (i, j)
            inside = 0 < i < POINTS - 1 and 0 < j < POINTS - 1
            for (di, dj), value in stencil.items() if inside else [((0, 0), 1.0)]:
                column.index = (i + di, j + dj)
                matrix.setValueStencil(row, column, value)
    matrix.assemble()


def sweep(count, file):
    """Solve for ``count`` winds and write the snapshots; returns how many there are."""
    dm = PETSc.DMDA().create(sizes=(POINTS, POINTS), stencil_width=1)
    dm.setUniformCoordinates()
    matrix, b, u = dm.createMat(), dm.createGlobalVec(), dm.createGlobalVec()
    x, y = dm.getCoordinates().getArray(readonly=True).reshape(-1, 2).T
    b.setArray(np.where((x % 1.0 > 0.0) & (y % 1.0 > 0.0), 1.0 / (POINTS - 1) ** 2, 0.0))
    ksp = PETSc.KSP().create()
    ksp.setFromOptions()
    snapshots = Snapshots(dm, ("speed", "angle"))
    for speed, angle in np.random.default_rng(0).uniform((0.0, 0.0), (10.0, np.pi / 2), (count, 2)):
        assemble(matrix, dm, (speed * np.cos(angle), speed * np.sin(angle)))
        ksp.setOperators(matrix)
        ksp.solve(b, u)
        snapshots.append((speed, angle), u)
    snapshots.write(file)
    for thing in (ksp, matrix, b, u, dm):
        thing.destroy()
    return len(snapshots)


if __name__ == "__main__":
    options = PETSc.Options()
    name = options.getString("file", "winds.petsc")
    PETSc.Sys.Print(f"{sweep(options.getInt('count', 100), name)} snapshots in {name}")
