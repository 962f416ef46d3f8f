"""One run of the command: options -> problem -> solver -> run folder."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra.options import get_string, set_default
from pescitrain.algebra.preconditioner import OWN_PC_TYPES
from pescitrain.errors import OptionError, PescitrainError
from pescitrain.geometry import Mesh
from pescitrain.problem import Problem
from pescitrain.run import checkpoint, report
from pescitrain.run.agreement import together
from pescitrain.run.build import Setup, build
from pescitrain.run.checkpoint import State
from pescitrain.run.checks import check_derivatives
from pescitrain.run.data import hand_data
from pescitrain.run.database import METHODS, check_names, fill_stages, find_bare_words, unused
from pescitrain.run.history import Clock, History, say
from pescitrain.run.interruption import Interruption
from pescitrain.run.loading import create_problem, parameters_of, problem_class
from pescitrain.run.nested import stage_names, translate_grid_sequence
from pescitrain.run.networks import idle_options
from pescitrain.run.options import ProblemOptions, Settings, StageOptions, help_text, read
from pescitrain.run.refreshes import create_refreshes
from pescitrain.run.sampling import idle_sample_options
from pescitrain.run.sentences import (
    cost_and_quality,
    counted,
    decline_per_hundred,
    interrupted,
    stopped_early,
    what_is_kept,
    why_it_stopped,
)
from pescitrain.run.solution import shown_functions
from pescitrain.run.stages import StageResult, Training, create_solver
from pescitrain.solvers.names import check_type

SUCCESS, FAILURE, SIGNALLED = 0, 1, 128
"""Exit codes; the number of a signal is added to the last, as shells do."""


def run(arguments: Sequence[str], start: float, comm: MPI.Intracomm) -> int:
    """Do what the options database says; returns the exit code. Collective over ``comm``.

    ``start``: when the program started (`time.perf_counter`), for ``setup_s``.

    Raises
    ------
    PescitrainError     on all ranks; what was computed until then is in the run folder
    """
    database = PETSc.Options()
    if not database.hasName("options_left"):
        set_default("options_left", False)  # unused options are told below, with the nearest name
    find_bare_words(arguments)
    translate_grid_sequence()
    stages = stage_names()
    name = read(ProblemOptions).problem
    with together(comm, name):
        kind = problem_class(name)
    check_names(stages, parameters_of(kind))
    user = dict(database.getAll())
    for kernel in ("vec_mdot_use_gemv", "vec_maxpy_use_gemv"):
        set_default(kernel, False)  # their rounding depends on where memory lies, so that a run would not repeat
    for key, value in kind.defaults.items():
        other_method = key in METHODS and any(method in user for method in METHODS)
        if key not in Settings.__dataclass_fields__ and not other_method:
            set_default(key, value)
    settings = read(Settings, defaults=kind.defaults)
    prefixes = [f"{stage}_" for stage in stages] or [""]
    for prefix in prefixes:
        if read(StageOptions, prefix).net_correction and prefix == prefixes[0]:
            raise OptionError(
                f"-{prefix}net_correction: the first stage has no network to correct; give it to a later one, as in "
                "-stages main,polish -polish_net_correction"
            )
        _check_types(prefix)
    copies = fill_stages(stages)
    torch.set_num_threads(settings.torch_threads)
    with together(comm, name):
        problem = create_problem(kind)
    petsc_comm = PETSc.Comm(comm)  # pyright: ignore[reportCallIssue]
    left_out = hand_data(problem, settings, comm)
    if database.hasName("help"):
        return _help(problem, settings, prefixes, petsc_comm)
    with PETSc.Log.Stage("Set-up"):
        setup = build(problem, settings, petsc_comm)
    if left_out:
        say(f"note: {left_out}")
    if settings.data_patience and setup.metric is None:
        raise OptionError(f"-data_patience {settings.data_patience}: problem {problem.name} has no error to watch")
    if settings.check_derivatives:
        return _check(setup, settings)
    return _train(setup, settings, user, copies, start)


def _check_types(prefix: str) -> None:
    """Refuse names of PETSc types that do not exist, and two methods for one stage, before any work."""
    if read(StageOptions, prefix).solver == "auto":
        for common in dict.fromkeys((prefix, "")):
            tao, snes = get_string(f"{common}tao_type"), get_string(f"{common}snes_type")
            if tao is not None and snes is not None:
                raise OptionError(
                    f"-{common}tao_type {tao} and -{common}snes_type {snes} are both given: leave out one, or "
                    f"choose by -{common}solver"
                )
    for solver in ("tao", "snes"):
        name = get_string(f"{prefix}{solver}_type", get_string(f"{solver}_type"))
        if name is not None:
            check_type("tao" if solver == "tao" else "snes", name, f"-{prefix}{solver}_type")
    known = {"pc_type": PETSc.PC.Type, "sub_pc_type": PETSc.PC.Type, "ksp_type": PETSc.KSP.Type}
    for option, types in known.items():
        names = sorted(value for key, value in vars(types).items() if key.isupper())
        if option == "pc_type":
            names = sorted([*names, *OWN_PC_TYPES])
        name = get_string(prefix + option, get_string(option))
        if name is not None and name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f" (there are {', '.join(names)})"
            raise OptionError(f"-{prefix}{option} {name}: PETSc has no such type{hint}")


def _help(problem: Problem, settings: Settings, prefixes: Sequence[str], comm: PETSc.Comm) -> int:
    """Our table, then PETSc's help for the objects which this run would build."""
    say(help_text())
    setup = build(problem, settings, comm)
    layout = setup.system.layout
    for prefix in prefixes:
        solver = create_solver(setup, prefix, read(StageOptions, prefix), lambda _: False)
        solver.run(layout.vec_from(layout.parameters.current()), 0, 0, {})
        solver.destroy()
    return SUCCESS


