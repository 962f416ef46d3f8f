"""Small simulations that know nothing of pescitrain: what a host program brings."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc


class Bratu:
    """−Δu = λ eᵘ in the unit square, u = 0 on its boundary, five-point stencil times h² on a DMDA."""

    def __init__(self, size=9, rate=2.0, comm=PETSc.COMM_WORLD, dof=1, jacobian=True):
        self.rate, self.size = rate, size
        self.da = PETSc.DMDA().create([size, size], dof=dof, stencil_width=1, comm=comm)
        self.da.setUniformCoordinates(0.0, 1.0, 0.0, 1.0)
        self.local = self.da.createLocalVec()
        self.snes = PETSc.SNES().create(comm)
        self.snes.setOptionsPrefix("bratu_")
        self.snes.setDM(self.da)
        self.residual = self.da.createGlobalVec()
        self.snes.setFunction(self.function, self.residual)
        if jacobian:
            self.matrix = self.da.createMat()
            self.snes.setJacobian(self.jacobian, self.matrix)
        self.snes.setTolerances(rtol=1e-12)
        self.snes.ksp.setType("preonly")
        self.snes.ksp.pc.setType("lu" if PETSc.Comm(comm).size == 1 else "redundant")
        self.snes.setFromOptions()

    def _own(self):
        """Numbers of this rank's nodes along y and x, in the order of a Vec, and which lie on the boundary."""
        (x0, x1), (y0, y1) = self.da.getRanges()
        j, i = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), indexing="ij")
        last = self.size - 1
        return j, i, (i == 0) | (i == last) | (j == 0) | (j == last)

    def function(self, _, u, f):
        j, i, boundary = self._own()
        (g0, g1), (h0, h1) = self.da.getGhostRanges()
        self.da.globalToLocal(u, self.local)
        values = np.pad(self.local.array_r.reshape(h1 - h0, g1 - g0), 1)
        b, a = j - h0 + 1, i - g0 + 1
        here, h2 = values[b, a], 1.0 / (self.size - 1) ** 2
        around = values[b, a - 1] + values[b, a + 1] + values[b - 1, a] + values[b + 1, a]
        f.setArray(np.where(boundary, here, 4.0 * here - around - h2 * self.rate * np.exp(here)).ravel())

    def jacobian(self, _, u, __, matrix):
        j, i, boundary = self._own()
        h2 = 1.0 / (self.size - 1) ** 2
        diagonal = 4.0 - h2 * self.rate * np.exp(u.array_r.reshape(i.shape))
        row, column = PETSc.Mat.Stencil(), PETSc.Mat.Stencil()
        matrix.zeroEntries()
        for place in np.ndindex(i.shape):
            row.index = (int(i[place]), int(j[place]))
            matrix.setValueStencil(row, row, 1.0 if boundary[place] else diagonal[place])
            for step_x, step_y in () if boundary[place] else ((-1, 0), (1, 0), (0, -1), (0, 1)):
                column.index = (row.index[0] + step_x, row.index[1] + step_y)
                matrix.setValueStencil(row, column, -1.0)
        matrix.assemble()

    def solve(self, rate=None):
        self.rate = self.rate if rate is None else rate
        x = self.da.createGlobalVec()
        self.snes.solve(None, x)
        return x

    def destroy(self):
        for thing in (self.snes, self.residual, self.local, self.da):
            thing.destroy()
        if hasattr(self, "matrix"):
            self.matrix.destroy()
