"""Iterations of nonlinear Schwarz on more and more subdomain networks, with and without a coarse step, beside ``lm``.

    python examples/benchmarks/subdomain_schwarz.py [--along 2,4,8] [--reduction 0.1] [--seconds 60]
                                                    [--methods lm,krylov,sweep,…] [options of the command]

Poisson's equation on the square with one period of the solution in each of n × n subdomains and 125 points in each box.
An entry is the number of iterations until the objective is below ``reduction`` times that at the start, where output
layers are solved for, and the CPU seconds of one thread until then; a dash where that took longer than ``seconds``. A
sweep is one of ``spqn``, by colours, with two steps of ``lm`` in each subdomain; a global step in the last row alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import arguments, train

SWEEP = "-tao_type spqn -tao_spqn_warmup 0 -tao_spqn_kind hybrid -sub_tao_max_it 2"
ALONE = "-tao_spqn_global false"
ONE, TWO = "-net_subdomains {n}", "-net_subdomains 1,{n}"
LINES = {
    "lm": f"{ONE} -tao_type lm",
    "krylov": f"{ONE} -tao_type lm -tao_lm_space krylov -pc_type two_level",
    "sweep": f"{ONE} {SWEEP} -sub_tao_type lm {ALONE}",
    "lbfgs": f"{ONE} {SWEEP} -sub_tao_type lbfgs -sub_tao_max_it 10 {ALONE}",
    "overlap": f"{ONE} {SWEEP} -sub_tao_type lm {ALONE} -part_overlap 1",
    "output": f"{ONE} {SWEEP} -sub_tao_type lm {ALONE} -tao_spqn_coarse output",
    "levels": f"{TWO} {SWEEP} -sub_tao_type lm {ALONE}",
    "level": f"{TWO} {SWEEP} -sub_tao_type lm {ALONE} -tao_spqn_coarse level -coarse_tao_type lm",
    "global": f"{ONE} {SWEEP} -sub_tao_type lm -global_tao_type lm",
}


def main() -> None:
    chosen, words = arguments(__doc__, along=(2, 4, 8), reduction=(0.1,), seconds=(60.0,), methods=list(LINES))
    reduction, seconds = chosen.reduction[0], chosen.seconds[0]
    print(f"{'subdomains':12s}{''.join(f'{n * n:16d}' for n in chosen.along)}", flush=True)
    for name in chosen.methods:
        entries = []
        for n in chosen.along:
            problem = f"-problem poisson2d -problem_m {2 * n} -bc_enforce hard -sample_points {125 * n * n}"
            network = f"-net_type subdomain -net_width 8 -net_depth 1 {LINES[name].format(n=n)}"
            ending = f"-tao_max_it 1000000 -tao_gatol 0 -tao_grtol 0 -max_time {seconds}"
            run = train(*f"{problem} {network} {ending}".split(), *words, cpu=True)
            goal = reduction * run.objectives[0]
            reached = next((k for k, objective in enumerate(run.objectives) if objective <= goal), None)
            entries.append("–" if reached is None else f"{reached} ({run.seconds[reached]:.1f} s)")
        print(f"{name:12s}{''.join(f'{entry:>16s}' for entry in entries)}", flush=True)


if __name__ == "__main__":
    main()