def _check(setup: Setup, settings: Settings) -> int:
    checks = check_derivatives(setup.evaluator, setup.evaluator.parameters.current(), settings.seed)
    say(f"derivatives of problem {settings.problem} at the starting point:")
    for check in checks:
        say(str(check))
    return SUCCESS if all(check.passed for check in checks) else FAILURE


def _train(setup: Setup, settings: Settings, user: dict[str, str], copies: dict[str, list[str]], start: float) -> int:
    layout, comm = setup.system.layout, setup.evaluator.comm
    state = State(layout.parameters.current())
    if settings.ckpt_restart is not None:
        mark = checkpoint.fingerprint(layout, setup.evaluator)
        state = checkpoint.load(Path(settings.ckpt_restart), layout, mark)
        setup.evaluator.counters.restore(state.counters)
    refreshes = create_refreshes(setup, settings)
    folder = _run_folder(settings, setup)
    clock, interruption = Clock(state.wall_s), Interruption()
    history = History(folder, setup, clock, settings.out_error_interval, settings.out_interval, state.history)
    setup_s = time.perf_counter() - start
    say(
        f"{settings.problem}: {counted(layout.size, 'parameter')} in {counted(len(setup.system.blocks), 'block')}, "
        f"{counted(setup.evaluator.residual_count, 'residual')}, {counted(comm.size, 'rank')}; "
        f"results in {folder}"
    )
    if comm.rank == 0:
        report.write_options(folder, user, settings)
    try:
        training = Training(setup, settings, state, history, clock, folder / "checkpoint", refreshes, interruption)
    except PescitrainError:
        history.close()
        raise
    idle = [*idle_options(settings), *idle_sample_options(settings, isinstance(setup.domain, Mesh))]
    for sentence in [*idle, *refreshes.notices()]:
        say(f"note: {sentence}")
    failure: PescitrainError | None = None
    results: list[StageResult] = []
    try:
        with interruption.watched():
            results = training.run()
    except PescitrainError as error:
        failure = error
    theta = training.state.theta if failure is None else training.setup.system.whole(training.last_good)
    summary = _write(training.setup, settings, folder, history, results, theta, failure, clock.elapsed, setup_s)
    if failure is not None:
        raise failure
    for sentence in training.refreshes.regrets(training.state):
        say(f"warning: {sentence}")
    for sentence in unused(list(user), copies):
        say(f"note: {sentence}")
    metric = training.setup.metric
    return _last_words(results, history, summary, settings, folder, "error" if metric is None else metric.name)


def _write(
    setup: Setup,
    settings: Settings,
    folder: Path,
    history: History,
    results: list[StageResult],
    theta: np.ndarray,
    failure: PescitrainError | None,
    wall_s: float,
    setup_s: float,
) -> dict:
    """The run folder for these parameters. Collective."""
    comm = setup.evaluator.comm
    setup.evaluator.parameters.put(theta)
    history.close()
    errors = setup.metric.evaluate() if setup.metric is not None else None
    test_errors = setup.test.evaluate() if setup.test is not None else None
    summary = report.write_summary(
        folder, setup, settings, results, errors, test_errors, history, wall_s, setup_s, str(failure) if failure else ""
    )
    notices, trouble, functions = [], "", shown_functions(setup)
    if comm.rank == 0:
        try:
            notices = report.write_results(folder, setup, settings, history, functions)
        except OSError as error:
            trouble = f"the results cannot be written to {folder}: {error}"
    notices, trouble = comm.bcast((notices, trouble))
    if trouble:
        raise OptionError(trouble)
    for sentence in notices:
        say(f"note: {sentence}")
    return summary


def _last_words(
    results: list[StageResult], history: History, summary: dict, settings: Settings, folder: Path, metric: str
) -> int:
    """The sentence that closes a run, and its exit code."""
    last = results[-1]
    method = last.solver.split(":")[0]
    if last.outcome.budget and last.outcome.iterations == 0 and settings.ckpt_restart:
        say(
            f"The checkpoint had used its {counted(last.max_iterations, 'iteration')}: raise -{method}_max_it to go on."
        )
        return SUCCESS
    first_half = why_it_stopped(
        last.outcome, last.stopped_by_time, last.max_iterations, method, decline_per_hundred(history.rows)
    )
    if last.stopped_early:
        first_half = stopped_early(metric, settings.data_patience)
    if last.interrupted_by:
        first_half = interrupted(signal.Signals(last.interrupted_by).name, folder / "checkpoint")
    first_half += what_is_kept(last.kept)
    objective = float("nan") if summary["objective"] is None else summary["objective"]
    second_half = cost_and_quality(
        summary["iterations"],
        summary["closures"],
        summary["wall_s"],
        objective,
        summary["rel_l2"],
        metric,
        summary["test_rel_l2"],
    )
    say(f"{first_half}. {second_half}")
    if last.interrupted_by:
        return SIGNALLED + last.interrupted_by
    asked = last.stopped_by_time or last.stopped_early
    return FAILURE if last.outcome.diverged and not asked else SUCCESS


def _run_folder(settings: Settings, setup: Setup) -> Path:
    """Make the run folder on rank 0; the same name on all ranks. Collective.

    Raises
    ------
    OptionError     it cannot be made
    """
    name, problem = "", ""
    comm = setup.evaluator.comm
    if comm.rank == 0:
        stem = Path(settings.problem.partition(":")[0]).stem
        name = settings.out_dir or f"runs/{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            Path(name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"-out_dir {name} cannot be made: {error.strerror}"
    name, problem = comm.bcast((name, problem))
    if problem:
        raise OptionError(problem)
    return Path(name)
