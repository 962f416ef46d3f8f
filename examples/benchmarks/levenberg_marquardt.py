"""What an iteration of lm costs beside its bare kernels: linearize, rank-k update, factor, solves, products, residuals.

    python examples/benchmarks/levenberg_marquardt.py [--sizes 3x20,4x20] [--points 4096] [--iterations 30]

Burgers' equation with hard conditions, one rank of one thread, CPU time. Each kernel is timed alone and counted as
often as the iterations used it; the quotient is what the method, PETSc and Python add.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from linearization import seconds, setup_of
from petsc4py import PETSc
from runs import arguments
from scipy.linalg import cho_factor, cho_solve

from pescitrain.run.build import Setup
from pescitrain.solvers.levenberg_marquardt import SKETCH_FROM
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.pair_hash import PairHash
from pescitrain.solvers.tao import TaoSolver


def kernels(setup: Setup) -> dict[str, float]:
    """Seconds of each kernel, by what counts how often it is used."""
    evaluator = setup.evaluator
    theta = evaluator.parameters.values.numpy().copy()
    size = len(theta)
    linearization = evaluator.linearize(theta)
    restrict = PairHash.draw(size, 0).restrict_rows if size >= SKETCH_FROM else torch.clone
    matrix = linearization.gauss_newton_matrix(restrict)
    right = np.ones(len(matrix))

    def factor_and_solve() -> None:
        shifted = matrix.copy()
        shifted[np.diag_indices_from(shifted)] += 1e-2
        factor = cho_factor(shifted, lower=True, overwrite_a=True)
        for _ in range(2):
            cho_solve(factor, right, check_finite=False)

    calls = {
        "linearization": lambda: evaluator.linearize(theta),
        "iterations": lambda: linearization.gauss_newton_matrix(restrict),
        "jvp": lambda: (linearization.times(theta), factor_and_solve()),  # one of each in a trial
        "vjp": lambda: linearization.transpose_times(linearization.residual),
        "objective": lambda: evaluator.residual(theta),
    }
    return dict(zip(calls, seconds(*calls.values()), strict=True))


def main() -> None:
    chosen, _ = arguments(__doc__, sizes=("3x20", "4x20"), points=(4096,), iterations=(30,))
    torch.set_num_threads(1)
    options = PETSc.Options()
    for name, value in {"tao_type": "lm", "tao_max_it": chosen.iterations[0], "tao_gatol": 0, "tao_grtol": 0}.items():
        options[name] = value
    print("network   points   iterations   trials   ms an iteration   ms of its kernels   quotient")
    for size in chosen.sizes:
        for points in chosen.points:
            setup = setup_of(size, points, 1000)
            alone, counters = kernels(setup), setup.evaluator.counters
            theta = setup.system.layout.vec_from(setup.evaluator.parameters.values.numpy().copy())
            solver = TaoSolver(setup.system, "", GaussNewtonSettings(), lambda _: False)
            before, start = counters.as_dict(), time.process_time()
            outcome, _ = solver.run(theta, 0, chosen.iterations[0], {})
            spent = time.process_time() - start
            used = {name: value - before[name] for name, value in counters.as_dict().items()}
            used["iterations"] = outcome.iterations
            bare = sum(used[name] * each for name, each in alone.items()) / outcome.iterations
            spent /= outcome.iterations
            print(
                f"{size:8s} {points:7d} {outcome.iterations:12d} {used['jvp']:8d} "
                f"{1e3 * spent:17.1f} {1e3 * bare:19.1f} {spent / bare:10.2f}",
                flush=True,
            )
            theta.destroy()
            setup.destroy()


if __name__ == "__main__":
    main()
