"""A simulation as one finds it: Bratu's equation on a DMDA, by PETSc alone. It knows nothing of networks.

    mpiexec -n 2 python examples/coupling/bratu_host.py -size 65 -rate 5 -anisotropy 0.7 -snes_monitor

−∂xx u − ε ∂yy u = λ eᵘ in the unit square, u = 0 on its boundary; five-point stencil times h².
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import sys

import petsc4py

petsc4py.init(sys.argv)

import numpy as np
from petsc4py import PETSc


class Bratu:
    """The discrete equations and their SNES, whose options are those of the command line."""

    def __init__(self, size, comm=PETSc.COMM_WORLD):
        self.size, self.rate, self.anisotropy = size, 1.0, 1.0
        self.da = PETSc.DMDA().create([size, size], dof=1, stencil_width=1, comm=comm)
        self.da.setUniformCoordinates(0.0, 1.0, 0.0, 1.0)
        self.local = self.da.createLocalVec()
        self.x = self.da.createGlobalVec()
        self.snes = PETSc.SNES().create(comm)
        self.snes.setDM(self.da)
        self.snes.setFunction(self.function, self.da.createGlobalVec())
        self.snes.setJacobian(self.jacobian, self.da.createMat())
        self.snes.ksp.setType("gmres")
        self.snes.ksp.pc.setType("bjacobi")
        self.snes.setFromOptions()

    def own(self):
        """Numbers of this rank's nodes along y and x, in the order of a Vec, and which of them lie on the boundary."""
        (x0, x1), (y0, y1) = self.da.getRanges()
        j, i = np.meshgrid(np.arange(y0, y1), np.arange(x0, x1), indexing="ij")
        last = self.size - 1
        return j, i, (i == 0) | (i == last) | (j == 0) | (j == last)

    def function(self, _, x, f):
        """F(x)."""
        j, i, boundary = self.own()
        (g0, g1), (h0, h1) = self.da.getGhostRanges()
        self.da.globalToLocal(x, self.local)
        u = np.pad(self.local.array_r.reshape(h1 - h0, g1 - g0), 1)  # only the boundary looks at the padding
        b, a = j - h0 + 1, i - g0 + 1
        here, h2 = u[b, a], 1.0 / (self.size - 1) ** 2
        along_x, along_y = u[b, a - 1] + u[b, a + 1], u[b - 1, a] + u[b + 1, a]
        inside = 2.0 * (1.0 + self.anisotropy) * here - along_x - self.anisotropy * along_y
        f.setArray(np.where(boundary, here, inside - h2 * self.rate * np.exp(here)).ravel())

    def jacobian(self, _, x, __, matrix):
        """F'(x)."""
        j, i, boundary = self.own()
        h2 = 1.0 / (self.size - 1) ** 2
        diagonal = 2.0 * (1.0 + self.anisotropy) - h2 * self.rate * np.exp(x.array_r.reshape(i.shape))
        row, column = PETSc.Mat.Stencil(), PETSc.Mat.Stencil()
        matrix.zeroEntries()
        for place in np.ndindex(i.shape):
            row.index = (int(i[place]), int(j[place]))
            matrix.setValueStencil(row, row, 1.0 if boundary[place] else diagonal[place])
            for step_x, step_y in () if boundary[place] else ((-1, 0), (1, 0), (0, -1), (0, 1)):
                column.index = (row.index[0] + step_x, row.index[1] + step_y)
                matrix.setValueStencil(row, column, -1.0 if step_x else -self.anisotropy)
        matrix.assemble()

    def solve(self, rate, anisotropy):
        """The solution, in ``self.x``; returns the Newton iterations."""
        self.rate, self.anisotropy = rate, anisotropy
        self.x.set(0.0)
        self.snes.solve(None, self.x)
        return self.snes.getIterationNumber()


def draws(count, seed):
    """Parameters (count, 2): ε in [0.5, 2], and λ from a half to nearly all of the largest that has a solution."""
    random = np.random.default_rng(seed)
    anisotropy, share = random.uniform(0.5, 2.0, count), random.uniform(0.5, 0.98, count)
    return np.column_stack((share * 3.4 * (1.0 + anisotropy), anisotropy))


def main():
    """Collective."""
    options = PETSc.Options()
    host = Bratu(options.getInt("size", 33))
    iterations = host.solve(options.getReal("rate", 5.0), options.getReal("anisotropy", 0.7))
    PETSc.Sys.Print(f"{iterations} Newton iterations, max u = {host.x.max()[1]:.6f}")


if __name__ == "__main__":
    main()
