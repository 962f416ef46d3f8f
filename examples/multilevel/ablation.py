"""One switch of multilevel training at a time: loss after so much work.

    python examples/multilevel/ablation.py [--problem spirals] [--bases rmtr,fmg_rmtr] [--switches cycle,model]
                                           [--seeds 0,1,2,3,4] [--work 50] [--jobs 1] [options of the command]

The bases are methods of compare.py; every row changes one option. Medians over the seeds, the least and the largest.
"""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ThreadPoolExecutor

from compare import METHODS, arguments, rate_of, train

RMTR = {
    "base": [""],
    "cycle": ["-tao_rmtr_cycle w"],
    "nested": ["-hier_cycle_levels 1", "-hier_cycle_levels 2", "-hier_cycle_levels 3"],
    "levels": ["-hier_levels 1", "-hier_levels 2", "-hier_levels 3"],
    "model": [f"-tao_rmtr_coarse_model {name}" for name in ("none", "multiplicative", "hybrid")],
    "restriction": ["-tao_rmtr_restriction injection"],
    "history": ["-tao_rmtr_history 2", "-tao_rmtr_history 5", "-tao_rmtr_history 20"],
    "steps": ["-tao_rmtr_coarse_its 2", "-tao_rmtr_coarse_its 30", "-tao_rmtr_pre 3 -tao_rmtr_post 3"],
    "radius": ["-tao_rmtr_radius 0.1", "-tao_rmtr_radius 10"],
    "prolongation": ["-hier_prolongation linear"],
}
ADAGRAD = {
    "base": [""],
    "levels": ["-hier_levels 1", "-hier_levels 3"],
    "model": ["-tao_mladagrad_coherent false"],
    "weights": [f"-tao_mladagrad_weights {name}" for name in ("square_of_sum", "max", "fresh")],
    "steps": ["-tao_mladagrad_coarse_steps 2", "-tao_mladagrad_coarse_steps 10"],
}
SWITCHES = {"rmtr": RMTR, "fmg_rmtr": RMTR, "rmtr_gn": RMTR, "fmg_rmtr_gn": RMTR, "mladagrad": ADAGRAD}
"""Options after those of the base: what is said last wins."""


def senseless(base: str, name: str, text: str) -> bool:
    """Switches of nested iteration on a base without it, and those that would take it away."""
    nested = base.startswith("fmg_")
    return (name in ("nested", "prolongation") and not nested) or (name == "levels" and nested and bool(text))


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen, words = arguments(
        __doc__,
        problem=["spirals"],
        bases=["rmtr", "fmg_rmtr", "mladagrad"],
        switches=list(RMTR | ADAGRAD),
        seeds=(0, 1, 2, 3, 4),
        work=(50.0,),
        jobs=(1,),
    )
    for name in chosen.bases:
        if name not in SWITCHES:
            raise SystemExit(f"base {name}: choose from {', '.join(SWITCHES)}")
    for name in chosen.switches:
        if name not in RMTR | ADAGRAD:
            raise SystemExit(f"switch {name}: choose from {', '.join(RMTR | ADAGRAD)}")
    problem, budget = chosen.problem[0], chosen.work[0]
    with ThreadPoolExecutor(chosen.jobs[0]) as pool:
        for base in chosen.bases:
            assert base in METHODS
            print(f"{base:50s}{f'loss {budget:g}':>10s}{'from':>10s}{'to':>10s}", flush=True)
            started = {
                text: [
                    pool.submit(train, problem, base, rate_of(problem, base), seed, budget, [*text.split(), *words])
                    for seed in chosen.seeds
                ]
                for name in chosen.switches
                for text in SWITCHES[base].get(name, [])
                if not senseless(base, name, text)
            }
            for text, several in started.items():
                losses = [one.result().at(budget)[0] for one in several]
                columns = statistics.median(losses), min(losses), max(losses)
                print(f"  {text or 'as it is':48s}{''.join(f'{loss:10.1e}' for loss in columns)}", flush=True)


if __name__ == "__main__":
    main()
