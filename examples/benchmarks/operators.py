"""Operators: the error of Levenberg–Marquardt by products against Adam's, on the same DeepONet and data, side by side.

    python examples/benchmarks/operators.py [--problems advection,steps,diffusion,perceptron] [--methods adam,lm]
                                            [--seeds 0] [--times 60,120] [options of the command, for every run]

The error is that on functions that were not trained on. All methods of a problem and seed run at the same time, a
process and a thread each; seconds are CPU time, so that a machine that others use does not count. ``adam`` has the best
of a few rates and decays on the first problem; ``gain`` is its error over that of each method.

* advection     smooth initial functions (-problem_family grf), which the sensors determine
* steps         the default of the problem: where an edge is, the sensors say to a cell. The best of all maps, linear
                interpolation between sensors, has an error of 0.14
* diffusion     2000 samples of a map of 444 numbers, linear in 441 of them, and a branch that is (-net_products)
* perceptron    the same map with a perceptron for the branch, which learns the samples by heart
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isnan
from statistics import median

from runs import Run, arguments, train

PROBLEMS = {
    "advection": "-problem advection_operator -problem_family grf",
    "steps": "-problem advection_operator",
    "diffusion": "-problem diffusion_operator -bc_enforce hard -net_products 96 -net_basis 48",
    "perceptron": "-problem diffusion_operator",
}
METHODS = {
    "adam": "-tao_type adam -tao_adam_lr 1e-2 -tao_adam_decay 0.9994 -sample_batch 50 -out_error_interval 100",
    "lbfgs": "-tao_type lbfgs -tao_lbfgs_history 50 -out_error_interval 20",
    "lm": "-tao_type lm -tao_lm_space krylov -pc_type kfac -out_error_interval 1",
}
ENDLESS = "-tao_gatol 0 -tao_grtol 0 -tao_max_it 1000000 -ckpt_interval 1000000"


def error_at(run: Run, seconds: float) -> float:
    """The last one that was measured by then; NaN where there is none."""
    rows = zip(run.seconds, run.errors, strict=True)
    return next((error for wall, error in reversed(list(rows)) if wall <= seconds and not isnan(error)), float("nan"))


def table(problem: str, methods: Sequence[str], seeds: Sequence[int], times: Sequence[float], words: list[str]) -> None:
    """The medians over the seeds, a row for each method."""
    runs: dict[str, list[Run]] = {method: [] for method in methods}
    for seed in seeds:
        common = f"{ENDLESS} {PROBLEMS[problem]} -seed {seed} -max_time {max(times)}".split()
        with ThreadPoolExecutor(len(methods)) as pool:
            for method, run in zip(
                methods,
                pool.map(lambda name, common=common: train(*common, *METHODS[name].split(), *words, cpu=True), methods),
                strict=True,
            ):
                runs[method].append(run)
    print(f"{problem:12s}{'iterations':>12s}{'closures':>12s}", end="")
    print("".join(f"{f'at {time:g} s':>12s}{'gain':>8s}" for time in times))
    first = [median(error_at(run, time) for run in runs[methods[0]]) for time in times]
    for method in methods:
        errors = [median(error_at(run, time) for run in runs[method]) for time in times]
        iterations = median(len(run.seconds) - 1 for run in runs[method])
        print(f"{method:12s}{iterations:12.0f}{median(run.closures[-1] for run in runs[method]):12.0f}", end="")
        print("".join(f"{e:12.1e}{reference / e:8.1f}" for e, reference in zip(errors, first, strict=True)), flush=True)


def main() -> None:
    chosen, words = arguments(
        __doc__, problems=tuple(PROBLEMS), methods=("adam", "lm"), seeds=(0,), times=(60.0, 120.0)
    )
    unknown = [name for name in chosen.problems if name not in PROBLEMS]
    unknown += [name for name in chosen.methods if name not in METHODS]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: choose from {', '.join((*PROBLEMS, *METHODS))}")
    for problem in chosen.problems:
        table(problem, chosen.methods, chosen.seeds, chosen.times, words)


if __name__ == "__main__":
    main()
