"""The engine: J v + Jᵀ w of one linearization against torch.func and against the matrix products of this machine.

    python examples/benchmarks/linearization.py [--sizes 4x50,8x20,4x64] [--points 8192] [--chunks 250,500,1000,2000]
                                                [--functions 1000]

Burgers' equation with hard conditions. Both sides at their best chunk size; medians of CPU time, taken in turns in one
process of one thread. ``dgemm`` is the time that the flops of the two products, 4 · components · points · weights, take
at the rate of a product of two matrices of order 1024.

Then the operator of advection with so many input functions, 1600 locations and its own network: J v + Jᵀ w and JᵀJ v
against `torch.func` on the residual as a function of θ, w (B Tᵀ − s) of all pairs; and J v + Jᵀ w of a few functions
against `torch.func` on a row for each pair, branch and trunk evaluated at each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np
import torch
from petsc4py import PETSc
from runs import arguments

from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.jacobian import ChunkJacobian, FunctionalJacobian
from pescitrain.problem.operator import BRANCH, TRUNK
from pescitrain.problems import load
from pescitrain.problems.advection_operator import AdvectionOperator
from pescitrain.run.build import Setup, build
from pescitrain.run.options import Settings

REPEATS = 5
FEW = 20
"""Functions whose pairs have a row each."""


def seconds(*calls: Callable[[], object]) -> list[float]:
    """The median CPU time of each call; they take turns."""
    times: list[list[float]] = [[] for _ in calls]
    for repeat in range(REPEATS + 1):
        for call, spent in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            if repeat:  # the first round warms up
                spent.append(time.process_time() - start)
    return [median(spent) for spent in times]


def setup_of(size: str, points: int, chunk: int) -> Setup:
    """Burgers' equation for a network of a size such as 4x50."""
    depth, width = map(int, size.split("x"))
    settings = Settings(
        problem="burgers",
        bc_enforce="hard",
        net_depth=depth,
        net_width=width,
        sample_points=points,
        sample_chunk=chunk,
    )
    return build(load("burgers")(), settings, PETSc.COMM_SELF)


def functional(evaluator: Evaluator) -> list[ChunkJacobian]:
    """The same Jacobian by `torch.func`."""
    return [
        FunctionalJacobian(evaluator.residuals, samples, chunk, evaluator.parameters)
        for samples in evaluator.samples
        for chunk in samples.chunks
    ]


def products(evaluator: Evaluator, jacobians: Sequence[ChunkJacobian] | None = None) -> Callable[[], object]:
    """J v and Jᵀ w for random v and w."""
    linearization = evaluator.linearize(evaluator.parameters.values.numpy().copy())
    if jacobians is not None:
        linearization.chunks = list(jacobians)
    random = np.random.default_rng(0)
    v, w = random.standard_normal(evaluator.parameters.size), random.standard_normal(linearization.rows)

    def both() -> None:
        linearization.times(v)
        linearization.transpose_times(w)

    return both


