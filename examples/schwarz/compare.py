"""Nonlinear Schwarz training beside its rivals: error against closures and time on the benchmarks of the papers.

    python examples/schwarz/compare.py [--problems burgers,allen_cahn] [--methods aspqn,lbfgs_3] [--seeds 0,1,2]
                                       [--seconds 60] [--budgets 1000,3000] [--ranks 1] [--jobs 1]
                                       [--plot schwarz.png] [options of the command]

Every run is a process of its own, under mpiexec where --ranks says so; --jobs of them run side by side.

Networks, number of points, liftings, blocks and local steps are those of Kopaničáková et al., SIAM J. Sci. Comput. 46
(2024) S46: residual networks with adaptive slopes, 10,000 Hammersley points, one block for each layer, three pairs and
momentum 0.9 in every quasi-Newton method. The lifting of Klein–Gordon is one that does not hold the solution. The two
operators are learnt by a branch and a trunk of six layers each from data made here; their error is that on functions
which were not trained on, and a block is a layer of one of the two.

A closure is a pass over all points that gives φ, with or without ∇φ, for any block; ``depth`` counts those on the
critical path, where blocks that are trained side by side count as the longest of them. Errors are measured off the
clock, at every tenth iteration; medians over the seeds. Where lbfgs_3 is among the methods, what each of them spent
until its error was the last one of lbfgs_3 follows, and that on the critical path, as the part of all closures that it
was in the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import isnan
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from runs import Run, arguments, read

NETWORK = "-net_type resnet -net_adaptive_slope true -bc_enforce hard -sample_points 10000"
PROBLEMS = {
    "burgers": f"{NETWORK} -net_depth 7 -net_width 20 -net_final_time 6",
    "diffusion_advection": f"{NETWORK} -net_depth 9 -net_width 50 -net_final_time 8",
    "klein_gordon": f"{NETWORK} -net_depth 5 -net_width 50 -net_final_time 4",
    "allen_cahn": f"{NETWORK} -net_depth 5 -net_width 64 -net_final_time 4",
    "advection_operator": "-net_width 32 -net_depth 5 -part_type network",
    "diffusion_operator": "-net_width 32 -net_depth 5 -part_type network -bc_enforce hard",
}
LOCAL_STEPS = {"diffusion_advection": 10}
"""Local steps of aspqn and mspqn, where they are not 50."""
RATES = {"burgers": 5e-4, "diffusion_advection": 1e-4, "klein_gordon": 1e-3, "allen_cahn": 2.5e-4}
RATES |= {"advection_operator": 1e-3, "diffusion_operator": 1e-3}
"""Learning rates of Adam."""

OVERLAP = "-part_blocks 4 -part_overlap 1"
THREE = "-tao_lbfgs_history 3 -tao_lbfgs_momentum 0.9"
METHODS = {
    "adam": "-tao_type adam -tao_adam_lr {rate}",
    "lbfgs_3": f"-tao_type lbfgs {THREE}",
    "lbfgs_50": "-tao_type lbfgs -tao_lbfgs_history 50",
    "aspqn": "-tao_type spqn -tao_spqn_preset aspqn -sub_tao_max_it {steps}",
    "mspqn": "-tao_type spqn -tao_spqn_preset mspqn -sub_tao_max_it {steps}",
    "two_level": "-tao_type spqn -tao_spqn_preset two_level -part_blocks 4",
    "two_level_overlap": f"-tao_type spqn -tao_spqn_preset two_level {OVERLAP}",
    "two_level_hybrid": f"-tao_type spqn -tao_spqn_preset two_level -tao_spqn_kind hybrid {OVERLAP}",
    "subspace": "-tao_type spqn -tao_spqn_preset subspace",
    "mspqn_lm": "-tao_type spqn -tao_spqn_kind multiplicative -sub_tao_type lm -sub_tao_max_it 2",
    "subspace_lm": "-tao_type spqn -tao_spqn_preset subspace -sub_tao_max_it 3 "
    "-global_tao_type lm -global_tao_max_it 10",
    "qn_nasm": "-snes_type qn -npc_snes_type nasm -gn_damping 1",
    "ngmres_nasm": "-snes_type ngmres -snes_ngmres_select_type linesearch -npc_snes_type nasm -gn_damping 1",
    "newtontr_nasm": "-snes_type newtontr -npc_snes_type nasm -pc_type cholesky -gn_damping 1",
    "aspin": "-snes_type aspin -pc_type none -gn_damping 100",
    "ssbroyden": "-tao_type ssbroyden",
    "lm": "-tao_type lm",
}
REFERENCE = "lbfgs_3"
ENDLESS = (
    "-tao_gatol 0 -tao_grtol 0 -tao_max_it 1000000 -snes_rtol 0 -snes_stol 0 -snes_max_it 1000000 "
    "-ckpt_interval 1000000 -out_pictures false -out_model false"
)


def run(problem: str, method: str, seed: int, seconds: float, ranks: int, words: Sequence[str]) -> Run | None:
    """One method on one problem from one seed."""
    options = METHODS[method].format(rate=RATES[problem], steps=LOCAL_STEPS.get(problem, 50))
    interval = 10 if method in ("adam", "lbfgs_3", "lbfgs_50", "ssbroyden", "lm") else 1
    return train(problem, options, interval, seed, seconds, ranks, words)


def train(
    problem: str, options: str, interval: int, seed: int, seconds: float, ranks: int, words: Sequence[str]
) -> Run | None:
    """The command with these options; None, and what it said, where it has no result. Errors at every ``interval``."""
    with tempfile.TemporaryDirectory() as folder:
        line = f"-problem {problem} {PROBLEMS[problem]} {options} {ENDLESS} -seed {seed} -max_time {seconds}"
        launcher = [shutil.which("mpiexec") or "mpiexec", "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, sys.executable, "-m", "pescitrain", *line.split()]
        command += ["-out_error_interval", str(interval), "-out_dir", folder, *words]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode not in (0, 1) or not (Path(folder) / "summary.json").is_file():
            print(f"{' '.join(command)}\n{ended.stderr}", file=sys.stderr, flush=True)
            return None
        return read(Path(folder))


def error_within(run: Run, column: Sequence[float], budget: float) -> float:
    """The last error that was measured within a budget of closures or seconds."""
    rows = zip(run.errors, column, strict=True)
    return [error for error, spent in rows if not isnan(error) and (spent <= budget or spent == column[0])][-1]


def row(method: str, runs: Sequence[Run], budgets: Sequence[float], seconds: float) -> str:
    """Medians over the seeds."""
    if not runs:
        return f"{method:19s} no result"
    errors = [statistics.median(error_within(one, one.closures, budget) for one in runs) for budget in budgets]
    errors.append(statistics.median(error_within(one, one.seconds, seconds) for one in runs))
    text = "".join(f"{error:11.1e}" for error in errors)
    spent = [statistics.median(one.summary[name] for one in runs) for name in ("closures", "closures_depth")]
    iterations = statistics.median(one.summary["iterations"] for one in runs)
    return f"{method:19s}{text}{iterations:8.0f}{spent[0]:10.0f}{spent[1]:10.0f}"


def spent_to(target: float, runs: Sequence[Run]) -> tuple[float, float]:
    """Median closures, and those on the critical path, until the error is no larger; infinite where it never is."""
    whole, critical = [], []
    for one in runs:
        pairs = zip(one.closures, one.errors, strict=True)
        closures = next((spent for spent, error in pairs if error <= target), float("inf"))
        whole.append(closures)
        critical.append(closures * one.summary["closures_depth"] / one.summary["closures"])
    return statistics.median(whole), statistics.median(critical)


def report_target(by_method: dict[str, list[Run]], seconds: float) -> None:
    """What the methods spent until they had the last error of L-BFGS, and in parts of what it spent itself."""
    if not by_method.get(REFERENCE):
        return
    target = statistics.median(error_within(one, one.seconds, seconds) for one in by_method[REFERENCE])
    whole, _ = spent_to(target, by_method[REFERENCE])
    print(f"to {target:.1e}, the last error of {REFERENCE}; in parentheses its closures over those of the method")
    for method, several in by_method.items():
        if several:
            spent = "".join(f"{part:10.0f} ({whole / part:4.1f})" for part in spent_to(target, several))
            print(f"{method:19s}{spent}", flush=True)


def draw(runs: dict[str, dict[str, list[Run]]], path: str) -> None:
    """Error against closures above, against seconds below; a column for each problem."""
    from matplotlib.figure import Figure  # takes longer to import than all else here

    figure = Figure(figsize=(5.0 * len(runs), 7.5), layout="constrained")
    panels = figure.subplots(2, len(runs), squeeze=False)
    for column, (problem, by_method) in enumerate(runs.items()):
        for number, (method, several) in enumerate(by_method.items()):
            for seed, one in enumerate(several):
                kept = [k for k, error in enumerate(one.errors) if not isnan(error)]
                for panel, spent in zip(panels[:, column], (one.closures, one.seconds), strict=True):
                    x, y = [spent[k] for k in kept], [one.errors[k] for k in kept]
                    style = "-" if number < 10 else "--"
                    panel.loglog(x, y, style, color=f"C{number % 10}", label=None if seed else method, linewidth=1.1)
        panels[0, column].set(title=problem, xlabel="closures", ylabel="relative L2 error")
        panels[1, column].set(xlabel="seconds", ylabel="relative L2 error")
        panels[0, column].legend(fontsize="x-small")
    figure.savefig(path, dpi=150)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen, words = arguments(
        __doc__,
        problems=list(PROBLEMS),
        methods=list(METHODS),
        seeds=(0, 1, 2),
        seconds=(60.0,),
        budgets=(300.0, 1000.0, 3000.0),
        ranks=(1,),
        jobs=(1,),
        plot=["schwarz.png"],
    )
    for what, names, known in (("problem", chosen.problems, PROBLEMS), ("method", chosen.methods, METHODS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{what} {name}: choose from {', '.join(known)}")
    runs: dict[str, dict[str, list[Run]]] = {}
    seconds, ranks = chosen.seconds[0], chosen.ranks[0]
    with ThreadPoolExecutor(chosen.jobs[0]) as pool:
        started = {
            (problem, method): [pool.submit(run, problem, method, seed, seconds, ranks, words) for seed in chosen.seeds]
            for problem in chosen.problems
            for method in chosen.methods
        }
        report(chosen, started, runs)
    draw(runs, chosen.plot[0])


def report(
    chosen: argparse.Namespace,
    started: dict[tuple[str, str], list[Future[Run | None]]],
    runs: dict[str, dict[str, list[Run]]],
) -> None:
    """Print the row of each method as soon as its runs have ended, and keep them."""
    for problem in chosen.problems:
        head = "".join(f"{f'{budget:g} cl.':>11s}" for budget in chosen.budgets)
        print(
            f"{problem:19s}{head}{f'{chosen.seconds[0]:g} s':>11s}{'its':>8s}{'closures':>10s}{'depth':>10s}",
            flush=True,
        )
        runs[problem] = {}
        for method in chosen.methods:
            several = [one for future in started[problem, method] if (one := future.result()) is not None]
            runs[problem][method] = several
            print(row(method, several, chosen.budgets, chosen.seconds[0]), flush=True)
        report_target(runs[problem], chosen.seconds[0])


if __name__ == "__main__":
    main()
