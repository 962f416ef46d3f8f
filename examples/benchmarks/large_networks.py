"""One wide network, 200,000 to 1,000,000 parameters: second-order methods beside tuned Adam and SOAP, at equal seconds.

    python examples/benchmarks/large_networks.py [--problems poisson2d,borehole] [--methods adam,soap,lbfgs,lm,...]
        [--width 256] [--depth 4] [--points 1000] [--seconds 100] [--seeds 0] [--rates 1e-3,3e-3,1e-2]
        [options of the command]
    python examples/benchmarks/large_networks.py --memory [--width 128,256,512] [--points 1000,2000]

Rows are methods, medians over seeds after so many seconds of CPU time of one thread: objective, relative error (of a
regression on samples that are not trained on), iterations, and how many times smaller the error is than the better one
of the rows of Adam and SOAP before it. These two have the best of the rates, by the error for the first seed; a rate
falls to a hundredth of itself over the run.

--memory: peak resident memory of two iterations above that with a network of width 8, in MB, for each width and number
of points; and what the widest two widths differ by, in numbers of 8 bytes for each parameter.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import Run, arguments, train

PROBLEMS = {
    "poisson2d": "-problem poisson2d -problem_m 4 -bc_enforce hard -sample_points {points}",
    "borehole": "-problem borehole -problem_samples {points}",
}
FRESH = "-sample_adapt fresh -sample_adapt_interval 1"
ADAM = "-tao_type adam -tao_adam_lr {rate} -tao_adam_decay {decay}"
SOAP = "-tao_type soap -tao_soap_lr {rate} -tao_soap_decay {decay}"
METHODS = {
    "adam": ADAM,
    "soap": SOAP,
    "adam:fresh": f"{ADAM} {FRESH}",
    "soap:fresh": f"{SOAP} {FRESH}",
    "lbfgs": "-tao_type lbfgs",
    "lbfgs:50": "-tao_type lbfgs -tao_lbfgs_history 50",
    "lbfgs:momentum": "-tao_type lbfgs -tao_lbfgs_momentum 0.9",
    "lmvm": "-tao_type lmvm -pc_type none",
    "blmvm": "-tao_type blmvm -pc_type none",
    "blmvm:kfac": "-tao_type blmvm -pc_type kfac",
    "blmvm:nystrom": "-tao_type blmvm -pc_type nystrom -gn_lag 50",
    "blmvm:woodbury": "-tao_type blmvm -pc_type woodbury",
    "bqnls": "-tao_type bqnls -pc_type none",
    "bqnls:woodbury": "-tao_type bqnls -pc_type woodbury",
    "trlsr1": "-tao_type trlsr1",
    "newtontr:kfac": "-snes_type newtontr -pc_type kfac",
    "newtontr:nystrom": "-snes_type newtontr -pc_type nystrom -gn_lag 10",
    "newtontr:mg": "-snes_type newtontr -pc_type mg -gn_mat none -hier_type width -hier_levels 5 -gn_lag 10",
    "newtontr:woodbury": "-snes_type newtontr -pc_type woodbury",
    "bntr:kfac": "-tao_type bntr -pc_type kfac",
    "bntr:nystrom": "-tao_type bntr -pc_type nystrom -gn_lag 10",
    "bntr:woodbury": "-tao_type bntr -pc_type woodbury",
    "lm:kfac": "-tao_type lm -tao_lm_space krylov -pc_type kfac",
    "lm:nystrom": "-tao_type lm -tao_lm_space krylov -pc_type nystrom -gn_lag 10",
    "lm:woodbury": "-tao_type lm -tao_lm_space krylov -pc_type woodbury -gn_lag 5",
    "lm": "-tao_type lm -tao_lm_space samples",
    "lbfgs:woodbury": "-stages warm,main -warm_tao_type lbfgs -warm_max_time {warm} -main_max_time {rest} "
    "-main_snes_type newtontr -main_pc_type woodbury",
    "lm:fresh": f"-tao_type lm -tao_lm_space samples -tao_lm_momentum 0.9 {FRESH}",
}
IN_MEMORY = ("adam", "soap", "lbfgs", "newtontr:kfac", "newtontr:nystrom", "lm:kfac", "lm")
NARROW = 8
WARM = 0.4
"""The part of the time that the first of two stages has."""
FALL = 0.01
"""Of a rate, over a run."""


@dataclass(frozen=True)
class Size:
    """The network, the number of points, and the options for all runs."""

    width: int
    depth: int
    points: int
    words: list[str]

    def run(self, problem: str, options: str, *more: object) -> Run:
        """The command for a problem."""
        line = f"{PROBLEMS[problem].format(points=self.points)} -net_type mlp {options}"
        network = ("-net_width", self.width, "-net_depth", self.depth)
        unlimited = "-tao_gatol 0 -tao_grtol 0" if "tao_type" in options else ""
        return train(*line.split(), *unlimited.split(), *network, *more, *self.words, cpu=True)


def timed(size: Size, problem: str, options: str, seconds: float, seed: int) -> Run:
    """A run that only the clock ends."""
    ends = [("-tao_max_it", 1_000_000)] if "tao_type" in options else []
    ends += [("-snes_max_it", 1_000_000)] if "snes_type" in options else []
    times = {"warm": WARM * seconds, "rest": (1.0 - WARM) * seconds}
    return size.run(problem, options.format(**times), *chain(*ends), "-max_time", seconds, "-seed", seed)


def error(run: Run) -> float:
    """Of the end of a run; infinite where it diverged."""
    found = float(run.summary["rel_l2"] or "nan")
    return math.inf if math.isnan(found) else found


def decay_over(size: Size, problem: str, method: str, seconds: float) -> float:
    """The factor of a rate at each iteration, from how many there are in a twentieth of the time."""
    few = timed(size, problem, METHODS[method].format(rate=1e-6, decay=1), 0.05 * seconds, 0)
    return FALL ** (0.05 / max(1, few.summary["iterations"]))


def compare(size: Size, problem: str, methods: list[str], seconds: float, seeds: list[int], rates: list[float]) -> None:
    """Print the table of a problem."""
    print(f"{problem:18s}{'objective':>11s}{'error':>10s}{'iterations':>12s}{'times':>8s}   rate", flush=True)
    first_order = math.inf
    for method in methods:
        options, rate, known = METHODS[method], "", []
        if "{rate}" in options:
            decay = decay_over(size, problem, method, seconds)
            lines = [options.format(rate=rate, decay=decay) for rate in rates]
            tried = [timed(size, problem, line, seconds, seeds[0]) for line in lines]
            best = min(range(len(rates)), key=lambda i: error(tried[i]))
            options, rate, known = lines[best], f"{rates[best]:g}", [tried[best]]
        runs = known + [timed(size, problem, options, seconds, seed) for seed in seeds[len(known) :]]
        objective, reached = median(run.objectives[-1] for run in runs), median(map(error, runs))
        if rate:
            first_order = min(first_order, reached)
        iterations = int(median(run.summary["iterations"] for run in runs))
        print(
            f"{method:18s}{objective:11.1e}{reached:10.1e}{iterations:12d}{first_order / reached:8.2g}   {rate}",
            flush=True,
        )


def memory(size: Size, problem: str, options: str) -> tuple[int, float]:
    """Parameters, and MB at the peak of two iterations."""
    kind = "snes" if "-snes_type" in options else "tao"
    run = size.run(problem, options.format(rate=1e-4, decay=1), f"-{kind}_max_it", 2)
    return run.summary["parameters"], run.summary["peak_rss_mb"]


def weigh(problem: str, methods: list[str], widths: list[int], depth: int, points: list[int], words: list[str]) -> None:
    """Print the memory of the methods."""
    places = [(width, count) for count in points for width in widths]
    columns = "".join(f"{f'{width}, {count}':>12s}" for width, count in places)
    print(f"{problem:18s}{columns}{'a parameter':>13s}", flush=True)
    for method in methods:
        base = {count: memory(Size(NARROW, depth, count, words), problem, METHODS[method])[1] for count in points}
        known = {place: memory(Size(place[0], depth, place[1], words), problem, METHODS[method]) for place in places}
        taken = {place: megabytes - base[place[1]] for place, (_, megabytes) in known.items()}
        row = "".join(f"{taken[place]:12.0f}" for place in places)
        ends = [(width, points[0]) for width in sorted(widths)[-2:]]
        numbers = 1e6 * (taken[ends[1]] - taken[ends[0]]) / 8.0 / (known[ends[1]][0] - known[ends[0]][0])
        print(f"{method:18s}{row}{numbers:13.1f}", flush=True)


def main() -> None:
    chosen, words = arguments(
        __doc__,
        problems=list(PROBLEMS),
        methods=list(METHODS),
        width=[256],
        depth=[4],
        points=[1000],
        seconds=[100.0],
        seeds=[0],
        rates=[1e-3, 3e-3, 1e-2],
    )
    for what, names, known in (("problem", chosen.problems, PROBLEMS), ("method", chosen.methods, METHODS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{what} {name}: choose from {', '.join(known)}")
    weighing = "--memory" in words
    words = [word for word in words if word != "--memory"]
    for problem in chosen.problems:
        if weighing:
            methods = [method for method in chosen.methods if method in IN_MEMORY or chosen.methods != list(METHODS)]
            weigh(problem, methods, chosen.width, chosen.depth[0], chosen.points, words)
        else:
            size = Size(chosen.width[0], chosen.depth[0], chosen.points[0], words)
            compare(size, problem, chosen.methods, chosen.seconds[0], chosen.seeds, chosen.rates)


if __name__ == "__main__":
    main()
