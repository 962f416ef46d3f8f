"""Methods of pescitrain against optimisers of other packages: error over time on the same problems, points and seeds.

    python examples/benchmarks/peers.py [--problems burgers,poisson2d] [--methods lm,torch_lbfgs] [--seeds 0,1,2]
                                        [--times 30,60,120,300] [--plot peers.png] [options of the command]

Everyone starts from the same weights, in double precision, on one thread and on the same points; where points move, all
move them by the same rule (rad), each after as many iterations as suit it. Errors are measured off the clock.
``pip install pescitrain[peers]`` brings scimba and DeepXDE; a peer that is not installed is left out. The peers:

* torch_lbfgs, scipy_lbfgsb     50 pairs, tolerances off, on pescitrain's objective
* adam_lbfgs                    2000 steps of torch's Adam (1e-3), then torch_lbfgs
* scimba_ssbroyden              scimba's optimiser on pescitrain's objective
* scimba_eng                    scimba's energy natural gradient, on its own residual and points (Poisson's equation)
* deepxde                       2000 steps of Adam (1e-3), then L-BFGS (50 pairs), on DeepXDE's own residual
* deepxde_nncg                  the same with 1000 iterations of L-BFGS, then DeepXDE's Nyström Newton-CG
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import isnan
from pathlib import Path

from runs import arguments, train

PROBLEMS = {
    "burgers": "-bc_enforce hard -net_depth 3 -net_width 20 -sample_points 4096 -sample_adapt rad",
    "allen_cahn": "-bc_enforce hard -net_depth 3 -net_width 20 -sample_points 4096 -sample_adapt rad",
    "poisson2d": "-net_depth 1 -net_width 64 -sample_points 900 -sample_boundary_points 120",
    "poisson5d": "-net_depth 1 -net_width 64 -sample_points 3000 -sample_boundary_points 500",
}
OURS = {
    "lm": "-tao_type lm -sample_adapt_interval 20",
    "ssbroyden": "-tao_type ssbroyden -sample_adapt_interval 100",
    "blmvm": "-tao_type blmvm -pc_type asm -sample_adapt_interval 500",
}
PEERS = {
    "torch_lbfgs": 500,
    "scipy_lbfgsb": 500,
    "adam_lbfgs": 500,
    "scimba_ssbroyden": 100,
    "scimba_eng": 1,
    "deepxde": 500,
    "deepxde_nncg": 500,
}
"""Iterations between moves of the points, where they move."""
PACKAGES = {
    "scimba_ssbroyden": "scimba_torch",
    "scimba_eng": "scimba_torch",
    "deepxde": "deepxde",
    "deepxde_nncg": "deepxde",
}
ENDLESS = "-tao_gatol 0 -tao_grtol 0 -tao_max_it 1000000 -ckpt_interval 1000000 -out_error_interval 10"
LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
PEER = Path(__file__).with_name("peer.py")


@dataclass(frozen=True)
class Curve:
    """Errors of one run, and what had been spent at each."""

    seconds: list[float]
    closures: list[float]
    errors: list[float]

    def error_at(self, seconds: float) -> float:
        """The last one measured by then; NaN where the first came later."""
        within = [error for error, wall in zip(self.errors, self.seconds, strict=True) if wall <= seconds]
        return within[-1] if within else float("nan")

    def seconds_to(self, level: float) -> float:
        """Until the error is first at or below a level; infinite where it never is."""
        return next(
            (wall for error, wall in zip(self.errors, self.seconds, strict=True) if error <= level), float("inf")
        )


def run_ours(options: Sequence[str], seconds: float) -> Curve:
    """The command in a process of its own."""
    run = train(*ENDLESS.split(), "-max_time", seconds, *options)
    kept = [i for i, error in enumerate(run.errors) if not isnan(error)]
    return Curve(*([column[i] for i in kept] for column in (run.seconds, run.closures, run.errors)))


def run_peer(method: str, options: Sequence[str], seconds: float) -> Curve:
    """peer.py in a process of its own.

    Raises
    ------
    SystemExit      it has no result; with what it said
    """
    command = [sys.executable, str(PEER), method, str(seconds), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{ended.stderr}")
    return Curve(**json.loads(ended.stdout.splitlines()[-1]))


def run(problem: str, method: str, seed: int, seconds: float, words: Sequence[str]) -> Curve:
    """One method on one problem from one seed."""
    options = f"-problem {problem} {PROBLEMS[problem]} -seed {seed}"
    if method in OURS:
        return run_ours([*f"{options} {OURS[method]}".split(), *words], seconds)
    return run_peer(method, [*f"{options} -sample_adapt_interval {PEERS[method]}".split(), *words], seconds)


def row(method: str, curves: Sequence[Curve], times: Sequence[float]) -> str:
    """Medians over the seeds: errors at times, seconds to levels, closures at the end."""
    errors = "".join(f"{statistics.median(curve.error_at(time) for curve in curves):11.1e}" for time in times)
    waits = [statistics.median(curve.seconds_to(level) for curve in curves) for level in LEVELS]
    reached = "".join(f"{wait:10.1f}" if wait < float("inf") else f"{'-':>10s}" for wait in waits)
    closures = statistics.median(curve.closures[-1] for curve in curves)
    return f"{method:18s}{errors}{reached}{closures:11.0f}"


def draw(curves: dict[str, dict[str, list[Curve]]], path: str) -> None:
    """Error over time, log-log: a panel for each problem, a line for each seed."""
    from matplotlib.figure import Figure  # takes longer to import than all else here

    figure = Figure(figsize=(5.0 * len(curves), 4.0), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (problem, by_method) in zip(panels, curves.items(), strict=True):
        for number, (method, several) in enumerate(by_method.items()):
            for seed, curve in enumerate(several):
                label = method if seed == 0 else None
                panel.loglog(curve.seconds[1:], curve.errors[1:], color=f"C{number}", label=label, linewidth=1.2)
        panel.set(title=problem, xlabel="seconds", ylabel="relative L2 error")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    chosen, words = arguments(
        __doc__,
        problems=list(PROBLEMS),
        methods=[*OURS, *PEERS],
        seeds=(0, 1, 2),
        times=(30.0, 60.0, 120.0, 300.0),
        plot=["peers.png"],
    )
    unknown = [name for name in chosen.methods if name not in OURS and name not in PEERS]
    unknown += [name for name in chosen.problems if name not in PROBLEMS]
    if unknown:
        raise SystemExit(
            f"{', '.join(unknown)}: choose problems from {', '.join(PROBLEMS)}, methods from "
            f"{', '.join((*OURS, *PEERS))}"
        )
    methods = []
    for method in chosen.methods:
        if method in PACKAGES and find_spec(PACKAGES[method]) is None:
            print(f"{method} is left out: its package is not installed (pip install pescitrain[peers])")
        else:
            methods.append(method)
    curves: dict[str, dict[str, list[Curve]]] = {}
    for problem in chosen.problems:
        head = "".join(f"{f'at {time:g} s':>11s}" for time in chosen.times)
        levels = "".join(f"{f'to {level:.0e}':>10s}" for level in LEVELS)
        print(f"{problem:18s}{head}{levels}{'closures':>11s}", flush=True)
        curves[problem] = {}
        for method in methods:
            several = [run(problem, method, seed, max(chosen.times), words) for seed in chosen.seeds]
            curves[problem][method] = several
            print(row(method, several, chosen.times), flush=True)
    draw(curves, chosen.plot[0])


if __name__ == "__main__":
    main()
