"""pescitrain inside a PETSc program: the loop and the TAO are the program's, network and preconditioner pescitrain's.

Diffusion–advection with layers of width μ = 0.01, reached by continuation: each μ starts from the last one's network.

    mpiexec -n 2 python examples/own_solver_script.py -tao_max_it 20 -sample_points 1000
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
import sys

import petsc4py

petsc4py.init(sys.argv)

from petsc4py import PETSc

from pescitrain.algebra import Preconditioner, System
from pescitrain.problems.diffusion_advection import DiffusionAdvection
from pescitrain.run.build import Setup, build
from pescitrain.run.options import Settings, read


def minimize(system: System, theta: PETSc.Vec) -> int:
    """A TAO solve from ``theta``, which is overwritten; returns its iterations. Collective."""
    preconditioner = Preconditioner(system.layout, system.blocks, prefix="", kind=None, damping=3e-2)
    tao = PETSc.TAO().create(theta.comm)
    tao.setType(PETSc.TAO.Type.BNTR)
    tao.setObjective(lambda _, x: system.objective(x))
    tao.setGradient(lambda _, x, g: system.gradient(x, g))
    tao.setObjectiveGradient(lambda _, x, g: system.objective_gradient(x, g))
    tao.setHessian(lambda _, x, *__: system.linearize(x, preconditioner), system.operator, preconditioner.matrix.mat)
    tao.setSolution(theta)
    tao.setFromOptions()
    tao.setUp()
    preconditioner.attach(tao.getKSP(), system.operator)
    tao.solve()
    iterations = tao.getIterationNumber()
    tao.destroy()
    preconditioner.destroy()
    return iterations


def relative_error(setup: Setup, theta: PETSc.Vec) -> float:
    """Of the network with these parameters. Collective."""
    setup.evaluator.parameters.values.numpy()[:] = setup.system.layout.gather(theta)
    return float("nan") if setup.metric is None else setup.metric.evaluate().rel_l2


def main() -> None:
    """Collective."""
    theta = None
    for mu in PETSc.Options().getRealArray("diffusions", [0.1, 0.03, 0.01]):
        setup = build(DiffusionAdvection(mu), read(Settings), PETSc.COMM_WORLD)
        if theta is None:
            theta = setup.system.layout.vec_from(setup.evaluator.parameters.values.numpy())
        iterations = minimize(setup.system, theta)
        error, closures = relative_error(setup, theta), setup.evaluator.counters.closures
        PETSc.Sys.Print(f"mu {mu:g}: {iterations} iterations, {closures:g} closures, relative error {error:.2e}")
        setup.destroy()


if __name__ == "__main__":
    main()
