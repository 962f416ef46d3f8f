"""Multilevel training beside one-level methods: loss and test error against work and time.

    python examples/multilevel/compare.py [--problems spirals,smiley] [--methods rmtr,adam] [--seeds 0,1,2,3,4]
                                          [--work 10,25,50,150] [--target 50] [--jobs 1] [options of the command]
    python examples/multilevel/compare.py --tune 1 [--problems …] [--methods …] [--rates 1e-2,3e-2,1e-1]

Work is in passes of the finest network over all samples (``charged.py`` says what counts as what). Each seed is another
network on the same samples. Methods that go from coarse to fine (``nested_*``, ``fmg_*``) have a schedule for each
budget: 80 % of it shared equally by the coarser networks, the rest for the finest, and their losses are those of the
finest network. The last columns are the share of wrong classes and the seconds at the budget ``--target``, and the work
until the loss was that of ``trlsr1``, and of ``adam``, there; medians over the seeds, infinite where it never was.

Rates are the best of a half-decade grid on three other seeds at that budget, which ``--tune`` looks for.
"""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from runs import arguments

PROBLEMS = {
    "spirals": ("-net_depth 33 -hier_type depth -hier_levels 4", (0.1437, 0.266, 0.511)),
    "spirals65": ("-problem spirals -net_depth 65 -hier_type depth -hier_levels 5", (0.0738, 0.136, 0.259, 0.506)),
    "smiley": ("-net_depth 29 -hier_type depth -hier_levels 3", (0.2847, 0.526)),
    "signals": ("-net_depth 33 -hier_type depth -hier_levels 3", (0.346, 0.564)),
}
"""Options, and what the coarser networks are in size, the coarsest first."""

RATES = {
    "adam": {"spirals": 3e-2, "spirals65": 3e-2, "smiley": 1e-1, "signals": 3e-2},
    "nested_adam": {"spirals": 1e-2, "spirals65": 1e-2, "smiley": 1e-2, "signals": 1e-2},
    "adagrad": dict.fromkeys(PROBLEMS, 3.0),
    "nested_adagrad": dict.fromkeys(PROBLEMS, 3e-1),
    "mladagrad": dict.fromkeys(PROBLEMS, 1.0),
    "asadagrad": dict.fromkeys(PROBLEMS, 1e-1),
    "sgd": dict.fromkeys(PROBLEMS, 1.0),
}
CG = "-pc_type none -ksp_max_it 20 -ksp_rtol 0.1 -snes_rtol 0 -snes_stol 0 -snes_max_it"
METHODS = {
    "adam": ("none", "-tao_type adam -tao_adam_lr {rate} -tao_max_it"),
    "adagrad": ("none", "-tao_type adagrad -tao_adagrad_lr {rate} -tao_max_it"),
    "sgd": ("none", "-tao_type sgd -tao_sgd_lr {rate} -tao_max_it"),
    "lbfgs": ("none", "-tao_type lbfgs -tao_lbfgs_history 10 -tao_max_it"),
    "trlsr1": ("none", "-tao_type trlsr1 -tao_max_it"),
    "bqnktr": ("none", "-tao_type bqnktr -pc_type none -tao_max_it"),
    "blmvm_asm": ("blocks", "-tao_type blmvm -pc_type asm -tao_max_it"),
    "lm": ("dense", "-tao_type lm -tao_max_it"),
    "newtontr": ("none", f"-snes_type newtontr {CG}"),
    "newtontr_mg": ("dense", f"-snes_type newtontr {CG.replace('none', 'mg')}"),
    "fas": ("none", "-snes_type fas -snes_rtol 0 -snes_stol 0 -snes_max_it"),
    "mladagrad": ("none", "-tao_type mladagrad -tao_mladagrad_lr {rate} -hier_levels 2 -tao_max_it"),
    "asadagrad": ("none", "-tao_type asadagrad -tao_asadagrad_lr {rate} -part_blocks 4 -tao_max_it"),
    "rmtr": ("none", "-tao_type rmtr -tao_max_it"),
    "rmtr_w": ("none", "-tao_type rmtr -tao_rmtr_cycle w -tao_max_it"),
    "rmtr_gn": ("none", "-tao_type rmtr -tao_rmtr_hessian gauss_newton -tao_rmtr_coarse_its 3 -tao_max_it"),
}
METHODS |= {
    f"nested_{name}": METHODS[name]
    for name in ("adam", "adagrad", "lbfgs", "trlsr1", "bqnktr", "blmvm_asm", "lm", "newtontr")
}
METHODS |= {f"fmg_{name}": METHODS[name] for name in ("rmtr", "rmtr_gn", "fas")}
METHODS["fmg_mladagrad"] = ("none", "-tao_type mladagrad -tao_mladagrad_lr {rate} -hier_cycle_levels 2 -tao_max_it")
ITERATION = {
    "blmvm_asm": 5.0,
    "lm": 300.0,
    "newtontr": 8.0,
    "newtontr_mg": 300.0,
    "fas": 25.0,
    "mladagrad": 4.5,
    "asadagrad": 5.0,
    "rmtr": 7.0,
    "rmtr_w": 20.0,
    "rmtr_gn": 30.0,
    "lbfgs": 1.1,
}
"""About what an iteration costs on its network, where it is not 1; limits are set by it, work is measured."""
TUNED = {"adam": "adam", "adagrad": "adagrad", "sgd": "sgd", "mladagrad": "mladagrad", "asadagrad": "asadagrad"}
GRID = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
SHARE = 0.8
ENDLESS = "-tao_gatol 0 -tao_grtol 0 -ckpt_interval 1000000 -out_pictures false -out_error_interval 1"


