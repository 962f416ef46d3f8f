"""One peer of the benchmark peers.py on one problem: seconds, closures and errors as JSON on the last line.

    python examples/benchmarks/peer.py METHOD SECONDS [options of the command: -problem, -net_*, -sample_*, -seed, …]

All but ``deepxde*`` and ``scimba_eng`` minimise pescitrain's own objective, so that only the optimisers differ;
DeepXDE trains the same network on the same points by its own residual, scimba's natural gradient the same network by
its own residual on as many points, which it draws anew at every iteration. Points move as ``-sample_adapt`` says, after
iterations of the peer.
"""

# ruff: noqa: E402  (PETSc starts with the command line before anything imports it)
from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable

import petsc4py

METHOD, SECONDS = sys.argv[1], float(sys.argv[2])
petsc4py.init([sys.argv[0], *sys.argv[3:]])

import numpy as np
import torch
import torch._dynamo  # the first step of an optimiser of torch would load it while the clock runs
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.optimize import minimize
from torch import Tensor

from pescitrain.algebra.options import set_default
from pescitrain.run.build import Setup, build
from pescitrain.run.history import Clock
from pescitrain.run.loading import create_problem, problem_class
from pescitrain.run.options import ProblemOptions, Settings, read
from pescitrain.run.refreshes import create_refreshes

Array = NDArray[np.float64]

HISTORY = 50
"""Pairs of the limited-memory methods."""
ADAM_RATE, ADAM_STEPS = 1e-3, 2000
"""Of the warm-ups."""
ENG_DAMPING = 1e-9
"""Of scimba's natural gradient: on poisson2d 2.4e-6 after 25 s, 7.5e-6 with its default of 1e-6, nothing with 1e-12."""
NNCG_AFTER, NNCG_RANK, NNCG_DAMPING, NNCG_STEPS = 1000, 20, 1e-1, 200
"""Iterations of L-BFGS before DeepXDE's Newton method; its rank, damping, and steps of CG: on poisson2d 2.2e-4 after
90 s, with a damping of 1e-3 2.5e-4; with a rank of 60 its Nyström factor breaks down."""
BUNCH = 20
"""Iterations of torch's L-BFGS between looks at the error."""


class TimeIsUpError(Exception):
    """Raised in the midst of an optimiser."""


