"""A sweep of Bratu's equation that learns while it runs: its later solves start from a DeepONet of the earlier ones.

    mpiexec -n 2 python examples/coupling/bratu_sweep.py -size 33

``bratu_host.py`` is the simulation, which stays as it is; the lines that couple it are between the marks.
"""

import numpy as np
from bratu_host import Bratu, PETSc, draws

import pescitrain


def solve(host, parameters):
    """Newton iterations to a residual 1e-8 times that of zero, wherever the solve starts."""
    host.rate, host.anisotropy = parameters
    host.x.set(0.0)
    residual = host.x.duplicate()
    host.snes.computeFunction(host.x, residual)
    host.snes.setTolerances(rtol=0.0, atol=1e-8 * residual.norm())
    residual.destroy()
    return host.solve(*parameters)


def main():
    """Collective."""
    options = PETSc.Options()
    host = Bratu(options.getInt("size", 33))

    # -- coupled
    snapshots = pescitrain.Snapshots(host.da, parameters=("rate", "anisotropy"))
    for parameters in draws(options.getInt("solves", 100), seed=0):
        solve(host, parameters)
        snapshots.append(parameters, host.x)
    problem = pescitrain.SnapshotProblem(*snapshots.split((0.8, 0.2)))
    network = {"net_trunk": "pod", "net_basis": 10, "net_width": 16, "net_depth": 2}
    solver = pescitrain.Solver(problem, {"tao_type": "lm", "tao_max_it": 200, **network})
    PETSc.Sys.Print(f"trained: {solver.solve()}")
    guess = pescitrain.InitialGuess(solver, host.da, lambda: (host.rate, host.anisotropy))
    # -- coupled

    unseen = draws(options.getInt("tests", 50), seed=1)
    from_zero = [solve(host, parameters) for parameters in unseen]
    host.snes.setInitialGuess(guess)
    from_network = [solve(host, parameters) for parameters in unseen]
    saved = np.mean(from_zero) - np.mean(from_network)
    PETSc.Sys.Print(
        f"Newton iterations of {len(unseen)} unseen solves: {np.mean(from_zero):.2f} from zero, "
        f"{np.mean(from_network):.2f} from the network, {saved:.2f} saved"
    )


if __name__ == "__main__":
    main()