@dataclass(frozen=True)
class Trace:
    """What the finest network had after each iteration: work, seconds, loss, wrong classes or relative error."""

    work: list[float]
    seconds: list[float]
    losses: list[float]
    errors: list[float]

    def at(self, budget: float) -> tuple[float, float, float]:
        """Loss, error and seconds of the last iterate within a budget of work; NaN where there is none."""
        place = sum(spent <= budget * 1.02 for spent in self.work) - 1
        return (self.losses[place], self.errors[place], self.seconds[place]) if place >= 0 else (inf, inf, inf)

    def reaches(self, loss: float) -> float:
        """The work until the loss was no larger."""
        return next((w for w, phi in zip(self.work, self.losses, strict=True) if phi <= loss), inf)


def schedule(problem: str, method: str, budget: float) -> str:
    """Limits of the iterations of each network, for a budget of work."""
    kind, _, base = method.partition("_")
    if kind not in ("nested", "fmg"):
        return ""
    cost, sizes = ITERATION.get(base, 1.0), PROBLEMS[problem][1]
    solver = "snes" if "-snes_type" in METHODS[method][1] else "tao"
    # The evaluation at its start is a part of what a network costs.
    limits = [max(1, round((SHARE * budget / len(sizes) / size - 1.0) / cost)) for size in sizes]
    limits.append(max(1, round(2.0 * budget / cost)))  # the finest goes on until the budget is used
    words = "".join(f" -level_{level}_{solver}_max_it {limit}" for level, limit in enumerate(limits))
    return f"-hier_nested -{words.strip()[1:]}"


