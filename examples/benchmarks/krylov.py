"""Which preconditioner pays: iterations of CG on (JᵀJ + λI) x = −Jᵀr at three stages of training.

    python examples/benchmarks/krylov.py [--problems burgers,allen_cahn] [--stages 0,300,800] [--dampings 3e-2,1e-3]
                                         [--pcs asm,nystrom] [--levels 2] [--limit 1000] [--seeds 0]
                                         [options of the command]

Burgers' and Allen–Cahn's equation, 8 hidden layers of 20, 4000 points, trained by blmvm with asm; a stage is a number
of iterations. λ is relative to the mean of the diagonal of JᵀJ, as -gn_shift is. CG stops where ‖b − Hx‖ ≤ 1e-6 ‖b‖,
the same norm for all; > means that the limit came first. Set-up (entries or factors from J, factorisation) and one
application are told in units of one product with JᵀJ, J v + Jᵀ w. --pcs takes every line that starts with a name,
--levels is how many networks mg has.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import petsc4py
from runs import arguments

SIZE = {
    "net_depth": 8,
    "net_width": 20,
    "sample_points": 4000,
    "sample_boundary_points": 400,
    "tao_type": "blmvm",
    "tao_gatol": 0,
    "tao_grtol": 0,
    "tao_max_it": 1_000_000,
}


@dataclass(frozen=True)
class Line:
    """A preconditioner of the table: its options, and the blocks of layers that it works on."""

    label: str
    type: str
    blocks: int | None = None
    overlap: int = 0
    entries: str | None = None
    options: dict[str, object] = field(default_factory=dict)
    coarsening: str = "both"
    rows: int = 0
    single: bool = False


def lines(layers: int) -> list[Line]:
    """What is compared, for a network of this many layers."""
    blocks = [n for n in (8, 4, 2) if n <= layers]
    finest = blocks[0]
    symmetric = {"pc_fieldsplit_type": "symmetric_multiplicative"}
    return [
        Line("none", "none"),
        Line("jacobi", "jacobi", finest),
        Line("bjacobi, 1 block", "bjacobi", finest),
        *(Line(f"asm, {n} blocks", "asm", n) for n in blocks),
        *(Line(f"asm, {finest} blocks, overlap {k}", "asm", finest, k) for k in (1, 2)),
        Line(f"asm, {finest} blocks, overlap 2, single", "asm", finest, 2, single=True),
        Line(f"gasm, {finest} blocks, overlap 1", "gasm", finest, 1),
        Line("fieldsplit additive", "fieldsplit"),
        Line("fieldsplit symmetric", "fieldsplit", entries="dense", options=symmetric),
        Line("kfac", "kfac"),
        *(
            Line(f"spectral, {n} blocks, {k} each", "spectral", n, options={"pc_spectral_vectors": k})
            for n, k in ((finest, 10), (finest, 20), (finest, 40), (2, 80))
        ),
        *(
            Line(
                f"spectral {kind}, asm, {finest} x 20",
                "spectral",
                finest,
                options={"pc_spectral_type": kind, "pc_spectral_local": "blocks"},
            )
            for kind in ("additive", "deflation")
        ),
        *(Line(f"nystrom, rank {k}", "nystrom", options={"pc_nystrom_rank": k}) for k in (40, 80, 160)),
        *(
            Line(f"nystrom, rank 80, {k} rows", "nystrom", options={"pc_nystrom_rank": 80}, rows=k)
            for k in (2000, 1000)
        ),
        *(
            Line(f"mg, {kind}, asm of {finest}{name}", "mg", finest, coarsening=kind, options=options)
            for kind in ("depth", "width", "both")
            for name, options in (("", {}), (", rediscretised", {"pc_mg_galerkin": "none"}))
        ),
        Line("cholesky", "cholesky"),
        Line("cholesky, single", "cholesky", single=True),
    ]


def main() -> None:
    chosen, words = arguments(
        __doc__,
        problems=("burgers", "allen_cahn"),
        stages=(0, 300, 800),
        dampings=(3e-2, 1e-3),
        pcs=("",),
        levels=(2,),
        limit=(1000,),
        seeds=(0,),
    )
    petsc4py.init(["krylov", "-skip_petscrc", *words])
    for problem in chosen.problems:
        for seed in chosen.seeds:
            table(problem, seed, chosen)


def table(problem: str, seed: int, chosen) -> None:
    """The table of one problem and one seed."""
    from petsc4py import PETSc

    from pescitrain.run.build import build
    from pescitrain.run.loading import create_problem, problem_class
    from pescitrain.run.options import Settings, read

    kind = problem_class(problem)
    settings = read(Settings, defaults={**kind.defaults, **SIZE, "seed": seed})
    setup = build(create_problem(kind), settings, PETSc.COMM_WORLD)
    say = PETSc.Sys.Print
    wanted = [
        line for line in lines(len(setup.system.layout.layers)) if any(line.label.startswith(pc) for pc in chosen.pcs)
    ]
    columns: dict[str, list[str]] = {line.label: [] for line in wanted}
    costs: dict[str, list[tuple[float, float]]] = {line.label: [] for line in wanted}
    say(f"{problem}, seed {seed}: {setup.system.layout.size} parameters, {setup.evaluator.residual_count} residuals")
    header = ""
    for stage, theta in trained(setup, chosen.stages):
        setup.evaluator.parameters.values.numpy()[:] = theta
        quality = "" if setup.metric is None else f", error {setup.metric.evaluate().rel_l2:.1e}"
        linearization = setup.evaluator.linearize(theta)
        gradient = linearization.transpose_times(linearization.residual)
        matrix = linearization.gauss_newton_matrix()
        unit = median(seconds_of(lambda: linearization.gauss_newton_times(gradient)) for _ in range(5))  # noqa: B023
        objective = setup.evaluator.objective(theta).objective
        say(f"stage {stage}: objective {objective:.1e}{quality}, one product with JᵀJ {1e3 * unit:.0f} ms")
        for damping in chosen.dampings:
            header += f"{f'{stage} it, {damping:g}':>16s}"
            for line in wanted:
                iterations, prepare, apply = measure(setup, line, linearization, matrix, gradient, damping, chosen)
                shown = f">{chosen.limit[0]}" if iterations is None else str(iterations)
                columns[line.label].append(f"{shown:>16s}")
                costs[line.label].append((prepare / unit, apply / unit))
    say(f"{'preconditioner':34s}{header}{'set-up':>10s}{'apply':>8s}")
    for label, shown in columns.items():
        prepare, apply = (median(cost) for cost in zip(*costs[label], strict=True))
        say(f"{label:34s}{''.join(shown)}{prepare:10.1f}{apply:8.2f}")
    setup.destroy()


def trained(setup, stages):
    """(stage, θ) after each number of iterations."""
    from petsc4py import PETSc

    from pescitrain.solvers.outcome import GaussNewtonSettings
    from pescitrain.solvers.tao import TaoSolver

    options = PETSc.Options()
    for key in ("tao_type", "tao_gatol", "tao_grtol", "tao_max_it"):
        if not options.hasName(key):
            options[key] = SIZE[key]
    layout = setup.system.layout
    solver = TaoSolver(setup.system, "", GaussNewtonSettings(), lambda _: False)
    theta = layout.vec_from(layout.parameters.values.numpy().copy())
    position, memory = 0, {}
    for stage in stages:
        if stage > position:
            _, memory = solver.run(theta, position, stage - position, memory)
            position = stage
        yield stage, layout.gather(theta).copy()
    solver.destroy()


def seconds_of(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(setup, line: Line, linearization, matrix, gradient, damping: float, chosen):
    """(iterations or None, seconds of the set-up, seconds of one application)."""
    from petsc4py import PETSc

    from pescitrain.algebra import Preconditioner, decompose

    layout = setup.system.layout
    mine = slice(layout.start, layout.stop)
    damped = matrix + damping * np.diag(matrix).mean() * np.eye(len(matrix))
    sizes = ((layout.local_size, layout.size),) * 2
    operator = PETSc.Mat().createDense(sizes, array=damped[mine].copy(), comm=layout.comm)
    operator.assemble()
    ksp = PETSc.KSP().create(layout.comm)
    ksp.setOperators(operator)
    ksp.setType("cg")
    ksp.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
    ksp.setTolerances(rtol=1e-6, atol=0.0, max_it=chosen.limit[0])
    prepare = apply = 0.0
    x, b = layout.create_vec(), layout.vec_from(-gradient)
    pre = None
    if line.type == "none":
        ksp.getPC().setType("none")
    else:
        prefix = "krylov_"
        options = PETSc.Options()
        for key in [key for key in options.getAll() if key.startswith(prefix)]:
            options.delValue(key)
        for key, value in {"pc_type": line.type, **line.options}.items():
            options[prefix + key] = value
        blocks = decompose(layout.layers, "layer", line.blocks, line.overlap)
        pre = Preconditioner(  # type: ignore[arg-type]
            layout,
            blocks,
            prefix,
            line.entries,
            damping,
            coarsening=line.coarsening,
            levels=chosen.levels[0],
            rows=line.rows,
            single=line.single,
            evaluator=setup.evaluator,
        )
        prepare = seconds_of(lambda: (pre.refresh(linearization), pre.pc.setUp(), pre.apply(b, x)))
        apply = median(seconds_of(lambda: pre.apply(b, x)) for _ in range(5))
        prepare -= apply
        pre.attach(ksp, operator)
    x.set(0.0)
    ksp.solve(b, x)
    iterations = ksp.getIterationNumber() if ksp.getConvergedReason() > 0 else None
    ksp.destroy()
    operator.destroy()
    if pre is not None:
        pre.destroy()
    return iterations, prepare, apply


if __name__ == "__main__":
    main()
