"""Levenberg–Marquardt with geodesic acceleration as a TAO type: ``-tao_type lm``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from petsc4py import PETSc
from scipy.linalg import LinAlgError

from pescitrain.algebra import ParameterLayout, Preconditioner, System
from pescitrain.algebra.cholesky import ShiftedCholesky
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.multifrontal import EliminationOrder, MultifrontalCholesky
from pescitrain.algebra.options import get_choice, get_string
from pescitrain.errors import EvaluationError, OptionError
from pescitrain.evaluation import Linearization
from pescitrain.networks.device import on_device, on_host
from pescitrain.solvers.krylov_step import KrylovSteps
from pescitrain.solvers.least_squares_step import LEAST_SQUARES, LeastSquaresSteps
from pescitrain.solvers.outcome import Array, Memory
from pescitrain.solvers.pair_hash import PairHash

Indices = NDArray[np.intp]


class Solve(Protocol):
    """c (m_local,), Jᵀ c if known -> (JᵀJ + λI)⁻¹ Jᵀ c on the free parameters, zero on the others. Collective."""

    def __call__(self, c: Array, image: Array | None = None) -> Array: ...


SKETCHES = ("auto", "none", "pairs")
SKETCH_FROM = 1000

SPACES = ("auto", "parameters", "samples", "sparse", "krylov")


class LevenbergMarquardt:
    """Damped Gauss–Newton steps, with the curvature of the residual taken into account.

    One iteration linearizes once and factors A + λI, A = JᵀJ, or in sample space K + λI, K = J Jᵀ, where there are
    fewer residuals than parameters, without the columns of J where layers are wide; or it solves with A + λI by a
    preconditioned Krylov method. The step is s + ½a with
    s = −(A + λI)⁻¹ Jᵀr and the geodesic acceleration a = −(A + λI)⁻¹ Jᵀ r_ss,
    r_ss ≈ (2/h) ((r(θ + h s) − r)/h − J s) (Transtrum & Sethna, arXiv:1201.5885).
    λ follows the ratio ρ of measured to predicted reduction (Nielsen, IMM-REP-1999-05). The rows of J are distributed
    over ranks; the factorisation is the same on all of them. Bounds are kept by projection, with the parameters held
    at a bound left out of the system. At every trial the parameters in which the residual is linear are solved for:
    the output layer of the branch of an operator (variable projection). Where a loss is not a square, A is the
    generalized Gauss–Newton matrix, and there is no acceleration.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_lm_damping 1e-2            λ of the first iteration, relative to the mean of the diagonal of A
    -tao_lm_geodesic true           the acceleration; in space krylov false unless given
    -tao_lm_geodesic_step 0.1       h
    -tao_lm_geodesic_ratio 0.75     trials with ‖a‖ above this part of ‖s‖ are refused
    -tao_lm_momentum 0              μ: the damping pulls the step towards μ times the last one, not towards zero
                                    (SPRING: Goldshlager, Abrahamsen & Lin, arXiv:2401.10190)
    -tao_lm_accept 1e-4             least ρ that is accepted
    -tao_lm_max_trials 40           in one iteration
    -tao_lm_space auto              parameters, samples, or the smaller of the two; parameters where there are bounds;
                                    sparse, by a multifrontal Cholesky, where networks in subdomains make that cheaper;
                                    krylov: products with J alone, with -pc_type and -ksp_rtol 0.1 -ksp_max_it 100,
                                    or as a least-squares problem by -ksp_type lsqr or cgls
    -tao_lm_project true            solve for what is linear
    -tao_lm_sketch auto             pairs: each iteration solves in a random subspace of half the dimension; none; auto:
                                    pairs from 1000 parameters on
    """

    def __init__(self) -> None:
        self.first_damping, self.growth = 1e-2, 2.0
        self.damping: float | None = None
        self.geodesic, self.geodesic_step, self.geodesic_ratio = True, 0.1, 0.75
        self.accept, self.max_trials, self.space = 1e-4, 40, "auto"
        self.momentum, self.sketch, self.iterations, self.projects = 0.0, "auto", 0, True
        self._system: System | None = None
        self._krylov: KrylovSteps | None = None
        self._known: _Linearized | None = None
        self._last: Array | None = None
        self._stuck = False
        self._order: EliminationOrder | None = None

    def create(self, tao: PETSc.TAO) -> None:
        """Its steps are accepted before TAO sees them."""
        tao.getLineSearch().setType("unit")

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_lm_*``.

        Raises
        ------
        OptionError
        """
        options, prefix = PETSc.Options(tao), tao.getOptionsPrefix() or ""
        self.first_damping = options.getReal("tao_lm_damping", self.first_damping)
        self.geodesic_step = options.getReal("tao_lm_geodesic_step", self.geodesic_step)
        self.geodesic_ratio = options.getReal("tao_lm_geodesic_ratio", self.geodesic_ratio)
        self.momentum = options.getReal("tao_lm_momentum", self.momentum)
        self.accept = options.getReal("tao_lm_accept", self.accept)
        self.max_trials = options.getInt("tao_lm_max_trials", self.max_trials)
        self.space = get_choice(f"{prefix}tao_lm_space", self.space, SPACES)
        self.geodesic = options.getBool("tao_lm_geodesic", self.space != "krylov")
        self.sketch = get_choice(f"{prefix}tao_lm_sketch", self.sketch, SKETCHES)
        self.projects = options.getBool("tao_lm_project", self.projects)
        for name, number in (
            ("damping", self.first_damping),
            ("geodesic_step", self.geodesic_step),
            ("geodesic_ratio", self.geodesic_ratio),
            ("max_trials", self.max_trials),
        ):
            if not number > 0:
                raise OptionError(f"-{prefix}tao_lm_{name} {number:g}: it must be above 0")
        if not 0 <= self.momentum < 1:
            raise OptionError(f"-{prefix}tao_lm_momentum {self.momentum:g}: it must be at least 0 and below 1")

    def connect(self, system: System) -> None:
        """The least-squares system behind φ, which TAO does not know."""
        self._system = system

    def connect_preconditioner(self, preconditioner: Preconditioner | None, lag: int, prefix: str) -> None:
        """What the Krylov method of ``-tao_lm_space krylov`` takes, and its options prefix. Collective."""
        if self.space == "krylov" and self._system is not None:
            if self._system.bounds is not None:
                raise OptionError(
                    f"-{prefix}tao_lm_space krylov cannot hold parameters at their bounds: use parameters"
                )
            slot = f"{prefix}tao_lm_"
            kind = LeastSquaresSteps if get_string(f"{slot}ksp_type") in LEAST_SQUARES else KrylovSteps
            self._krylov = kind(self._system, preconditioner, lag, slot)

    def destroy(self, _: PETSc.TAO) -> None:
        """Collective."""
        if self._krylov is not None:
            self._krylov.destroy()
            self._krylov = None
        if self._system is not None:
            self._system.see(None)

    def begin(self, x: PETSc.Vec) -> None:
        """φ and ∇φ where TAO starts, from the linearization that the first step needs anyhow. Collective.

        The sparse Krylov method needs nothing of θ that this rank does not see.
        """
        system = self._system
        if system is None:
            return
        theta, evaluator = system.gather(x).copy(), system.evaluator
        if self._krylov is not None and self._krylov.sparse and evaluator.comm.size > 1 and not self.momentum:
            first = evaluator.linearize(theta)
            value = evaluator.objective(theta)
            system.see(first.seen())
            theta = system.gather(x).copy()
            near = replace(first, theta=theta, neighbour_sums=evaluator.neighbour_sums)
            evaluator.learn(theta, value, self._keep(system, theta, near).gradient)
        else:
            gradient = self._linearize(system, theta).gradient
            evaluator.learn(theta, evaluator.objective(theta), gradient)

    def step(self, tao: PETSc.TAO, x: PETSc.Vec, _: PETSc.Vec, step: PETSc.Vec) -> None:
        """The accepted step of one iteration; λ and the linearization of the next. Collective."""
        if self._system is None:
            raise OptionError("-tao_type lm needs the residual of a pescitrain system; use it through pescitrain")
        system = self._system
        theta = system.gather(x).copy()
        here = self._linearize(system, theta)
        linearization, gradient = here.linearization, here.gradient
        free = _free(theta, gradient, system.bounds)
        if self._krylov is not None:
            self._krylov.move_to(linearization, self.iterations)
            factors = self._krylov
        else:
            factors = self._factors(system, linearization, free)
        self.iterations += 1
        value = system.evaluator.objective(theta)
        tiny = 1e-16 * np.sqrt(len(theta)) * factors.largest
        change = np.zeros_like(theta)
        kept = None if self._last is None or self.momentum == 0.0 else self.momentum * self._last
        damping = self.first_damping * factors.mean if self.damping is None else self.damping
        for _trial in range(self.max_trials):
            damping = max(damping, tiny)
            trial = self._trial(system, theta, here, factors, damping, kept)
            if trial is not None:
                moved, predicted = trial
                if self.projects:
                    moved = system.evaluator.project(theta + moved) - theta
                system.evaluator.residual(theta + moved)
                ratio = (value.objective - system.evaluator.objective(theta + moved).objective) / predicted
                if ratio > self.accept:
                    change = moved
                    damping *= max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
                    self.growth = 2.0
                    break
                if system.dot(moved, moved) <= np.finfo(float).eps ** 2 * system.dot(theta, theta):
                    break
            kept = None if kept is None else 0.5 * kept  # more damping alone would only pull the step towards it
            damping *= self.growth
            self.growth *= 2.0
        self.damping, self._stuck, self._last = damping, system.agree(not change.any()), change
        if not self._stuck:
            theta = theta + change
            value, gradient = system.evaluator.objective(theta), self._linearize(system, theta).gradient
        system.evaluator.learn(theta, value, gradient)
        system.layout.set(step, change)

    def postStep(self, tao: PETSc.TAO) -> None:
        """No damping gives a descent that double precision can see: the end."""
        if self._stuck:
            tao.setConvergedReason(PETSc.TAO.ConvergedReason.CONVERGED_STEPTOL)

    def _linearize(self, system: System, theta: Array) -> _Linearized:
        """The next step starts where this one ends: the last linearization is kept."""
        if self._known is None or not system.agree(np.array_equal(theta, self._known.theta)):
            return self._keep(system, theta, system.evaluator.linearize(theta))
        return self._known

    def _keep(self, system: System, theta: Array, linearization: Linearization) -> _Linearized:
        """Take this linearization, and its gradient. Collective."""
        gradient = linearization.transpose_times(linearization.residual)
        if not system.agree(bool(np.isfinite(gradient).all())):
            raise EvaluationError(
                "the Jacobian is not finite where the residual is: look for roots and absolute values in the "
                "residual, or use -tao_type blmvm"
            )
        self._known = _Linearized(theta, linearization, gradient)
        return self._known

    def _factors(self, system: System, linearization: Linearization, free: Indices | None) -> _Factors | _SparseFactors:
        """A + λI or K + λI of a linearization. Collective."""
        order = self._elimination_order(system)
        if order is not None:
            return _SparseFactors(linearization, order)
        return _Factors(linearization, free, self._in_samples(system), self._subspace(system, free))

    def _elimination_order(self, system: System) -> EliminationOrder | None:
        """The order of the sparse factorisation; None where it is not asked for, or costs more than a dense matrix."""
        if self.space not in ("auto", "sparse") or (self.space == "auto" and system.bounds is not None):
            return None
        if system.couplings is None or system.bounds is not None:
            if self.space == "sparse":
                raise OptionError(
                    "-tao_lm_space sparse is for -net_type subdomain without bounds on unknowns: use parameters"
                )
            return None
        if self._order is None:
            self._order = EliminationOrder(system.layout.layers, system.couplings.coupled)
        columns, rows = system.layout.size, system.evaluator.residual_count
        size = min(columns, rows)
        dense = size**3 / 3.0 + float(rows) * columns * size  # products for a sparse A take no more than those
        return self._order if self.space == "sparse" or self._order.flops < dense else None

    def _in_samples(self, system: System) -> bool:
        if self.space == "auto":
            return system.bounds is None and system.evaluator.residual_count < system.layout.size
        return self.space == "samples"

    def _subspace(self, system: System, free: Indices | None) -> PairHash | None:
        """The half of the parameter space in which this iteration solves, or None for all of it."""
        size = system.layout.size
        wanted = self.sketch == "pairs" or (self.sketch == "auto" and size >= SKETCH_FROM)
        if not wanted or free is not None or self._in_samples(system):
            return None
        return PairHash.draw(size, self.iterations)

    def _trial(
        self,
        system: System,
        theta: Array,
        here: _Linearized,
        factors: _Factors | _SparseFactors | KrylovSteps,
        damping: float,
        kept: Array | None,
    ) -> tuple[Array, float] | None:
        """A step and the reduction that the linear model predicts for it; None where this λ gives none.

        ``kept``: the part of the last step that the damping pulls towards, argmin ‖r + J s‖² + λ ‖s − kept‖².
        """
        linearization, gradient = here.linearization, here.gradient
        try:
            solve = factors.factor(damping)
        except LinAlgError:
            return None
        if kept is None:
            velocity = -solve(linearization.residual, gradient)
        else:
            velocity = kept - solve(linearization.residual + linearization.times(kept))
        product = linearization.times(velocity)
        moved = velocity
        if self.geodesic and system.evaluator.quadratic:  # else rows at another point are not those of this J
            h = self.geodesic_step
            ahead = system.evaluator.residual(theta + h * velocity)
            if not np.isfinite(system.evaluator.objective(theta + h * velocity).objective):
                return None
            bend = (2.0 / h) * ((ahead - linearization.residual) / h - product)
            acceleration = -solve(bend)
            most = self.geodesic_ratio**2 * system.dot(velocity, velocity)
            if system.dot(acceleration, acceleration) >= most:
                return None
            moved = velocity + 0.5 * acceleration
        if system.bounds is not None:
            moved = np.clip(theta + moved, *system.bounds) - theta
            velocity = np.clip(theta + velocity, *system.bounds) - theta
            product = linearization.times(velocity)
        curvature = system.evaluator.comm.allreduce(float(product @ product))
        predicted = -system.dot(gradient, velocity) - 0.5 * curvature
        return (moved, predicted) if predicted > 0.0 else None

    def save(self, layout: ParameterLayout) -> Memory:
        """λ, its growth, and the number of iterations, which draws the subspaces."""
        if self.damping is None:
            return {}
        memory = {"damping": [np.array([self.damping, self.growth, float(self.iterations)])]}
        if self.momentum and self._last is not None:
            memory["last_step"] = [self._last]
        return memory

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`."""
        self.damping, self.growth, iterations = (float(number) for number in memory["damping"][0])
        self.iterations = int(iterations)
        self._last = next(iter(memory.get("last_step", [])), None)

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(
            f"  Levenberg-Marquardt: damping={self.first_damping:g} geodesic={self.geodesic} space={self.space} "
            f"sketch={self.sketch}\n"
        )


@dataclass(frozen=True)
class _Linearized:
    """A point (n,), J there, and Jᵀr (n,)."""

    theta: Array
    linearization: Linearization
    gradient: Array


class _Factors:
    """JᵀJ or J Jᵀ of one linearization, factored for one λ after another. Construction is collective."""

    def __init__(
        self, linearization: Linearization, free: Indices | None, in_samples: bool, subspace: PairHash | None
    ) -> None:
        self._linearization, self._in_samples, self._subspace = linearization, in_samples, subspace
        # Parameters held at a bound leave the system; the sample space has all columns in it and cannot leave them out.
        self._free = free
        if in_samples and free is not None:
            raise OptionError("-tao_lm_space samples cannot hold parameters at their bounds: use parameters")
        rows = linearization.comm.allreduce(linearization.rows)
        size = rows if in_samples else linearization.parameters.size // (1 if subspace is None else 2)
        require_room(
            size**2,
            f"-tao_type lm: the matrix of {size} {'residuals' if in_samples else 'parameters'}",
            "use -tao_lm_space krylov" if in_samples or rows > size else "use -tao_lm_space samples or krylov",
            linearization.comm,
        )
        if in_samples:
            matrix = linearization.sample_gram_matrix_on_device()
        elif subspace is not None:
            matrix = linearization.gauss_newton_matrix_on_device(subspace.restrict_rows)
        else:
            matrix = linearization.gauss_newton_matrix_on_device()
        if free is not None:
            matrix = matrix[on_device(free[:, None], matrix.device), on_device(free, matrix.device)]
        self._cholesky = ShiftedCholesky(matrix)
        diagonal, tiny = on_host(matrix.diagonal()), float(np.finfo(float).tiny)
        self.largest = max(float(diagonal.max(initial=0.0)), tiny)
        # J Jᵀ has the trace of JᵀJ.
        count = linearization.parameters.size if in_samples else max(1, len(diagonal))
        self.mean = max(float(diagonal.sum()) / count, tiny)

    def factor(self, damping: float) -> Solve:
        """Cholesky for this λ; raises LinAlgError where it breaks down."""
        cholesky_solve = self._cholesky.factor(damping)
        if self._in_samples:
            return lambda c, image=None: self._push_through(cholesky_solve, c)

        def solve(c: Array, image: Array | None = None) -> Array:
            b = self._linearization.transpose_times(c) if image is None else image
            if self._subspace is not None:
                return self._subspace.prolong(cholesky_solve(self._subspace.restrict(b)))
            free = slice(None) if self._free is None else self._free
            whole = np.zeros_like(b)
            whole[free] = cholesky_solve(b[free])
            return whole

        return solve

    def _push_through(self, cholesky_solve: Callable[[Array], Array], c: Array) -> Array:
        """(JᵀJ + λI)⁻¹ Jᵀ c = Jᵀ (J Jᵀ + λI)⁻¹ c. Collective."""
        parts = self._linearization.comm.allgather(c)
        begin = sum(len(part) for part in parts[: self._linearization.comm.rank])
        whole = cholesky_solve(np.concatenate(parts))
        return self._linearization.transpose_times(whole[begin : begin + len(c)])


class _SparseFactors:
    """The sparse JᵀJ of one linearization, factored for one λ after another. Construction is collective."""

    def __init__(self, linearization: Linearization, order: EliminationOrder) -> None:
        self._linearization = linearization
        require_room(
            order.entries,
            f"-tao_type lm: the sparse matrix of {linearization.parameters.size} parameters with its factor",
            "use -tao_lm_space krylov -pc_type two_level",
            linearization.comm,
        )
        self._cholesky = MultifrontalCholesky(linearization.gauss_newton_sparse(), order, linearization.comm)
        diagonal, tiny = self._cholesky.diagonal, float(np.finfo(float).tiny)
        self.largest, self.mean = max(float(diagonal.max()), tiny), max(float(diagonal.mean()), tiny)

    def factor(self, damping: float) -> Solve:
        """Cholesky for this λ; raises LinAlgError where it breaks down."""
        solve = self._cholesky.factor(damping)
        return lambda c, image=None: solve(self._linearization.transpose_times(c) if image is None else image)


def _free(theta: Array, gradient: Array, bounds: tuple[Array, Array] | None) -> Indices | None:
    """Indices of the parameters that a descent may move, or None for all of them."""
    if bounds is None:
        return None
    lower, upper = bounds
    held = ((theta <= lower) & (gradient > 0.0)) | ((theta >= upper) & (gradient < 0.0))
    return np.flatnonzero(~held) if held.any() else None
