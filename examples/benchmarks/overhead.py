"""What of a training iteration is not arithmetic of the network: PETSc, MPI, Python.

    python examples/benchmarks/overhead.py [--pcs none,asm] [options of the command, for every run]

Burgers' equation, 8 hidden layers of 20, 10,000 points, 60 iterations of blmvm. Arithmetic is the time inside the
events PST… of `-log_view`: objectives, gradients, linearizations, entries of the Gauss–Newton matrix.
"""

from __future__ import annotations

from runs import arguments, train

SIZE = [
    "-problem",
    "burgers",
    "-net_depth",
    "8",
    "-net_width",
    "20",
    "-sample_points",
    "10000",
    "-tao_type",
    "blmvm",
    "-tao_max_it",
    "60",
]


def main() -> None:
    chosen, words = arguments(__doc__, pcs=("none", "asm"))
    print("pc          iterations   closures   linearizations   seconds   arithmetic   the rest")
    for kind in chosen.pcs:
        summary = train(*SIZE, "-pc_type", kind, *words).summary
        wall, arithmetic = summary["wall_s"], summary["torch_s"]
        print(
            f"{kind:10s} {summary['iterations']:11d} {summary['closures']:10g} "
            f"{summary['evaluations']['linearization']:16g} {wall:9.2f} {arithmetic:12.2f} "
            f"{100 * (wall - arithmetic) / wall:8.1f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