class Training:
    """The objective, the clock and the curve of one training."""

    def __init__(self, setup: Setup, settings: Settings) -> None:
        self.setup, self.evaluator = setup, setup.evaluator
        self.moving = create_refreshes(setup, settings).items
        self.interval = settings.sample_adapt_interval if self.moving else 10**9
        self.theta = torch.from_numpy(self.evaluator.parameters.values.numpy().copy()).requires_grad_()
        self.clock, self.round, self.closures = Clock(), 0, 0.0
        self.curve: dict[str, list[float]] = {"seconds": [], "closures": [], "errors": []}

    def objective_gradient(self, theta: Array) -> tuple[float, Array]:
        """φ and ∇φ (n,); ends the training where its time is up."""
        if self.clock.elapsed > SECONDS:
            raise TimeIsUpError
        value, gradient = self.evaluator.objective_gradient(theta)
        return value.objective, gradient.copy()

    def closure(self) -> Tensor:
        """As optimisers of torch want it."""
        value, gradient = self.objective_gradient(self.theta.detach().numpy())
        self.theta.grad = torch.from_numpy(gradient)
        return torch.tensor(value, dtype=torch.float64)

    def look(self, theta: Array) -> None:
        """Measure the error, at times that grow by 4 %; the clock stands still."""
        seconds, metric = self.clock.elapsed, self.setup.metric
        assert metric is not None
        if self.curve["seconds"] and seconds < 1.04 * self.curve["seconds"][-1] + 0.02:
            return
        with self.clock.paused():
            self.evaluator.parameters.values.numpy()[:] = theta
            closures = self.closures or self.evaluator.counters.closures
            row = {"seconds": seconds, "closures": closures, "errors": metric.evaluate().rel_l2}
            for name, number in row.items():
                self.curve[name].append(number)

    def move(self, theta: Array) -> None:
        """The points, where they move at all."""
        self.round += 1
        for points in self.moving:
            points.refresh(theta, self.round)

    def repeat(self, optimizer: torch.optim.Optimizer, iterations: int, bunch: int = 1) -> bool:
        """So many steps of an optimiser of torch; whether they moved the parameters."""
        start = self.theta.detach().clone()
        for _ in range(max(iterations // bunch, 1)):
            before = self.theta.detach().clone()
            optimizer.step(self.closure)  # type: ignore[arg-type]
            self.look(self.theta.detach().numpy())
            if torch.equal(before, self.theta):
                break
        return not torch.equal(start, self.theta)


def torch_lbfgs(training: Training) -> None:
    """torch.optim.LBFGS; its memory ends with the points."""
    alive = True
    while alive:
        optimizer = torch.optim.LBFGS(
            [training.theta],
            max_iter=BUNCH,
            max_eval=10**6,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )
        alive = training.repeat(optimizer, training.interval, BUNCH)
        training.move(training.theta.detach().numpy())


def adam_lbfgs(training: Training) -> None:
    """torch.optim.Adam, then torch.optim.LBFGS."""
    optimizer, left = torch.optim.Adam([training.theta], lr=ADAM_RATE), ADAM_STEPS
    while left > 0:
        training.repeat(optimizer, min(left, training.interval))
        left -= training.interval
        training.move(training.theta.detach().numpy())
    torch_lbfgs(training)


def scipy_lbfgsb(training: Training) -> None:
    """scipy.optimize.minimize(method="L-BFGS-B"); its memory ends with the points."""
    theta = training.theta.detach().numpy().copy()
    options = {"maxcor": HISTORY, "ftol": 0.0, "gtol": 0.0, "maxiter": training.interval, "maxfun": 10**9, "maxls": 50}
    while True:
        ended = minimize(
            training.objective_gradient, theta, jac=True, method="L-BFGS-B", options=options, callback=training.look
        )
        if np.array_equal(ended.x, theta):
            return
        theta = ended.x
        training.move(theta)


def scimba_ssbroyden(training: Training) -> None:
    """The self-scaled Broyden method of scimba; H goes on when the points move."""
    from scimba_torch.optimizers.ssbroyden import SSBroyden  # pyright: ignore[reportMissingImports]

    torch.set_default_dtype(torch.float64)
    optimizer = SSBroyden([training.theta], tolerance_grad=1e-300, method="ssbroyden")
    while training.repeat(optimizer, training.interval):
        training.move(training.theta.detach().numpy())


def scimba_eng(training: Training) -> None:
    """The energy natural gradient of scimba on its own residual of Poisson's equation, with its own random points."""
    torch.set_default_dtype(torch.float64)
    from scimba_torch.approximation_space.nn_space import NNxSpace  # pyright: ignore[reportMissingImports]
    from scimba_torch.domain.meshless_domain.domain_nd import HypercubeND  # pyright: ignore[reportMissingImports]
    from scimba_torch.integration.monte_carlo import (  # pyright: ignore[reportMissingImports]
        DomainSampler,
        TensorizedSampler,
    )
    from scimba_torch.integration.monte_carlo_parameters import (  # pyright: ignore[reportMissingImports]
        UniformParametricSampler,
    )
    from scimba_torch.neural_nets.coordinates_based_nets.mlp import GenericMLP  # pyright: ignore[reportMissingImports]
    from scimba_torch.numerical_solvers.elliptic_pde.pinns import (  # pyright: ignore[reportMissingImports]
        NaturalGradientPinnsElliptic,
    )
    from scimba_torch.physical_models.elliptic_pde.abstract_elliptic_pde import (  # pyright: ignore[reportMissingImports]
        StrongFormEllipticPDE,
    )

    setup, name = training.setup, read(ProblemOptions).problem
    ours = [layer for layer in setup.surrogate.modules() if isinstance(layer, torch.nn.Linear)]
    if name not in ("poisson2d", "poisson5d"):
        raise SystemExit(f"scimba_eng: its residual is written for poisson2d and poisson5d here, not for {name}")
    box, (interior, *boundary) = setup.problem.domain(), training.evaluator.samples
    assert box is not None

    def solution(x: Tensor) -> Tensor:
        waves = torch.pi * x
        return torch.sin(waves).prod(1, keepdim=True) if name == "poisson2d" else torch.cos(waves).sum(1, keepdim=True)

    class Poisson(StrongFormEllipticPDE):
        def __init__(self, space: object) -> None:
            super().__init__(space, linear=True, residual_size=1, bc_residual_size=1)

        def rhs(self, w, x, mu):
            return (2.0 if name == "poisson2d" else 1.0) * torch.pi**2 * solution(x.x)

        def operator(self, w, x, mu):
            u = w.get_components()
            slopes = self.grad(u, x)
            return -sum(list(self.grad(slope, x))[axis] for axis, slope in enumerate(slopes))

        def bc_rhs(self, w, x, n, mu):
            return solution(x.x)

        def bc_operator(self, w, x, n, mu):
            return w.get_components()

        def functional_operator_bc(self, func, x, n, mu, theta):
            return func(x, mu, theta)

        def functional_operator(self, func, x, mu, theta):
            hessian = torch.func.jacrev(torch.func.jacrev(func, 0), 0)(x, mu, theta)
            return -torch.diagonal(hessian, dim1=-2, dim2=-1).sum(-1)

    domain = HypercubeND(list(zip(box.lower, box.upper, strict=True)), is_main_domain=True)
    sampler = TensorizedSampler([DomainSampler(domain), UniformParametricSampler([])])
    sizes = [layer.out_features for layer in ours[:-1]]
    space = NNxSpace(1, 0, GenericMLP, domain, sampler, layer_sizes=sizes, last_layer_has_bias=True)
    theirs = [layer for layer in space.modules() if isinstance(layer, torch.nn.Linear)]
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in (box.lower, box.upper))
    center, scale = 0.5 * (low + high), 2.0 / (high - low)  # of our input, which lies in [-1, 1]
    with torch.no_grad():
        for own, other in zip(ours, theirs, strict=True):
            other.load_state_dict(own.state_dict())
        theirs[0].weight *= scale
        theirs[0].bias -= theirs[0].weight @ center
    weight = boundary[0].term.weight / interior.term.weight
    solver = NaturalGradientPinnsElliptic(
        Poisson(space), bc_type="weak", bc_weight=weight, one_loss_by_equation=False, matrix_regularization=ENG_DAMPING
    )
    counts = {"n_collocation": len(interior.points), "n_bc_collocation": sum(len(s.points) for s in boundary)}
    first = True
    while training.clock.elapsed < SECONDS:
        with contextlib.redirect_stdout(sys.stderr):
            solver.solve(epochs=BUNCH, first_call=first, silent=True, **counts)
        first, training.closures = False, training.closures + BUNCH
        with torch.no_grad():
            for own, other in zip(ours, theirs, strict=True):
                own.load_state_dict(other.state_dict())
            ours[0].bias += ours[0].weight @ center
            ours[0].weight /= scale
        training.look(training.evaluator.parameters.current())


def deepxde(training: Training) -> None:
    """DeepXDE: Adam, then L-BFGS, on its own residual of the same equation, network, points and weights."""
    _deepxde(training, newton=False)


def deepxde_nncg(training: Training) -> None:
    """DeepXDE: Adam, L-BFGS, then its Nyström-preconditioned Newton-CG, which is made to follow the two."""
    _deepxde(training, newton=True)


def _deepxde(training: Training, newton: bool) -> None:
    import deepxde as dde  # pyright: ignore[reportMissingImports]

    setup, problem, name = training.setup, training.setup.problem, read(ProblemOptions).problem
    surrogate, samples = setup.surrogate, training.evaluator.samples
    interior, *boundary = samples
    dde.config.set_default_float("float64")

    class Net(dde.nn.NN):
        def __init__(self) -> None:
            super().__init__()
            self.surrogate = surrogate

        def forward(self, x: Tensor) -> Tensor:
            return self.surrogate(x)

    def first(u: Tensor, x: Tensor, axis: int) -> Tensor:
        return dde.grad.jacobian(u, x, i=0, j=axis)

    def second(u: Tensor, x: Tensor, axis: int) -> Tensor:
        return dde.grad.hessian(u, x, i=axis, j=axis)

    def residual(x: Tensor, u: Tensor) -> Tensor:
        if training.clock.elapsed > SECONDS:
            raise TimeIsUpError
        training.closures += 1.0
        return equations[name](x, u)

    def laplacian(u: Tensor, x: Tensor) -> Tensor:
        return torch.stack([second(u, x, axis) for axis in range(x.shape[1])]).sum(0)

    def poisson(x: Tensor, u: Tensor) -> Tensor:
        waves = torch.pi * x
        if name == "poisson2d":
            return -laplacian(u, x) - 2.0 * torch.pi**2 * torch.sin(waves).prod(1, keepdim=True)
        return -laplacian(u, x) - torch.pi**2 * torch.cos(waves).sum(1, keepdim=True)

    equations = {
        "burgers": lambda x, u: first(u, x, 1) + u * first(u, x, 0) - 0.01 / torch.pi * second(u, x, 0),
        "allen_cahn": lambda x, u: first(u, x, 1) - 1e-3 * second(u, x, 0) - 5.0 * (u - u**3),
        "poisson2d": poisson,
        "poisson5d": poisson,
    }
    if name not in equations:
        raise SystemExit(f"deepxde: its residual is written for {', '.join(equations)} here, not for {name}")
    assert problem.exact is not None
    conditions = [
        dde.icbc.PointSetBC(s.points.x, np.asarray(problem.exact(*s.points.x.T))[:, None])
        for s in boundary
        if len(s.points)
    ]
    box = problem.domain()
    data = dde.data.PDE(dde.geometry.Hypercube(box.lower, box.upper), residual, conditions, anchors=interior.points.x)
    model = dde.Model(data, Net())
    weights = [interior.term.weight, *(s.term.weight for s in boundary if len(s.points))]

    class Watch(dde.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.moved_at = 0

        def on_epoch_end(self) -> None:
            parameters = training.evaluator.parameters.values.numpy().copy()
            training.look(parameters)
            step = self.model.train_state.iteration
            if step - self.moved_at >= training.interval:
                self.moved_at = step
                training.move(parameters)
                self.model.data.replace_with_anchors(interior.points.x)

    quiet = {"display_every": 10**9, "callbacks": [Watch()], "verbose": 0}
    with contextlib.redirect_stdout(sys.stderr):
        model.compile("adam", lr=ADAM_RATE, loss_weights=weights, verbose=0)
        model.train(iterations=ADAM_STEPS, **quiet)
        dde.optimizers.set_LBFGS_options(maxcor=HISTORY, ftol=0, gtol=0, maxiter=10**9)
        per_step = dde.optimizers.config.LBFGS_options
        per_step["iter_per_step"], per_step["fun_per_step"] = 2 * BUNCH, 10**6
        model.compile("L-BFGS", loss_weights=weights, verbose=0)
        if not newton:
            model.train(**quiet)
            return
        dde.optimizers.set_LBFGS_options(maxcor=HISTORY, ftol=0, gtol=0, maxiter=NNCG_AFTER)
        per_step["iter_per_step"], per_step["fun_per_step"] = 2 * BUNCH, 10**6
        model.train(**quiet)
        dde.optimizers.set_NNCG_options(rank=NNCG_RANK, mu=NNCG_DAMPING, cgmaxiter=NNCG_STEPS)
        model.compile("NNCG", loss_weights=weights, verbose=0)
        model.train(iterations=10**9, **quiet)


METHODS: dict[str, Callable[[Training], None]] = {
    method.__name__: method
    for method in (torch_lbfgs, scipy_lbfgsb, adam_lbfgs, scimba_ssbroyden, scimba_eng, deepxde, deepxde_nncg)
}


PACKAGES = {
    "scimba_ssbroyden": "scimba_torch.optimizers.ssbroyden",
    "scimba_eng": "scimba_torch.numerical_solvers.elliptic_pde.pinns",
    "deepxde": "deepxde",
    "deepxde_nncg": "deepxde",
}
"""What a method loads, before the clock runs."""


def main() -> None:
    """Train until the time is up, or until the method moves no more."""
    set_default("options_left", False)  # options of other methods may be among the words
    kind = problem_class(read(ProblemOptions).problem)
    settings = read(Settings, defaults=kind.defaults)
    torch.set_num_threads(settings.torch_threads)
    training = Training(build(create_problem(kind), settings, PETSc.COMM_WORLD), settings)
    if METHOD in PACKAGES:
        os.environ["DDE_BACKEND"] = "pytorch"
        importlib.import_module(PACKAGES[METHOD])
    training.clock.start()
    training.look(training.theta.detach().numpy())
    with contextlib.suppress(TimeIsUpError):
        METHODS[METHOD](training)
    print(json.dumps(training.curve))


if __name__ == "__main__":
    main()
