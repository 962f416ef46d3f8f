"""Time slabs: networks one after the other along time, trained side by side, in turn, or together; at equal seconds.

    python examples/benchmarks/time_slabs.py [--problems klein_gordon,burgers] [--seconds 30] [--seeds 0,1,2]
                                             [--methods one,lm,additive,multiplicative,hybrid,joint]
                                             [options of the command]

Medians of the relative error and of the length of the critical path in closures, with a rank for each slab. Every local
solve is by ``lm``; additive, multiplicative (in the order of time) and hybrid (every other slab side by side) have no
global step, ``joint`` has three of ``lm`` on all slabs after each sweep. Seconds are CPU time of one thread.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import arguments, train


@dataclass(frozen=True)
class Case:
    """The slabs of a problem, and one network with about as many parameters."""

    slabs: str
    single: str


PROBLEMS = {
    "klein_gordon": Case("-net_subdomains 1x8 -net_width 10 -net_depth 2", "-net_width 19 -net_depth 4"),
    "burgers": Case("-net_subdomains 1x8 -net_width 12 -net_depth 2", "-net_width 23 -net_depth 4"),
}
SWEEPS = "-tao_type spqn -tao_spqn_warmup 0 -sub_tao_type lm -sub_tao_max_it {steps} -tao_spqn_kind {kind}"
ALONE = "-tao_spqn_global false"
METHODS = {
    "lm": "-tao_type lm",
    "additive": f"{SWEEPS.format(kind='additive', steps=5)} {ALONE}",
    "multiplicative": f"{SWEEPS.format(kind='multiplicative', steps=5)} {ALONE}",
    "hybrid": f"{SWEEPS.format(kind='hybrid', steps=5)} {ALONE}",
    "joint": f"{SWEEPS.format(kind='hybrid', steps=3)} -global_tao_type lm -global_tao_max_it 3",
}


def main() -> None:
    chosen, words = arguments(
        __doc__, problems=list(PROBLEMS), seconds=(30.0,), seeds=(0, 1, 2), methods=("one", *METHODS)
    )
    ending = f"-tao_max_it 1000000 -tao_gatol 0 -tao_grtol 0 -max_time {chosen.seconds[0]}"
    for problem in chosen.problems:
        case = PROBLEMS[problem]
        print(
            f"{problem:18s}{'parameters':>12s}{'error':>10s}{'iterations':>12s}{'closures':>10s}{'path':>8s}",
            flush=True,
        )
        for method in chosen.methods:
            network = case.single if method == "one" else f"-net_type subdomain {case.slabs}"
            line = f"-problem {problem} -bc_enforce hard -sample_points 4000 {network} {ending}"
            solver = METHODS["lm" if method == "one" else method]
            runs = [train(*f"{line} {solver} -seed {seed}".split(), *words, cpu=True) for seed in chosen.seeds]
            spent = [run.summary["evaluations"] for run in runs]
            columns = (
                [float(run.summary["rel_l2"] or "nan") for run in runs],
                [len(run.objectives) - 1 for run in runs],
                [one["objective"] + one["gradient"] for one in spent],
                [one["objective"] + one["gradient"] - one["overlapped"] for one in spent],
            )
            error, iterations, closures, path = map(statistics.median, columns)
            parameters = runs[0].summary["parameters"]
            print(f"{method:18s}{parameters:12d}{error:10.1e}{iterations:12.0f}{closures:10.0f}{path:8.0f}", flush=True)


if __name__ == "__main__":
    main()
