"""Training inside a program that has started PETSc: the Python door."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from petsc4py import PETSc

from pescitrain.coupling.guest_options import Given, check_guest_names, guest_options
from pescitrain.errors import OptionError
from pescitrain.networks.device import evaluate
from pescitrain.problem import OperatorSurrogate, Problem, Surrogate
from pescitrain.run.build import Setup, build
from pescitrain.run.checkpoint import State
from pescitrain.run.metric import error_metric
from pescitrain.run.model import export_basis, export_model
from pescitrain.run.options import Settings, StageOptions, read
from pescitrain.run.refreshes import create_refreshes
from pescitrain.run.sampling import sample
from pescitrain.run.stages import cause_of, create_solver
from pescitrain.solvers.outcome import Iterate, Memory

Array = NDArray[np.float64]
Watch = Callable[[Iterate], object]


@dataclass(frozen=True)
class Result:
    """How a solve ended.

    Attributes
    ----------
    reason : str            PETSc's name of the reason, CONVERGED_… or DIVERGED_…; DIVERGED_MAXITS: the budget is used
    converged : bool        no trouble: a test was met, or the budget used as asked
    iterations : int        of this solve
    objective : float
    error : float or None   on what was not trained on, where there is such data or an exact solution
    closures : float        passes over all points, of this solve
    seconds : float         of this solve
    notes : tuple of str    what whoever reads the result should know
    """

    reason: str
    converged: bool
    iterations: int
    objective: float
    error: float | None
    closures: float
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        error = "" if self.error is None else f", error {self.error:.2e}"
        return (
            f"{self.reason}: {self.iterations} iterations, {self.closures:g} closures, {self.seconds:.1f} s, "
            f"objective {self.objective:.3e}{error}"
        )


class Solver:
    """Trains the networks of a problem in a program that has started PETSc.

    Options are those of the command, under ``options_prefix``: what stands on the program's command line comes before
    ``options``, and these before the defaults. They are in PETSc's database only while the solver works.

    Parameters
    ----------
    problem : Problem           with its terms; data of snapshots by :class:`~pescitrain.SnapshotProblem`
    options : mapping           as {"tao_type": "lm", "pc_type": "asm", "sub": {"pc_type": "lu"}}
    comm : Comm                 of PETSc; None: that of the world. Construction is collective.
    options_prefix : str        two solvers with one prefix share their options on purpose
    monitor : callable          called with every :class:`Iterate`; what it returns stops the solve where it is true

    Raises
    ------
    PescitrainError             on all ranks, one sentence; the host goes on
    """

    def __init__(
        self,
        problem: Problem,
        options: Given | None = None,
        *,
        comm: PETSc.Comm | None = None,
        options_prefix: str = "pescitrain_",
        monitor: Watch | None = None,
    ) -> None:
        self.prefix, self._given, self._monitor = options_prefix, dict(options or {}), monitor
        if not options_prefix:
            raise OptionError("Solver: options_prefix needs a word, as the bare names are those of the program")
        with self._options(problem):
            check_guest_names(self.prefix)
            defaults = dict(problem.defaults)
            self._settings = replace(read(Settings, self.prefix, defaults, bare=False), problem=_source(problem))
            self._setup = build(problem, self._settings, comm or PETSc.COMM_WORLD)
        self._theta: Array = self._setup.evaluator.parameters.current()
        self._memory: Memory = {}
        self._moved = False

    def _options(self, problem: Problem) -> AbstractContextManager[None]:
        given = {**self._given}
        for key, value in problem.defaults.items():
            if key not in Settings.__dataclass_fields__:
                given.setdefault(key, value)
        return guest_options(self.prefix, given)

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Inside, torch has the threads of ``torch_threads``: one a rank, unless the options say more."""
        of_the_host = torch.get_num_threads()
        torch.set_num_threads(self._settings.torch_threads)
        try:
            yield
        finally:
            torch.set_num_threads(of_the_host)

    @property
    def setup(self) -> Setup:
        """Problem, networks and the system that PETSc solves; for more than this class offers."""
        return self._setup

    @property
    def theta(self) -> Array:
        """The parameters (n,), the same on all ranks."""
        return self._theta

    @theta.setter
    def theta(self, values: ArrayLike) -> None:
        """Go on from other parameters, the same on all ranks, with nothing remembered. Not collective."""
        theta = np.array(values, dtype=np.float64)
        if theta.shape != self._theta.shape:
            raise OptionError(f"Solver.theta: shape {theta.shape}, this network has {self._theta.shape}")
        self._theta, self._memory = theta, {}

    @property
    def surrogate(self) -> Surrogate:
        """The network as a torch module with these parameters, on all ranks. Not collective."""
        self._setup.evaluator.parameters.put(self._theta)
        return self._setup.surrogate

    def __call__(self, *arguments: ArrayLike) -> Array:
        """The network at points, (N, d) -> (N, k), or of an operator (N, s), (K, d) -> (N, K). Not collective."""
        with self._threads():
            return evaluate(self.surrogate, *(np.asarray(argument, dtype=np.float64) for argument in arguments))

    def solve(self) -> Result:
        """Go on from the present parameters, for as many iterations as the options say. Collective.

        The method goes on with what it remembers of the last solve, as far as that holds after :meth:`update`.

        Raises
        ------
        PescitrainError     the parameters are those of the last good iterate
        """
        with self._options(self._setup.problem), self._threads(), PETSc.Log.Stage("pescitrain"):
            return self._solve(read(StageOptions, self.prefix, dict(self._setup.problem.defaults), bare=False))

    def _solve(self, options: StageOptions) -> Result:
        evaluator, layout = self._setup.evaluator, self._setup.system.layout
        start, closures = time.perf_counter(), evaluator.counters.closures
        state = State(self._theta, memory=self._memory)
        refreshes = create_refreshes(self._setup, self._settings)
        refreshes.begin(state)
        stopped, reported = False, -1

        def watch(iterate: Iterate) -> bool:
            nonlocal stopped, reported
            self._theta = iterate.whole()
            stop = 0.0 < options.max_time <= time.perf_counter() - start
            if iterate.iteration > reported and self._monitor is not None:  # a segment reports its start again
                stop = bool(self._monitor(replace(iterate, theta=self._theta))) or stop
            reported = iterate.iteration
            stopped = evaluator.comm.bcast(stop)
            return stopped

        try:
            method = create_solver(self._setup, self.prefix, options, watch)
        except PETSc.Error as error:
            raise cause_of(error, self.prefix) from error
        theta = layout.vec_from(self._theta)
        try:
            value, _ = evaluator.objective_gradient(self._theta)
            if not np.isfinite(value.objective):
                raise OptionError("the objective is not finite at the start: look for NaN in the data or the residual")
            if self._moved:
                state.memory = method.points_moved(state.memory)
                self._moved = False
            while True:
                if refreshes.next_in(state) == 0:
                    refreshes.refresh(state)
                    evaluator.forget()
                    self._setup.system.gauss_newton.forget()
                    state.memory = method.points_moved(state.memory)
                segment = refreshes.next_in(state) or np.iinfo(np.int32).max
                outcome, state.memory = method.run(theta, state.iteration, segment, state.memory)
                state.iteration += outcome.iterations
                state.theta = self._theta = layout.gather(theta).copy()
                if stopped or not outcome.budget or state.iteration >= method.max_iterations:
                    break
            self._memory = state.memory
            spent = evaluator.counters.closures - closures
            objective = evaluator.objective(self._theta).objective
            seconds = time.perf_counter() - start
            return Result(
                outcome.reason,
                stopped or not outcome.diverged,
                state.iteration,
                objective,
                self.error(),
                spent,
                seconds,
                tuple(method.notices),
            )
        except PETSc.Error as error:
            raise cause_of(error, self.prefix) from error
        finally:
            theta.destroy()
            method.destroy()

    def update(self) -> None:
        """The problem has other data, or the host other coefficients: look at its terms again. Collective.

        Parameters stay, and of the method's memory what holds for another objective.

        Raises
        ------
        PescitrainError     the solver goes on with what it had
        """
        setup, settings = self._setup, self._settings
        evaluator = setup.evaluator
        evaluator.samples[:] = sample(setup.problem, settings, setup.domain, setup.surrogate, evaluator.comm)
        evaluator.forget()
        setup.system.gauss_newton.forget()
        setup.metric = error_metric(setup.problem, settings, setup.domain, setup.surrogate, evaluator.comm)
        self._moved = True

    def error(self) -> float | None:
        """Of the present network, relative, on what it was not trained on; None without such data. Collective."""
        if self._setup.metric is None:
            return None
        self._setup.evaluator.parameters.put(self._theta)
        return self._setup.metric.evaluate().rel_l2

    def save(self, path: str | Path) -> Path:
        """Write the network as ``model.pt2``, for :func:`~pescitrain.load_model`, or as ``model.onnx``. Collective.

        Raises
        ------
        OptionError     it cannot be written, torch cannot export the network, or there is no onnxscript
        """
        surrogate = self.surrogate
        return self._written(Path(path), lambda path: export_model(surrogate, surrogate.arguments, path))

    def save_basis(self, path: str | Path) -> Path:
        """Write the functions (K, d) -> (K, p) of an operator's trunk, for :class:`~pescitrain.NetworkPC`. Collective.

        Raises
        ------
        OptionError     as :meth:`save`, or the network is of no operator
        """
        surrogate = self.surrogate
        if not isinstance(surrogate, OperatorSurrogate):
            raise OptionError("Solver.save_basis: only an operator has a trunk; this problem has fields")
        return self._written(Path(path), lambda path: export_basis(surrogate, path))

    def _written(self, path: Path, export: Callable[[Path], str]) -> Path:
        comm, trouble = self._setup.evaluator.comm, ""
        if comm.rank == 0:
            trouble = export(path)
        trouble = comm.bcast(trouble)
        if trouble:
            raise OptionError(f"Solver: {path} cannot be written: {trouble}")
        return path

    def destroy(self) -> None:
        """Free what PETSc holds. Collective; numbers and networks stay."""
        self._setup.destroy()
        PETSc.garbage_cleanup(self._setup.system.layout.comm)

    def __enter__(self) -> Solver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.destroy()


def _source(problem: Problem) -> str:
    """Where a problem is written, as ``-problem`` would say: errors in it are told with their place."""
    kind = type(problem)
    return f"{inspect.getsourcefile(kind) or 'program.py'}:{kind.__name__}"
