"""Networks in subdomains beside one network with as many parameters, at equal seconds.

    python examples/benchmarks/subdomains.py [--problems multiscale1d,multiscale2d,poisson2d,lshape,plate,lshape_fine,
                                                         plate_fine,elasticity,lshape_scales,plate_scales]
                                             [--seconds 60] [--methods lm,krylov,lbfgs,adam,soap]
                                             [--seed 0] [options of the command]

``…_scales``: ``multiscale_mesh`` on that mesh; ``…_fine``: more subdomains. Rows are the subdomain networks with
``lm``, on a mesh also those in its parts, then the one network with each method and, where the solution has many
scales, the same with random Fourier features; relative errors after the seconds, and how many times larger they are
than that of the subdomains. Seconds are CPU time of one thread. Rates of ``adam`` and ``soap`` are the best of three.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import Run, arguments, train


@dataclass(frozen=True)
class Case:
    """A problem, its subdomains, one network with as many parameters, the scale of Fourier features (0: none), and the
    same number of networks in parts of the mesh.
    """

    problem: str
    subdomains: str
    single: str
    fourier: float = 0.0
    parts: str = ""


HARD = "-bc_enforce hard"
ON_MESHES = (
    "-net_subdomains 4 -net_overlap 0.3 -net_width 8 -net_depth 2",
    "-net_width 22 -net_depth 4",
    0.0,
    "-net_partition mesh -net_subdomains 16 -net_width 8 -net_depth 2",
)
FINE_ON_MESHES = (
    "-net_subdomains 6 -net_overlap 0.3 -net_width 8 -net_depth 2",
    "-net_width 34 -net_depth 4",
)
SCALES = "-problem multiscale_mesh -sample_type hammersley -sample_points 8000 -sample_boundary_points 1600"
MANY_ON_MESHES = (
    "-net_subdomains 8 -net_width 8 -net_depth 2",
    "-net_width 46 -net_depth 4",
    2.0,
    "-net_partition mesh -net_subdomains 64 -net_width 8 -net_depth 2",
)
PROBLEMS = {
    "multiscale1d": Case(
        f"-problem multiscale1d {HARD} -sample_points 2000",
        "-net_subdomains 32 -net_width 5 -net_depth 2",
        "-net_width 21 -net_depth 4",
        8.0,
    ),
    "multiscale2d": Case(
        f"-problem multiscale2d -problem_scales 4 {HARD} -sample_points 8000",
        "-net_subdomains 8 -net_width 8 -net_depth 2",
        "-net_width 46 -net_depth 4",
        2.0,
    ),
    "poisson2d": Case(
        f"-problem poisson2d -problem_m 16 {HARD} -sample_points 8000",
        "-net_subdomains 8 -net_width 8 -net_depth 2",
        "-net_width 46 -net_depth 4",
        2.0,
    ),
    "lshape": Case("-problem poisson_lshape", *ON_MESHES),
    "plate": Case("-problem poisson", *ON_MESHES),
    "lshape_fine": Case("-problem poisson_lshape", *FINE_ON_MESHES),
    "plate_fine": Case("-problem poisson", *FINE_ON_MESHES),
    "elasticity": Case("-problem elasticity", *ON_MESHES),
    "lshape_scales": Case(f"{SCALES} -mesh lshape.msh", *MANY_ON_MESHES),
    "plate_scales": Case(f"{SCALES} -mesh plate_with_hole.msh", *MANY_ON_MESHES),
}
METHODS = {
    "lm": "-tao_type lm",
    "krylov": "-tao_type lm -tao_lm_space krylov -pc_type kfac",
    "lbfgs": "-tao_type lbfgs",
    "adam": "-tao_type adam -tao_adam_lr {rate}",
    "soap": "-tao_type soap -tao_soap_lr {rate}",
}
RATES = ("1e-3", "3e-3", "1e-2")


def error(run: Run) -> float:
    """Of the end of a run; NaN where it diverged."""
    return float(run.summary["rel_l2"] or "nan")


def main() -> None:
    chosen, words = arguments(__doc__, problems=list(PROBLEMS), methods=list(METHODS), seconds=(60.0,), seed=(0,))
    seconds, seed = chosen.seconds[0], chosen.seed[0]
    for what, names, known in (("problem", chosen.problems, PROBLEMS), ("method", chosen.methods, METHODS)):
        for name in names:
            if name not in known:
                raise SystemExit(f"{what} {name}: choose from {', '.join(known)}")

    def trained(line: str) -> Run:
        ending = f"-tao_max_it 1000000 -tao_gatol 0 -tao_grtol 0 -max_time {seconds} -seed {seed}"
        return train(*line.split(), *ending.split(), *words, cpu=True)

    for problem in chosen.problems:
        case = PROBLEMS[problem]
        best = trained(f"{case.problem} -net_type subdomain {case.subdomains} -tao_type lm")
        print(f"{problem:14s}{'parameters':>12s}{'error':>12s}{'times':>9s}", flush=True)
        print(f"{'subdomains':14s}{best.summary['parameters']:12d}{error(best):12.1e}{1.0:9.1f}", flush=True)
        if case.parts:
            run = trained(f"{case.problem} -net_type subdomain {case.parts} -tao_type lm")
            ratio = error(run) / error(best)
            print(f"{'parts':14s}{run.summary['parameters']:12d}{error(run):12.1e}{ratio:9.1f}", flush=True)
        features = ["", f"-net_fourier 30 -net_fourier_scale {case.fourier}"] if case.fourier else [""]
        for method in chosen.methods:
            for more in features:
                options = METHODS[method]
                lines = [options.format(rate=rate) for rate in RATES] if "{rate}" in options else [options]
                runs = [trained(f"{case.problem} {case.single} {more} {line}") for line in lines]
                run = min(runs, key=error)
                name = method + (", Fourier" if more else "")
                ratio = error(run) / error(best)
                print(f"{name:14s}{run.summary['parameters']:12d}{error(run):12.1e}{ratio:9.1f}", flush=True)


if __name__ == "__main__":
    main()
