"""Krylov iterations on the Gauss–Newton matrix of more and more subdomain networks, on one level and on two.

    python examples/benchmarks/subdomain_krylov.py [--along 2,4,8] [--damping 1e-7] [--pcs asm,two_level]
                                                   [options of the command]

Poisson's equation on the square with one period of the solution in each of n × n subdomains and 125 points in each box;
CG to 1e-6 in the first Newton step, λ relative to the mean of the diagonal. The subdomains of ``overlap 0`` and ``1``
are the parameters of one network, and those of its neighbours too. --pcs takes every line that starts with a name.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import arguments, train

LINES = {
    "asm, overlap 0": "-pc_type asm",
    "asm, overlap 1": "-pc_type asm -part_overlap 1",
    "two_level, overlap 0": "-pc_type two_level",
    "two_level, overlap 1": "-pc_type two_level -part_overlap 1",
    "additive, overlap 1": "-pc_type two_level -part_overlap 1 -pc_two_level_type additive",
}


def main() -> None:
    chosen, words = arguments(__doc__, along=(2, 4, 8), damping=(1e-7,), pcs=("asm", "two_level", "additive"))
    print(f"{'subdomains':22s}{''.join(f'{n * n:8d}' for n in chosen.along)}", flush=True)
    for name, options in LINES.items():
        if not name.startswith(tuple(chosen.pcs)):
            continue
        counts = []
        for n in chosen.along:
            problem = f"-problem poisson2d -problem_m {2 * n} -bc_enforce hard -sample_points {125 * n * n}"
            network = f"-net_type subdomain -net_subdomains {n} -net_width 8 -net_depth 1"
            method = "-snes_type newtonls -snes_max_it 1 -ksp_type cg -ksp_rtol 1e-6 -ksp_max_it 5000"
            damping = f"-gn_damping {chosen.damping[0]} -gn_shift {chosen.damping[0]}"
            run = train(*words, *f"{problem} {network} {method} {damping} {options}".split())
            counts.append(int(run.summary["evaluations"]["krylov"]))
        print(f"{name:22s}{''.join(f'{count:8d}' for count in counts)}", flush=True)


if __name__ == "__main__":
    main()
