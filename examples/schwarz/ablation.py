"""One switch of nonlinear Schwarz training at a time: error after so many closures.

    python examples/schwarz/ablation.py [--problem klein_gordon] [--switches sync,overlap] [--seeds 0,1,2]
                                        [--closures 1000] [--jobs 1] [options of the command]

The base is the two-level additive method of compare.py with four blocks and one layer of overlap. Every row changes one
option of it; what is not finished after ``--seconds`` is counted as it stands. Medians over the seeds, and the closures
on the critical path, with a rank for each block. Figures by closures do not depend on the machine.
"""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ThreadPoolExecutor
from math import isnan

from compare import Run, arguments, train

BASE = "-tao_type spqn -tao_spqn_preset two_level -part_blocks 4 -part_overlap 1"
SWITCHES = {
    "base": [""],
    "secant": ["-tao_spqn_secant half", "-tao_spqn_secant mixed"],
    "memory": [
        "-tao_spqn_memory restart",
        "-sub_tao_lbfgs_history 3 -global_tao_lbfgs_history 3",
        "-sub_tao_lbfgs_history 50 -global_tao_lbfgs_history 50",
    ],
    "momentum": ["-global_tao_lbfgs_momentum 0.9", "-global_tao_lbfgs_momentum 0.9 -sub_tao_lbfgs_momentum 0.9"],
    "sync": ["-tao_spqn_sync single", "-tao_spqn_sync subspace", "-tao_spqn_sync copy"],
    "kind": ["-tao_spqn_kind multiplicative", "-tao_spqn_kind hybrid"],
    "coarse": [f"-tao_spqn_coarse {name}" for name in ("none", "last", "output", "interface", "gains", "network")],
    "overlap": ["-part_overlap 0", "-part_overlap 2"],
    "blocks": ["-part_blocks 2", "-part_blocks 3", "-part_blocks 6"],
    "steps": ["-sub_tao_max_it 5", "-sub_tao_max_it 25", "-sub_tao_max_it 50"],
    "global": ["-tao_spqn_global false"],
    "lbfgs": ["-tao_type lbfgs -tao_lbfgs_history 3 -tao_lbfgs_momentum 0.9", "-tao_type lbfgs -tao_lbfgs_history 50"],
}
"""Words after the base: what is said last wins."""


def last_within(run: Run, closures: float) -> tuple[float, float]:
    """The last error within a budget of closures, and the part of them on the critical path."""
    rows = [(error, spent) for error, spent in zip(run.errors, run.closures, strict=True) if not isnan(error)]
    error, spent = [row for row in rows if row[1] <= closures or row is rows[0]][-1]
    return error, spent * run.summary["closures_depth"] / run.summary["closures"]


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen, words = arguments(
        __doc__,
        problem=["klein_gordon"],
        switches=list(SWITCHES),
        seeds=(0, 1, 2),
        closures=(1000.0,),
        seconds=(60.0,),
        jobs=(1,),
    )
    for name in chosen.switches:
        if name not in SWITCHES:
            raise SystemExit(f"switch {name}: choose from {', '.join(SWITCHES)}")
    print(f"{'switch':70s}{'error':>10s}{'from':>10s}{'to':>10s}{'depth':>8s}", flush=True)
    with ThreadPoolExecutor(chosen.jobs[0]) as pool:
        started = {
            text: [
                pool.submit(train, chosen.problem[0], f"{BASE} {text}", 1, seed, chosen.seconds[0], 1, words)
                for seed in chosen.seeds
            ]
            for name in chosen.switches
            for text in SWITCHES[name]
        }
        for text, futures in started.items():
            runs = [run for future in futures if (run := future.result()) is not None]
            if not runs:
                print(f"{text or 'base':70s} no result", flush=True)
                continue
            errors, depths = zip(*(last_within(run, chosen.closures[0]) for run in runs), strict=True)
            columns = statistics.median(errors), min(errors), max(errors)
            shown = "".join(f"{error:10.1e}" for error in columns)
            print(f"{text or 'base':70s}{shown}{statistics.median(depths):8.0f}", flush=True)


if __name__ == "__main__":
    main()
