"""Every method with every preconditioner, on a small Burgers problem: objective, cost and time after 100 iterations.

    python examples/benchmarks/solvers.py [--tao blmvm,bntr] [--snes newtontr] [--pcs none,asm] [options of the command]

Methods differ in what an iteration is: compare objectives with the closures, the Krylov iterations and the time beside.
"""

from __future__ import annotations

from runs import arguments, train

from pescitrain.solvers.names import OWN_TAO_TYPES, TAO_WITHOUT_PRECONDITIONER, known_types

SIZE = [
    "-problem",
    "burgers",
    "-net_depth",
    "3",
    "-net_width",
    "10",
    "-sample_points",
    "1000",
    "-sample_boundary_points",
    "200",
    "-tao_max_it",
    "100",
    "-snes_max_it",
    "100",
]
NO_PRECONDITIONER = (*TAO_WITHOUT_PRECONDITIONER, *OWN_TAO_TYPES, "lmvm")
"""lmvm: with a preconditioner it is blmvm."""


def main() -> None:
    chosen, words = arguments(
        __doc__,
        tao=known_types("tao"),
        snes=known_types("snes"),
        pcs=("none", "jacobi", "bjacobi", "asm", "fieldsplit", "cholesky"),
    )
    print("method            pc            objective   iterations   closures     krylov    seconds   ended")
    for family in ("tao", "snes"):
        for name in getattr(chosen, family):
            ignores = family == "tao" and name in NO_PRECONDITIONER
            for kind in ["none"] if ignores else chosen.pcs:
                run = train(*SIZE, f"-{family}_type", name, "-pc_type", kind, *words)
                summary = run.summary
                print(
                    f"{summary['solver']:17s} {summary['pc']:11s} {run.objectives[-1]:11.3e} "
                    f"{summary['iterations']:12d} {summary['closures']:10g} {summary['evaluations']['krylov']:10d} "
                    f"{summary['wall_s']:10.1f}   {summary['converged_reason']}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