def operator_row(functions: int) -> str:
    """Milliseconds of the products for operator data, and the quotients."""
    settings = Settings(problem="advection_operator", net_width=32, net_depth=5)
    problem = AdvectionOperator(samples=functions)
    setup = build(problem, settings, PETSc.COMM_SELF)
    evaluator, surrogate = setup.evaluator, setup.surrogate
    linearization = evaluator.linearize(evaluator.parameters.current())
    (samples,) = evaluator.samples
    random = np.random.default_rng(0)
    v, w = random.standard_normal(evaluator.parameters.size), random.standard_normal(linearization.rows)
    parameters = evaluator.parameters.entries
    values = {entry.name: entry.parameter.detach().clone() for entry in parameters}
    change = {e.name: torch.from_numpy(v)[e.start : e.stop].view(e.parameter.shape) for e in parameters}
    data = problem.training()
    inputs, locations, outputs = (torch.from_numpy(part) for part in (data.inputs, data.locations, data.values))
    scale = torch.cat([chunk.scale for chunk in samples.chunks]).unsqueeze(1)

    def residual(theta: dict[str, torch.Tensor]) -> torch.Tensor:
        named = {f"networks.{name}": value for name, value in theta.items()}
        return (scale * (torch.func.functional_call(surrogate, named, (inputs, locations)) - outputs)).flatten()

    def both() -> None:
        linearization.times(v)
        linearization.transpose_times(w)

    def flat(cotangent: torch.Tensor | None = None) -> None:
        forward = torch.func.jvp(residual, (values,), (change,))[1]
        torch.func.vjp(residual, values)[1](forward if cotangent is None else cotangent)

    def rows_of_pairs(theta: dict[str, torch.Tensor]) -> torch.Tensor:
        factors = []
        for name, points in (
            (BRANCH, inputs[:FEW].repeat_interleave(len(locations), 0)),
            (TRUNK, locations.repeat(min(FEW, functions), 1)),
        ):
            own = {key.removeprefix(f"{name}."): value for key, value in theta.items() if key.startswith(f"{name}.")}
            factors.append(torch.func.functional_call(surrogate.networks[name], own, (points,)))
        return surrogate.scale * (factors[0] * torch.tanh(factors[1])).sum(1)

    def pairs() -> None:
        torch.func.jvp(rows_of_pairs, (values,), (change,))
        torch.func.vjp(rows_of_pairs, values)[1](torch.from_numpy(w[: min(FEW, functions) * len(locations)]))

    ours, product, theirs, both_of_theirs = seconds(
        both, lambda: linearization.gauss_newton_times(v), lambda: flat(torch.from_numpy(w)), flat
    )
    (a_row_a_pair,) = seconds(pairs)
    setup.destroy()
    return (
        f"{functions:9d} {1e3 * ours:12.1f} {1e3 * theirs:12.1f} {theirs / ours:7.1f} "
        f"{1e3 * product:8.1f} {1e3 * both_of_theirs:12.1f} {both_of_theirs / product:7.1f} "
        f"{a_row_a_pair / ours * functions / min(FEW, functions):12.1f}"
    )


def rate_of_dgemm() -> float:
    """Flops a second."""
    order = 1024
    a, b = torch.rand(2, order, order, dtype=torch.float64)
    (spent,) = seconds(lambda: torch.mm(a, b))
    return 2.0 * order**3 / spent


def main() -> None:
    chosen, _ = arguments(
        __doc__, sizes=("4x50", "8x20", "4x64"), points=(8192,), chunks=(250, 500, 1000, 2000), functions=(1000,)
    )
    torch.set_num_threads(1)
    rate = rate_of_dgemm()
    print(f"dgemm {rate / 1e9:.1f} GFlop/s on one thread; milliseconds")
    print("network   points   linearize   J v + Jt w   torch.func   ratio   dgemm   share")
    for size in chosen.sizes:
        for points in chosen.points:
            rows = []
            for chunk in chosen.chunks:
                setup = setup_of(size, points, chunk)
                evaluator = setup.evaluator
                theta = evaluator.parameters.values.numpy().copy()
                rows.append(
                    seconds(
                        lambda evaluator=evaluator, theta=theta: evaluator.linearize(theta),
                        products(evaluator),
                        products(evaluator, functional(evaluator)),
                    )
                )
                flops = (
                    4.0
                    * points
                    * sum(
                        (len(samples.components)) * entry.parameter.numel()
                        for samples in evaluator.samples
                        for entry in evaluator.parameters.entries
                        if entry.parameter.ndim == 2
                    )
                )
                setup.destroy()
            linearize, ours, theirs = (min(column) for column in zip(*rows, strict=True))
            print(
                f"{size:8s} {points:7d} {1e3 * linearize:11.1f} {1e3 * ours:12.1f} {1e3 * theirs:12.1f} "
                f"{theirs / ours:7.1f} {1e3 * flops / rate:7.1f} {flops / rate / ours:7.2f}",
                flush=True,
            )
    print("functions   J v + Jt w   torch.func   ratio   Jt J v   torch.func   ratio   row a pair")
    for functions in chosen.functions:
        print(operator_row(functions), flush=True)


if __name__ == "__main__":
    main()
