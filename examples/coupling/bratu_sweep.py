"""A sweep of Bratu's equation that learns while it runs: its later solves start from a DeepONet of the earlier ones.

    mpiexec -n 2 python examples/coupling/bratu_sweep.py -size 33 -snes_atol 1e-10

``bratu_host.py`` is the simulation, which stays as it is; the lines that couple it are between the marks.
"""

import numpy as np
from bratu_host import Bratu, PETSc, draws

import pescitrain


def main():
    """Collective."""
    options = PETSc.Options()
    host = Bratu(options.getInt("size", 33))
    host.snes.setTolerances(rtol=0.0, atol=1e-10)  # what "converged" means must not depend on where a solve starts
    host.snes.setFromOptions()

    # -- coupled
    snapshots = pescitrain.Snapshots(host.da, parameters=("rate", "anisotropy"))
    for parameters in draws(options.getInt("solves", 100), seed=0):
        host.solve(*parameters)
        snapshots.append(parameters, host.x)
    training, validation = snapshots.split((0.8, 0.2))
    settings = {"tao_type": "lm", "tao_max_it": 100, "net_width": 16, "net_depth": 2, "bc_enforce": "hard"}
    problem = pescitrain.SnapshotProblem(training, validation, factor=lambda x, y: x * (1.0 - x) * y * (1.0 - y))
    solver = pescitrain.Solver(problem, settings)
    PETSc.Sys.Print(f"trained: {solver.solve()}")
    guess = pescitrain.InitialGuess(solver, host.da, lambda: (host.rate, host.anisotropy))
    # -- coupled

    unseen = draws(options.getInt("tests", 50), seed=1)
    from_zero = [host.solve(*parameters) for parameters in unseen]
    host.snes.setInitialGuess(guess)
    from_network = [host.solve(*parameters) for parameters in unseen]
    saved = np.mean(from_zero) - np.mean(from_network)
    PETSc.Sys.Print(
        f"Newton iterations of {len(unseen)} unseen solves: {np.mean(from_zero):.2f} from zero, "
        f"{np.mean(from_network):.2f} from the network, {saved:.2f} saved"
    )


if __name__ == "__main__":
    main()
