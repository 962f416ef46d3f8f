"""What a DeepONet has learnt of an indefinite operator, as the coarse space of its preconditioner.

    mpiexec -n 2 python examples/coupling/helmholtz_preconditioner.py -size 65 -pescitrain_tao_max_it 300

−Δu − k²u = f in the unit square with u = 0 on its boundary, five-point stencil. The network learns (k, f) ↦ u from
solves with random smooth sources at random wave numbers on a coarse mesh; then fgmres solves on a finer one, for
sources and wave numbers that were not seen: with SOR alone, and with SOR after a correction in the space of the
functions of the trunk, before and after training.
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import sys

import petsc4py

petsc4py.init(sys.argv)

import numpy as np
from petsc4py import PETSc

import pescitrain

SENSORS = 8


class Helmholtz:
    """The host: a matrix on a DMDA."""

    def __init__(self, size):
        self.size = size
        self.da = PETSc.DMDA().create([size, size], dof=1, stencil_width=1, comm=PETSc.COMM_WORLD)
        self.da.setUniformCoordinates(0.0, 1.0, 0.0, 1.0)
        self.nodes = self.da.getCoordinates().array_r.reshape(-1, 2).copy()
        self.edge = (np.abs(self.nodes - 0.5) > 0.5 - 1e-12).any(1)
        self.matrix = self.da.createMat()
        self.b, self.x = self.da.createGlobalVec(), self.da.createGlobalVec()

    def assemble(self, wave_number):
        """A, scaled by h²."""
        (x0, x1), (y0, y1) = self.da.getRanges()
        row, column, last = PETSc.Mat.Stencil(), PETSc.Mat.Stencil(), self.size - 1
        diagonal = 4.0 - (wave_number / last) ** 2
        self.matrix.zeroEntries()
        for j in range(y0, y1):
            for i in range(x0, x1):
                row.index = (i, j)
                inside = 0 < i < last and 0 < j < last
                self.matrix.setValueStencil(row, row, diagonal if inside else 1.0)
                for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if inside else ():
                    if 0 < a < last and 0 < b < last:  # what is zero on the boundary is left out: A is symmetric
                        column.index = (a, b)
                        self.matrix.setValueStencil(row, column, -1.0)
        self.matrix.assemble()

    def source(self, amplitudes):
        """Right-hand side (K_local,) for amplitudes (m,) of sines."""
        x, y = self.nodes.T
        f = sum(a * np.sin(k * np.pi * x) * np.sin(m * np.pi * y) for a, (k, m) in zip(amplitudes, MODES, strict=True))
        return np.where(self.edge, 0.0, f / (self.size - 1) ** 2)

    def solve(self, ksp, source):
        """Iterations of a Krylov method, the solution in ``x``."""
        self.b.setArray(source)
        self.x.set(0.0)
        ksp.setOperators(self.matrix)
        ksp.solve(self.b, self.x)
        return ksp.getIterationNumber()


MODES = [(k, m) for k in range(1, SENSORS + 1) for m in range(1, SENSORS + 1)]


def draws(count, seed):
    """Wave numbers in [14, 18], amplitudes (m,) that fall with the frequency."""
    random = np.random.default_rng(seed)
    size = np.array([1.0 / (k * k + m * m) ** 0.5 for k, m in MODES])
    return [(random.uniform(14.0, 18.0), size * random.standard_normal(len(MODES))) for _ in range(count)]


def krylov(prefix, pc):
    """fgmres with the options of a prefix; ``pc`` are their defaults."""
    options = PETSc.Options()
    for key, value in pc.items():
        if not options.hasName(prefix + key):
            options[prefix + key] = value
    ksp = PETSc.KSP().create(PETSc.COMM_WORLD)
    ksp.setOptionsPrefix(prefix)
    ksp.setType("fgmres")
    ksp.setGMRESRestart(100)
    ksp.setTolerances(rtol=1e-8, max_it=2000)
    ksp.setFromOptions()
    return ksp


def two_level(prefix, file):
    """fgmres with SOR after a correction in the space of a network's functions."""
    return krylov(
        prefix,
        {
            "pc_type": "composite",
            "pc_composite_type": "multiplicative",
            "pc_composite_pcs": "python,sor",
            "sub_0_pc_python_type": "pescitrain.coupling.NetworkPC",
            "sub_0_pc_network_file": str(file),
        },
    )


def main():
    """Collective."""
    options = PETSc.Options()
    coarse, host = (Helmholtz(options.getInt(name, size)) for name, size in (("coarse_size", 33), ("size", 65)))
    direct = krylov("direct_", {"pc_type": "redundant", "ksp_type": "preonly"})
    inputs, values = [], []
    for wave_number, amplitudes in draws(options.getInt("solves", 200), 0):
        coarse.assemble(wave_number)
        coarse.solve(direct, coarse.source(amplitudes))
        inputs.append([wave_number, *amplitudes])
        values.append(coarse.x.array_r.copy())
    data = pescitrain.OperatorData(inputs, coarse.nodes, values, PETSc.COMM_WORLD.tompi4py())
    settings = {"tao_type": "lm", "tao_lm_space": "krylov", "pc_type": "kfac", "net_width": 48, "net_depth": 2}
    settings |= {"bc_enforce": "hard", "tao_max_it": 30}
    problem = pescitrain.SnapshotProblem(data, factor=lambda x, y: 16.0 * x * (1.0 - x) * y * (1.0 - y))
    solver = pescitrain.Solver(problem, settings)
    name = options.getString("basis", "basis.pt2")
    untrained = two_level("untrained_", solver.save_basis(f"untrained_{name}"))
    PETSc.Sys.Print(f"trained: {solver.solve()}")
    trained = two_level("trained_", solver.save_basis(name))

    methods = {"SOR": krylov("sor_", {"pc_type": "sor"}), "untrained trunk": untrained, "trained trunk": trained}
    counts = {name: [] for name in methods}
    for wave_number, amplitudes in draws(options.getInt("tests", 20), 1):
        host.assemble(wave_number)
        for name, ksp in methods.items():
            counts[name].append(host.solve(ksp, host.source(amplitudes)))
    for name, numbers in counts.items():
        PETSc.Sys.Print(f"{name}: median {np.median(numbers):g} iterations, from {min(numbers)} to {max(numbers)}")


if __name__ == "__main__":
    main()
