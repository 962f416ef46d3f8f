"""Bratu's equation solved by a network, on the simulation's own nodes, boundary conditions and residual: no data.

    mpiexec -n 2 python examples/coupling/bratu_equations.py -size 65 -pescitrain_tao_max_it 200

``bratu_host.py`` is the simulation, whose SNES function and Jacobian are all that training asks for.
"""

import time

from bratu_host import Bratu, PETSc

import pescitrain


def main():
    """Collective."""
    host = Bratu(PETSc.Options().getInt("size", 65))
    term = pescitrain.PETScResidual(host.snes)
    settings = {"tao_type": "lm", "tao_max_it": 200, "tao_gatol": 0.0, "tao_grtol": 0.0, "net_depth": 2}
    start = time.perf_counter()

    def monitor(iterate):
        if iterate.iteration % 20 == 0:
            seconds = time.perf_counter() - start
            PETSc.Sys.Print(f"{iterate.iteration:4d}  objective {iterate.objective:.3e}  {seconds:.1f} s")

    host.rate = 5.0
    solver = pescitrain.Solver(pescitrain.HostProblem(term), settings, monitor=monitor)
    result = solver.solve()
    nodes = term.equations.locations
    difference = host.da.createGlobalVec()
    difference.setArray(solver(nodes).ravel())
    iterations = host.solve(5.0, 1.0)
    difference.axpy(-1.0, host.x)
    error = difference.norm() / host.x.norm()
    PETSc.Sys.Print(f"{result}; against the host's own solution ({iterations} Newton iterations): {error:.2e}")


if __name__ == "__main__":
    main()
