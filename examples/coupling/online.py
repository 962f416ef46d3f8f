"""Some ranks sweep through a simulation, the others train on what comes, and later solves start from what they learnt.

    mpiexec -n 2 python examples/coupling/online.py -rounds 4 -solves 25

The last rank (``-training 1``) trains; a round is ``-solves`` solves. A round starts with the newest network that has
come, without waiting; with ``-wait`` each waits for that of the round before.
"""

import tempfile
from pathlib import Path

import numpy as np
from bratu_host import Bratu, PETSc, draws
from bratu_sweep import solve

import pescitrain

NETWORK = {"net_trunk": "pod", "net_basis": 8, "net_width": 12, "net_depth": 2}


def simulate(exchange, rounds, solves):
    """On the simulating ranks: Newton iterations of each round."""
    host = Bratu(PETSc.Options().getInt("size", 17), PETSc.Comm(exchange.comm))
    snapshots = pescitrain.Snapshots(host.da, ("rate", "anisotropy"), comm=exchange.comm)
    exchange.share(snapshots)
    guess, wait = None, PETSc.Options().getBool("wait", False)
    for number in range(rounds):
        network, counts = exchange.latest(wait=wait and number > 0), []
        if network is not None and guess is None:
            guess = pescitrain.InitialGuess(network, host.da, lambda: (host.rate, host.anisotropy))
            host.snes.setInitialGuess(guess)
        elif network is not None:
            guess.follow(network)
        for parameters in draws(solves, seed=number):
            counts.append(solve(host, parameters))
            snapshots.append(parameters, host.x)
        exchange.send(snapshots)
        if exchange.comm.rank == 0:
            start = "zero" if guess is None else "the network"
            print(f"round {number}: {np.mean(counts):.2f} Newton iterations from {start}", flush=True)
    exchange.finish()


def train(exchange):
    """On the training ranks: another network after each round."""
    snapshots = exchange.share(None)
    solver = None
    with tempfile.TemporaryDirectory() as folder:
        while exchange.receive(snapshots):
            if solver is None:
                problem = pescitrain.SnapshotProblem(snapshots)
                options = {"tao_type": "lm", "tao_max_it": 50, **NETWORK}
                solver = pescitrain.Solver(problem, options, comm=PETSc.Comm(exchange.comm))
            else:
                solver.update()
            result = solver.solve()
            if exchange.comm.rank == 0:
                print(f"trained on {len(snapshots)} snapshots: {result}", flush=True)
            file = exchange.comm.bcast(Path(folder) / "model.pt2")
            exchange.publish(solver.save(file))


def main():
    """Collective over the job."""
    options = PETSc.Options()
    exchange = pescitrain.Exchange(PETSc.COMM_WORLD.tompi4py(), options.getInt("training", 1))
    if exchange.trains:
        train(exchange)
    else:
        simulate(exchange, options.getInt("rounds", 4), options.getInt("solves", 25))
    exchange.close()


if __name__ == "__main__":
    main()
