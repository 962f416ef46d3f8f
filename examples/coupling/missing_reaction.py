"""A TS whose equation lacks a term, which a network learns from observed states and which is then added to it.

    mpiexec -n 2 python examples/coupling/missing_reaction.py -size 33

u' = D Δu + R(u) on a periodic square, five-point stencil on a DMDA, by TS. The host has D Δu alone; the world that it
observes has R(u) = 2 u (1 − u²), which nobody tells it. Two states a step apart say what R is at every node; a network
learns it as a law at points, which is added to the host's right-hand side for initial states that were not observed.
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import sys

import petsc4py

petsc4py.init(sys.argv)

import numpy as np
from petsc4py import PETSc

import pescitrain

DIFFUSION = 0.01
STEP = 1e-3


class Diffusion:
    """The host."""

    def __init__(self, size):
        periodic = PETSc.DM.BoundaryType.PERIODIC
        self.da = PETSc.DMDA().create([size, size], stencil_width=1, boundary_type=periodic, comm=PETSc.COMM_WORLD)
        self.da.setUniformCoordinates(0.0, 1.0, 0.0, 1.0)
        self.nodes = self.da.getCoordinates().array_r.reshape(-1, 2).copy()
        self.local, self.size = self.da.createLocalVec(), size

    def laplacian(self, u):
        """D Δu at this rank's nodes (K,)."""
        self.da.globalToLocal(u, self.local)
        (g0, g1), (h0, h1) = self.da.getGhostRanges()
        v = self.local.array_r.reshape(h1 - h0, g1 - g0)
        inner = v[1:-1, :-2] + v[1:-1, 2:] + v[:-2, 1:-1] + v[2:, 1:-1] - 4.0 * v[1:-1, 1:-1]
        return DIFFUSION * self.size**2 * inner.ravel()

    def rhs(self, _, __, u, f):
        """The right-hand side of the TS."""
        f.setArray(self.laplacian(u))

    def observed(self, _, __, u, f):
        """What happens in truth."""
        f.setArray(self.laplacian(u) + 2.0 * u.array_r * (1.0 - u.array_r**2))

    def run(self, function, seed, time, monitor=None):
        """The state after a time, from the smooth random one of a seed."""
        u = self.da.createGlobalVec()
        random = np.random.default_rng(seed)
        waves = [(k, m, *random.uniform(-0.4, 0.4, 2)) for k in range(3) for m in range(3)]
        x, y = 2.0 * np.pi * self.nodes.T
        u.setArray(sum(a * np.cos(k * x + m * y) + b * np.sin(k * x - m * y) for k, m, a, b in waves))
        ts = PETSc.TS().create(PETSc.COMM_WORLD)
        ts.setType("rk")
        ts.setRHSFunction(function, u.duplicate())
        ts.setTimeStep(STEP)
        ts.setMaxTime(time)
        ts.setExactFinalTime(PETSc.TS.ExactFinalTime.MATCHSTEP)
        ts.setFromOptions()
        if monitor is not None:
            ts.setMonitor(monitor)
        ts.solve(u)
        ts.destroy()
        return u


class Reaction(pescitrain.RegressionProblem):
    """The tendency of a state that diffusion does not explain."""

    coordinates, fields = ("u",), ("reaction",)

    def __init__(self, states, tendencies):
        self.samples = [pescitrain.RegressionData(states[part::2], tendencies[part::2]) for part in (0, 1)]

    def training(self):
        return self.samples[0]

    def validation(self):
        return self.samples[1]


def observe(host, seed):
    """States (n,) and the part of their tendencies (n,) that diffusion does not explain, at this rank's nodes."""
    snapshots = pescitrain.Snapshots(host.da, ())
    host.run(host.observed, seed, 0.3, snapshots.monitor())
    states, tendencies, mean = [], [], host.da.createGlobalVec()
    for before, after in zip(snapshots.values[::30], snapshots.values[1::30], strict=False):
        mean.setArray(0.5 * (before + after))
        states.append(mean.array_r.copy())
        tendencies.append((after - before) / STEP - host.laplacian(mean))
    return np.concatenate(states), np.concatenate(tendencies)


def main():
    """Collective."""
    options = PETSc.Options()
    if not options.hasName("ts_adapt_type"):
        options["ts_adapt_type"] = "none"
    host, comm = Diffusion(options.getInt("size", 33)), PETSc.COMM_WORLD.tompi4py()
    seen = [observe(host, seed) for seed in range(options.getInt("observations", 3))]
    whole = [np.concatenate(comm.allgather(np.concatenate(part)))[::3, None] for part in zip(*seen, strict=True)]
    settings = {"tao_type": "lm", "tao_max_it": 50, "net_width": 10, "net_depth": 2}
    solver = pescitrain.Solver(Reaction(*whole), settings)
    PETSc.Sys.Print(f"trained on {len(whole[0]) // 2} points: {solver.solve()}")

    law = pescitrain.AddedTendency(pescitrain.PointwiseLaw(solver.surrogate), host.rhs)
    for name, function in (("diffusion alone", host.rhs), ("with the law", law)):
        errors = []
        for seed in range(100, 100 + options.getInt("tests", 3)):
            truth, u = (host.run(one, seed, 1.0) for one in (host.observed, function))
            u.axpy(-1.0, truth)
            errors.append(u.norm() / truth.norm())
        PETSc.Sys.Print(f"{name}: relative error {np.median(errors):.2e} at time 1")


if __name__ == "__main__":
    main()
