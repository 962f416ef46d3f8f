"""LSQR iterations on random features in subdomains: output layers alone are trained, of equations that are linear.

    python examples/benchmarks/random_features.py [--problems multiscale1d,multiscale2d,poisson2d] [--limit 20000]
        [--methods none,asm:0,asm:1,two_level:1,filter:0,filter:1,cholesky] [options of the command]

One step of Levenberg–Marquardt without damping from random output layers: LSQR to 1e-8 by PETSc's test, with the
seconds of the run, the objective and the relative error that it leaves; the number behind a preconditioner is its
-part_overlap. "cholesky" is the direct step on the sparse JᵀJ, with the damping that lets it be factored.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import arguments, train

SIZES = {
    "multiscale1d": "-problem_scales 4 -net_subdomains 16 -net_width 16 -sample_points 800",
    "multiscale2d": "-problem_scales 3 -net_subdomains 8 -net_width 32 -sample_points 6400",
    "poisson2d": "-problem_m 4 -net_subdomains 4 -net_width 32 -sample_points 1600",
}

METHODS = ("none", "asm:0", "asm:1", "two_level:1", "filter:0", "filter:1", "cholesky")

COMMON = (
    "-bc_enforce hard -net_type subdomain -net_depth 1 -net_train output -net_start random -tao_type lm "
    "-out_error_interval 1 -out_interval 1"
)
LSQR = "-tao_max_it 1 -tao_lm_space krylov -tao_lm_damping 1e-25 -ksp_type lsqr -ksp_rtol 1e-8"
CHOLESKY = "-tao_max_it 1 -tao_lm_space sparse -tao_lm_damping 1e-12 -tao_lm_geodesic false"


def options_of(method: str, limit: int) -> str:
    """Of one row of the table."""
    if method == "cholesky":
        return CHOLESKY
    pc_type, _, overlap = method.partition(":")
    return f"{LSQR} -ksp_max_it {limit} -pc_type {pc_type} -part_overlap {overlap or 0}"


def main() -> None:
    chosen, words = arguments(__doc__, problems=tuple(SIZES), limit=(20000,), methods=METHODS)
    for problem in chosen.problems:
        print(f"{problem:14s}{'iterations':>12s}{'seconds':>9s}{'objective':>11s}{'error':>10s}", flush=True)
        for method in chosen.methods:
            options = f"{COMMON} {SIZES[problem]} {options_of(method, chosen.limit[0])}"
            run = train("-problem", problem, *options.split(), *words)
            count, error = int(run.summary["evaluations"]["krylov"]), run.summary["rel_l2"]
            print(
                f"{method:14s}{count:12d}{run.seconds[-1]:9.2f}{run.objectives[-1]:11.2e}{error:10.1e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
