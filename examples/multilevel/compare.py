"""Multilevel training beside one-level methods: loss and test error against work and time.

    python examples/multilevel/compare.py [--problems spirals,smiley] [--methods rmtr,adam] [--seeds 0,1,2,3,4]
                                          [--work 10,25,50,150] [--target 50] [--jobs 1] [options of the command]
    python examples/multilevel/compare.py --problems burgers --methods adam,lm,nested_lm --seconds 10,30 --target 30
    python examples/multilevel/compare.py --tune 1 [--problems …] [--methods …] [--rates 1e-2,3e-2,1e-1]

Work is in passes of the finest network over all samples (``charged.py`` says what counts as what). Each seed is another
network on the same samples. Methods that go from coarse to fine (``nested_*``, ``fmg_*``) have a schedule for each
budget: 80 % of it shared equally by the coarser networks, the rest for the finest, and their losses are those of the
finest network. The last columns are the share of wrong classes, or the relative error, and the seconds at the budget
``--target``, and the work until the loss was that of ``trlsr1``, and of ``adam``, there; medians over the seeds,
infinite where it never was. Losses are over all samples where methods see batches, and the targets are those without.
With ``--seconds`` budgets are seconds of solving, and the last column is the work.

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
from math import inf, isnan, nan
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from runs import arguments


@dataclass(frozen=True)
class Case:
    """A problem as it is trained.

    ``sizes``: parameters of the coarser networks beside those of the finest, the coarsest first; ``batch``: what an
    iteration sees of all samples; ``targets``: the case whose losses are to be reached, where it is another one;
    ``cycle``: about what an iteration of full multigrid with ``rmtr`` costs on its network.
    """

    options: str
    sizes: tuple[float, ...]
    batch: float = 1.0
    targets: str = ""
    cycle: float = 7.0


PROBLEMS = {
    "spirals": Case("-net_depth 33 -hier_type depth -hier_levels 4", (0.1437, 0.266, 0.511)),
    "spirals65": Case("-problem spirals -net_depth 65 -hier_type depth -hier_levels 5", (0.0738, 0.136, 0.259, 0.506)),
    "spirals_batch": Case(
        "-problem spirals -net_depth 33 -hier_type depth -hier_levels 4 -sample_batch 30",
        (0.1437, 0.266, 0.511),
        batch=0.1,
        targets="spirals",
    ),
    "smiley": Case(
        "-problem_samples 1000 -problem_tests 1000 -net_depth 29 -hier_type depth -hier_levels 3",
        (0.2847, 0.526),
        cycle=9.5,
    ),
    "signals": Case(
        "-problem_samples 1000 -problem_tests 1000 -net_depth 33 -hier_type depth -hier_levels 3",
        (0.346, 0.564),
        cycle=9.5,
    ),
    "borehole": Case("-hier_type width -hier_levels 3", (0.0925, 0.290)),
    "diffusion_absorption": Case("-hier_type depth -hier_levels 3", (0.295, 0.530)),
    "burgers": Case(
        "-net_type resnet -net_width 20 -net_depth 9 -hier_type depth -hier_levels 3 -sample_points 2000",
        (0.268, 0.512),
    ),
    "poisson2d": Case(
        "-problem_m 4 -net_width 32 -net_depth 4 -hier_type width -hier_levels 3 -sample_points 2000", (0.0755, 0.267)
    ),
}

CLASSES = ("spirals", "spirals65", "smiley", "signals")
RATES = {
    "adam": dict.fromkeys(("spirals", "spirals65", "spirals_batch", "borehole", "diffusion_absorption"), 3e-2)
    | {"smiley": 3e-1, "signals": 1e-1, "burgers": 1e-2, "poisson2d": 3e-3},
    "nested_adam": {
        "spirals": 1e-2,
        "spirals65": 1e-2,
        "spirals_batch": 1e-2,
        "smiley": 3e-2,
        "signals": 1e-1,
        "burgers": 3e-2,
        "poisson2d": 3e-3,
    },
    "adagrad": dict.fromkeys(CLASSES, 3.0),
    "nested_adagrad": dict.fromkeys(CLASSES, 3e-1),
    "mladagrad": dict.fromkeys(CLASSES, 1.0),
    "asadagrad": dict.fromkeys(CLASSES, 1e-1),
    "sgd": dict.fromkeys(CLASSES, 1.0),
}
"""As ``--tune`` has found them, those of the last five on spirals alone; a method is left out where it has none."""

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
GRID = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
SHARE = 0.8
ENDLESS_ITERATIONS = "1000000"
ENDLESS = "-tao_gatol 0 -tao_grtol 0 -ckpt_interval 1000000 -out_pictures false -out_model false"


@dataclass(frozen=True)
class Trace:
    """What the finest network had after each iteration: work, seconds, loss, wrong classes or relative error."""

    work: list[float]
    seconds: list[float]
    losses: list[float]
    errors: list[float]

    def at(self, budget: float, clock: str = "work") -> tuple[float, float, float]:
        """Loss, error, and seconds or work, of the last iterate within a budget of work or seconds; infinite where
        there is none."""
        spent, other = (self.work, self.seconds) if clock == "work" else (self.seconds, self.work)
        place = sum(one <= budget * 1.02 for one in spent) - 1
        return (self.losses[place], self.errors[place], other[place]) if place >= 0 else (inf, inf, inf)

    def reaches(self, loss: float, clock: str = "work") -> float:
        """The work, or the seconds, until the loss was no larger."""
        spent = self.work if clock == "work" else self.seconds
        return next((one for one, phi in zip(spent, self.losses, strict=True) if phi <= loss), inf)


def schedule(problem: str, method: str, budget: float, clock: str) -> str:
    """Limits of each network, for a budget of work or of seconds; of the iterations of the only one, without levels."""
    kind, _, base = method.partition("_")
    nested = kind in ("nested", "fmg")
    case = PROBLEMS[problem]
    cost = case.cycle if method == "fmg_rmtr" else case.batch * ITERATION.get(base if nested else method, 1.0)
    solver = "snes" if "-snes_type" in METHODS[method][1] else "tao"
    if clock == "seconds":
        if not nested:
            return f"{ENDLESS_ITERATIONS} -max_time {1.1 * budget}"
        times = [*(SHARE * budget / len(case.sizes) for _ in case.sizes), 2.0 * (1.0 - SHARE) * budget]
        words = "".join(f" -level_{level}_max_time {seconds}" for level, seconds in enumerate(times))
        return f"{ENDLESS_ITERATIONS} -hier_nested{words}"
    if not nested:
        return str(max(2, round(1.3 * budget / cost)))
    # The evaluation at its start is a part of what a network costs.
    limits = [max(1, round((SHARE * budget / len(case.sizes) / size - 1.0) / cost)) for size in case.sizes]
    limits.append(max(1, round(2.0 * budget / cost)))  # the finest goes on until the budget is used
    words = "".join(f" -level_{level}_{solver}_max_it {limit}" for level, limit in enumerate(limits))
    return f"{ENDLESS_ITERATIONS} -hier_nested{words}"


def train(
    problem: str, method: str, rate: float, seed: int, budget: float, words: Sequence[str], clock: str = "work"
) -> Trace:
    """One run in a process of its own.

    Raises
    ------
    SystemExit      it has no result; with what it said
    """
    assembly, options = METHODS[method]
    with tempfile.TemporaryDirectory() as folder:
        # What is said last wins: the limit of the iterations ends the options of the method.
        line = f"-problem {problem} {PROBLEMS[problem].options} {options.format(rate=rate)} "
        line += f"{schedule(problem, method, budget, clock)} {ENDLESS} -seed {seed} -out_dir {folder}"
        line += f" -out_error_interval {1 if PROBLEMS[problem].batch == 1.0 else 10}"
        command = [sys.executable, str(HERE / "charged.py"), assembly, *line.split(), *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1) or not (Path(folder) / "summary.json").is_file():
            raise SystemExit(f"{' '.join(command)}\n{ended.stderr}")
        with (Path(folder) / "history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        with (Path(folder) / "work.csv").open(newline="") as file:
            charged = list(csv.reader(file))
    last = rows[-1]["stage"]
    kept = [(*one, row) for one, row in zip(charged, rows, strict=True) if row["stage"] == last and one[1]]
    seconds, errors = ([float(row[name] or "nan") for _, _, row in kept] for name in ("wall_s", "rel_l2"))
    return Trace([float(work) for work, _, _ in kept], seconds, [float(loss) for _, loss, _ in kept], errors)


def rate_of(problem: str, method: str) -> float:
    """The tuned rate of a method that has one, NaN where it is not known yet; 0 for the others."""
    base = method.removeprefix("nested_").removeprefix("fmg_")
    return RATES.get(method, RATES.get(base, {})).get(problem, nan if "{rate}" in METHODS[method][1] else 0.0)


def tune(
    problems: Sequence[str],
    methods: Sequence[str],
    rates: Sequence[float],
    budget: float,
    clock: str,
    pool: ThreadPoolExecutor,
) -> None:
    """Print the best rate of each method that has one, for a budget of work or seconds."""
    for method in methods:
        if "{rate}" not in METHODS[method][1]:
            continue
        for problem in problems:
            started = {
                rate: [pool.submit(train, problem, method, rate, seed, budget, (), clock) for seed in (100, 101, 102)]
                for rate in rates
            }
            losses = {
                rate: statistics.median(one.result().at(budget, clock)[0] for one in several)
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
        seconds=(0.0,),
        jobs=(1,),
        tune=(0,),
        rates=GRID,
        target=(50.0,),
    )
    for what, names, known in (("problem", chosen.problems, PROBLEMS), ("method", chosen.methods, METHODS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{what} {name}: choose from {', '.join(known)}")
    clock, budgets = ("seconds", chosen.seconds) if chosen.seconds[0] else ("work", chosen.work)
    with ThreadPoolExecutor(chosen.jobs[0]) as pool:
        if chosen.tune[0]:
            tune(chosen.problems, chosen.methods, chosen.rates, chosen.target[0], clock, pool)
            return
        for problem in chosen.problems:
            compare(problem, chosen.methods, chosen.seeds, budgets, chosen.target[0], clock, words, pool)


def compare(
    problem: str,
    methods: Sequence[str],
    seeds: Sequence[int],
    budgets: Sequence[float],
    middle: float,
    clock: str,
    words: Sequence[str],
    pool: ThreadPoolExecutor,
) -> None:
    """The table of one problem."""
    losses = "".join(f"{f'loss {budget:g}':>10s}" for budget in budgets)
    other = "seconds" if clock == "work" else "work"
    print(f"{problem:20s}{losses}{f'error {middle:g}':>12s}{'to trlsr1':>12s}{'to adam':>12s}{other:>9s}", flush=True)

    def traces(of: str, method: str, budget: float) -> list[Trace]:
        rate = rate_of(of, method)
        started = [pool.submit(train, of, method, rate, seed, budget, words, clock) for seed in seeds]
        return [one.result() for one in started]

    of_targets = PROBLEMS[problem].targets or problem
    known_rates = [name for name in ("trlsr1", "adam") if not isnan(rate_of(of_targets, name))]
    kept = {name: traces(of_targets, name, max(middle, *budgets)) for name in known_rates}
    targets = {"trlsr1": -inf, "adam": -inf}
    targets |= {name: statistics.median(one.at(middle, clock)[0] for one in runs) for name, runs in kept.items()}
    for method in methods:
        if isnan(rate_of(problem, method)):
            print(f"{method:20s}has no rate here yet: look for it with --tune 1", flush=True)
            continue
        scheduled = method.startswith(("nested_", "fmg_"))
        by_budget = {
            budget: kept[method] if method in kept and of_targets == problem else traces(problem, method, budget)
            for budget in (budgets if scheduled else budgets[-1:])
        }
        row = ""
        for budget in budgets:
            known = by_budget.get(budget, by_budget[budgets[-1]])
            row += f"{statistics.median(one.at(budget, clock)[0] for one in known):10.1e}"
        known = by_budget.get(middle, by_budget[budgets[-1]])
        row += f"{statistics.median(one.at(middle, clock)[1] for one in known):12.2e}"
        for name in ("trlsr1", "adam"):
            runs = by_budget.values()
            least = [min(of_one[k].reaches(targets[name], clock) for of_one in runs) for k in range(len(seeds))]
            row += f"{statistics.median(least):12.1f}"
        row += f"{statistics.median(one.at(middle, clock)[2] for one in known):9.2f}"
        print(f"{method:20s}{row}", flush=True)


if __name__ == "__main__":
    main()
