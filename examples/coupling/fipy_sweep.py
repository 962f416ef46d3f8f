"""A simulation package that stands on PETSc, FiPy: its sweeps start from what a network has learnt of earlier ones.

    python examples/coupling/fipy_sweep.py -cells 40 -solves 60

∇·((1 + α u²) ∇u) + s = 0 in the unit square, u = 0 on its boundary, by finite volumes and Picard's iteration, each of
whose linear systems PETSc solves. Parameters α and s. Needs `pip install pescitrain[fipy]`.
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import os
import sys

import petsc4py

petsc4py.init(sys.argv)
os.environ["FIPY_SOLVERS"] = "petsc"

import fipy
import numpy as np
from petsc4py import PETSc

import pescitrain


class NonlinearDiffusion:
    """The host, as a user of FiPy would write it."""

    def __init__(self, cells):
        self.mesh = fipy.Grid2D(nx=cells, ny=cells, dx=1.0 / cells, dy=1.0 / cells)
        self.u = fipy.CellVariable(mesh=self.mesh, name="u")
        self.u.constrain(0.0, self.mesh.exteriorFaces)
        self.solver = fipy.LinearCGSolver(tolerance=1e-12, criterion="RHS", iterations=1000)

    def solve(self, strength, source, start=0.0):
        """Sweeps until the residual is below 1e-8; their number."""
        self.u.setValue(start)
        equation = fipy.DiffusionTerm(coeff=1.0 + strength * self.u.faceValue**2) + source == 0.0
        sweeps = 0
        while equation.sweep(var=self.u, solver=self.solver) > 1e-8:
            sweeps += 1
        return sweeps


def draws(count, seed):
    """α in [0, 4], s in [2, 8]."""
    return np.random.default_rng(seed).uniform((0.0, 2.0), (4.0, 8.0), (count, 2))


def main():
    """On one rank."""
    options = PETSc.Options()
    host = NonlinearDiffusion(options.getInt("cells", 40))
    centres = np.asarray(host.mesh.cellCenters.value).T

    snapshots = pescitrain.Snapshots(centres, parameters=("strength", "source"))
    for parameters in draws(options.getInt("solves", 60), seed=0):
        host.solve(*parameters)
        snapshots.append(parameters, np.asarray(host.u.value))
    problem = pescitrain.SnapshotProblem(*snapshots.split((0.8, 0.2)))
    settings = {"tao_type": "lm", "tao_max_it": 100, "net_width": 12, "net_depth": 2}
    solver = pescitrain.Solver(problem, settings)
    print(f"trained: {solver.solve()}")

    unseen = draws(options.getInt("tests", 20), seed=1)
    cold = [host.solve(*parameters) for parameters in unseen]
    warm = [host.solve(*parameters, start=solver([parameters], centres)[0]) for parameters in unseen]
    print(f"sweeps of {len(unseen)} unseen solves: {np.mean(cold):.2f} from zero, {np.mean(warm):.2f} from the network")


if __name__ == "__main__":
    main()
