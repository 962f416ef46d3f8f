"""Does the preconditioner pay? The objective of blmvm with -pc_type none and asm, at equal closures and at equal time.

    python examples/benchmarks/preconditioner.py [--seeds 0,1,2] [options of the command, for every run]

Burgers' equation, 4 hidden layers of 20, 4000 points, 500 iterations. Each pair is compared at the closures, and at the
seconds, of the run that took fewer.
"""

from __future__ import annotations

from statistics import median

from runs import arguments, train

SIZE = [
    "-problem",
    "burgers",
    "-net_depth",
    "4",
    "-net_width",
    "20",
    "-sample_points",
    "4000",
    "-tao_type",
    "blmvm",
    "-tao_max_it",
    "500",
]


def main() -> None:
    chosen, words = arguments(__doc__, seeds=(0, 1, 2))
    print("at equal:     closures      none       asm     ratio |  seconds      none       asm     ratio")
    by_closures, by_seconds = [], []
    for seed in chosen.seeds:
        none, asm = (train(*SIZE, "-seed", seed, "-pc_type", kind, *words) for kind in ("none", "asm"))
        closures = min(none.closures[-1], asm.closures[-1])
        seconds = min(none.seconds[-1], asm.seconds[-1])
        line = f"seed {seed:<6d}"
        for budget, ratios, shown in (
            ({"closures": closures}, by_closures, f"{closures:11.0f}"),
            ({"seconds": seconds}, by_seconds, f" |{seconds:9.1f}"),
        ):
            before, after = none.objective_at(**budget), asm.objective_at(**budget)
            ratios.append(before / after)
            line += f"{shown} {before:9.2e} {after:9.2e} {ratios[-1]:9.1f}"
        print(line, flush=True)
    print(f"median ratio {median(by_closures):.1f} at equal closures, {median(by_seconds):.1f} at equal time")


if __name__ == "__main__":
    main()