def train(problem: str, method: str, rate: float, seed: int, budget: float, words: Sequence[str]) -> Trace:
    """One run in a process of its own.

    Raises
    ------
    SystemExit      it has no result; with what it said
    """
    assembly, options = METHODS[method]
    base = method.removeprefix("nested_").removeprefix("fmg_")
    limit = max(2, round(1.3 * budget / ITERATION.get(base, 1.0)))
    with tempfile.TemporaryDirectory() as folder:
        line = f"-problem {problem} {PROBLEMS[problem][0]} {options.format(rate=rate)} {limit} {ENDLESS} -seed {seed}"
        line += f" {schedule(problem, method, budget)} -out_dir {folder}"
        command = [sys.executable, str(HERE / "charged.py"), assembly, *line.split(), *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1) or not (Path(folder) / "summary.json").is_file():
            raise SystemExit(f"{' '.join(command)}\n{ended.stderr}")
        with (Path(folder) / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        work = [float(text) for text in (Path(folder) / "work.csv").read_text().split()]
    last = rows[-1]["stage"]
    kept = [(spent, row) for spent, row in zip(work, rows, strict=True) if row["stage"] == last]
    columns = ([float(row[name] or "nan") for _, row in kept] for name in ("wall_s", "objective", "rel_l2"))
    return Trace([spent for spent, _ in kept], *columns)


def rate_of(problem: str, method: str) -> float:
    """The tuned rate, where the method has one."""
    base = method.removeprefix("nested_").removeprefix("fmg_")
    return RATES.get(method, RATES.get(base, {})).get(problem, 0.0)


def tune(
    problems: Sequence[str], methods: Sequence[str], rates: Sequence[float], budget: float, pool: ThreadPoolExecutor
) -> None:
    """Print the best rate of each method that has one."""
    for method in methods:
        if "{rate}" not in METHODS[method][1]:
            continue
        for problem in problems:
            started = {
                rate: [pool.submit(train, problem, method, rate, seed, budget, ()) for seed in (100, 101, 102)]
                for rate in rates
            }
            losses = {
                rate: statistics.median(one.result().at(budget)[0] for one in several)
                for rate, several in started.items()
            }
            finite = {rate: loss for rate, loss in losses.items() if not isnan(loss)}
            best = min(finite, key=lambda rate: finite[rate])
            print(method, problem, best, " ".join(f"{rate:g}:{loss:.1e}" for rate, loss in losses.items()), flush=True)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen, words = arguments(
        __doc__,
        problems=list(PROBLEMS),
        methods=list(METHODS),
        seeds=(0, 1, 2, 3, 4),
        work=(10.0, 25.0, 50.0, 150.0),
        jobs=(1,),
        tune=(0,),
        rates=GRID,
        target=(50.0,),
    )
    for what, names, known in (("problem", chosen.problems, PROBLEMS), ("method", chosen.methods, METHODS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{what} {name}: choose from {', '.join(known)}")
    middle = chosen.target[0]
    with ThreadPoolExecutor(chosen.jobs[0]) as pool:
        if chosen.tune[0]:
            tune(chosen.problems, chosen.methods, chosen.rates, middle, pool)
            return
        for problem in chosen.problems:
            compare(problem, chosen.methods, chosen.seeds, chosen.work, middle, words, pool)


def compare(
    problem: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    budgets: Sequence[float],
    middle: float,
    words: Sequence[str],
    pool: ThreadPoolExecutor,
) -> None:
    """The table of one problem."""
    losses = "".join(f"{f'loss {budget:g}':>10s}" for budget in budgets)
    print(
        f"{problem:18s}{losses}{f'error {middle:g}':>12s}{'to trlsr1':>12s}{'to adam':>12s}{'seconds':>9s}", flush=True
    )

    def traces(method: str, budget: float) -> list[Trace]:
        rate = rate_of(problem, method)
        started = [pool.submit(train, problem, method, rate, seed, budget, words) for seed in seeds]
        return [one.result() for one in started]

    targets = {}
    for name in ("trlsr1", "adam"):
        targets[name] = statistics.median(one.at(middle)[0] for one in traces(name, middle))
    for method in methods:
        scheduled = method.startswith(("nested_", "fmg_"))
        by_budget = {budget: traces(method, budget) for budget in (budgets if scheduled else budgets[-1:])}
        row = ""
        for budget in budgets:
            known = by_budget.get(budget, by_budget[budgets[-1]])
            row += f"{statistics.median(one.at(budget)[0] for one in known):10.1e}"
        known = by_budget.get(middle, by_budget[budgets[-1]])
        row += f"{statistics.median(one.at(middle)[1] for one in known):12.3f}"
        for name in ("trlsr1", "adam"):
            least = [min(runs[k].reaches(targets[name]) for runs in by_budget.values()) for k in range(len(seeds))]
            row += f"{statistics.median(least):12.1f}"
        row += f"{statistics.median(one.at(middle)[2] for one in known):9.2f}"
        print(f"{method:18s}{row}", flush=True)


if __name__ == "__main__":
    main()
