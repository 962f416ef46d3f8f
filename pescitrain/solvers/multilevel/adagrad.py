"""AdaGrad on a hierarchy of networks, without the objective: ``-tao_type mladagrad``, and on one level ``adagrad``."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System
from pescitrain.algebra.hierarchy import Coarsening
from pescitrain.algebra.options import get_choice
from pescitrain.errors import OptionError
from pescitrain.solvers.adagrad_step import Bounds, adagrad_step, descent
from pescitrain.solvers.multilevel.levels import NetworkLevel, create_levels
from pescitrain.solvers.outcome import Array, Memory
from pescitrain.solvers.stochastic import Stochastic

WEIGHTS = ("restrict_squares", "square_of_sum", "max", "fresh")
"""Of a coarse parameter, from the sums of squares w² of its children: Pᵀ(w²), (Pᵀw)², the largest; or as at first."""


class MultilevelAdagrad(Stochastic):
    """Steps −α g / w, w² the sum of squares of all gradients, on every level of the hierarchy; φ plays no part.

    Between bounds, g is the projected gradient, and a coarse level keeps to those that let every prolonged step stay
    between them (Gratton, Kopaničáková & Toint, arXiv:2507.11513; the details are our own).

    An iteration is a step of the finest network, and every ``period`` of them the correction of the next coarser one:
    ``coarse_steps`` such steps from Πθ on h(y) = φ_c(y) + (Pᵀg − ∇φ_c(Πθ))ᵀy, whose gradient at Πθ is Pᵀg, recursively
    (Gratton, Kopaničáková & Toint, SIAM J. Optim. 33 (2023) 2772–2800; the details are our own). The networks are those
    of ``-hier_type`` and ``-hier_levels``.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_mladagrad_lr 0.1               α
    -tao_mladagrad_start 0.01           ς, what the sums of squares start from
    -tao_mladagrad_period 1             fine steps for each coarse correction
    -tao_mladagrad_coarse_steps 5       on each coarser level
    -tao_mladagrad_weights restrict_squares     how coarse sums of squares follow from fine ones; square_of_sum, max,
                                        fresh
    -tao_mladagrad_kappa 0              no correction where ‖Pᵀg‖ is below this part of ‖g‖
    -tao_mladagrad_coherent true        h with its linear term, not φ_c alone
    """

    name = "mladagrad"

    def __init__(self) -> None:
        self.learning_rate, self.start, self.kappa, self.coherent = 0.1, 0.01, 0.0, True
        self.period, self.coarse_steps, self.transfer = 1, 5, "restrict_squares"
        self.squares: Array | None = None
        self._system: System | None = None
        self._levels: list[NetworkLevel] = []

    def create(self, tao: PETSc.TAO) -> None:
        """It takes its step as it is."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_mladagrad_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), f"{tao.getOptionsPrefix() or ''}tao_{self.name}_"
        own = f"tao_{self.name}_"
        self.learning_rate = options.getReal(f"{own}lr", self.learning_rate)
        self.start = options.getReal(f"{own}start", self.start)
        for name, value in (("lr", self.learning_rate), ("start", self.start)):
            if not value > 0.0:
                raise OptionError(f"-{prefix}{name} {value:g}: it must be above 0")
        self._read_coarse(options, prefix)

    def _read_coarse(self, options: PETSc.Options, prefix: str) -> None:
        own = f"tao_{self.name}_"
        self.period = options.getInt(f"{own}period", self.period)
        self.coarse_steps = options.getInt(f"{own}coarse_steps", self.coarse_steps)
        self.kappa = options.getReal(f"{own}kappa", self.kappa)
        self.coherent = options.getBool(f"{own}coherent", self.coherent)
        self.transfer = get_choice(f"{prefix}weights", self.transfer, WEIGHTS)
        for name, value in (("period", self.period), ("coarse_steps", self.coarse_steps)):
            if value < 1:
                raise OptionError(f"-{prefix}{name} {value}: it must be 1 or more")

    def connect_hierarchy(self, system: System, coarsening: Coarsening, count: int) -> None:
        """The networks of ``-hier_type`` and ``-hier_levels``. Collective.

        Raises
        ------
        OptionError     as :func:`create_levels`
        """
        self._system = system
        self._levels = create_levels(system, coarsening, count)

    def step(self, _: PETSc.TAO, x: PETSc.Vec, gradient: PETSc.Vec, step: PETSc.Vec) -> None:
        """The step of the finest network and what the coarser ones add. Collective."""
        if self._system is None:
            raise OptionError(f"-tao_type {self.name} needs the networks of pescitrain; use it through pescitrain")
        layout = self._system.layout
        theta, g = layout.gather(x).copy(), layout.gather(gradient).copy()
        squares = np.full(len(theta), self.start) if self.squares is None else self.squares
        bounds = Bounds.of(self._system.bounds, len(theta))
        d = descent(theta, g, bounds)
        squares += d * d
        self.squares = squares
        change = adagrad_step(theta, d, squares, self.learning_rate, bounds)
        self.steps += 1
        if len(self._levels) > 1 and self.steps % self.period == 0:
            change += self._correction(0, theta + change, np.zeros_like(theta), squares, bounds)
        layout.set(step, change)
        self.next_batch()

    def _correction(self, level: int, theta: Array, linear: Array, squares: Array, bounds: Bounds) -> Array:
        """P(y − Πθ), with y from the next coarser network; ``linear`` is the gradient that h has beside φ's."""
        fine, coarse = self._levels[level], self._levels[level + 1]
        g = fine.gradient(theta) + linear
        d = descent(theta, g, bounds)
        squares += d * d
        restricted = fine.restrict(g)
        if np.linalg.norm(restricted) < self.kappa * np.linalg.norm(g):
            return np.zeros_like(theta)
        start = fine.project(theta)
        of_coarse = coarse.gradient(start)
        own = restricted - of_coarse if self.coherent else np.zeros_like(start)
        weights, y = self._coarse_squares(fine, squares), start
        inner = Bounds(
            start + fine.largest_child(bounds.lower - theta), start - fine.largest_child(theta - bounds.upper)
        )
        for number in range(self.coarse_steps):
            g = of_coarse + own if number == 0 else coarse.gradient(y) + own
            d = descent(y, g, inner)
            weights += d * d
            y = y + adagrad_step(y, d, weights, self.learning_rate, inner)
            if level + 2 < len(self._levels) and (number + 1) % self.period == 0:
                y = y + self._correction(level + 1, y, own, weights, inner)
        return fine.prolong(y - start)

    def _coarse_squares(self, fine: NetworkLevel, squares: Array) -> Array:
        if self.transfer == "restrict_squares":
            return fine.restrict(squares)
        if self.transfer == "square_of_sum":
            return fine.restrict(np.sqrt(squares)) ** 2
        if self.transfer == "max":
            return fine.largest_child(squares)
        return np.full(fine.coarse_size, self.start)

    def save(self, layout: ParameterLayout) -> Memory:
        """Sums of squares and the number of steps. Not collective."""
        if self.squares is None:
            return {}
        return {"squares": [self.squares.copy()], "steps": [np.array([float(self.steps)])]}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        self.squares, self.steps = memory["squares"][0].copy(), int(memory["steps"][0][0])

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  AdaGrad on {len(self._levels)} levels: lr={self.learning_rate:g} start={self.start:g}\n")


class Adagrad(MultilevelAdagrad):
    """Steps −α g / w, w² the sum of squares of all gradients (Duchi, Hazan & Singer, J. Mach. Learn. Res. 12 (2011)).

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_adagrad_lr 0.1, -tao_adagrad_start 0.01    α, and what the sums of squares start from
    """

    name = "adagrad"

    def _read_coarse(self, options: PETSc.Options, prefix: str) -> None:
        pass

    def connect_hierarchy(self, system: System, coarsening: Coarsening, count: int) -> None:
        """It has one level."""
        super().connect_hierarchy(system, coarsening, 1)
