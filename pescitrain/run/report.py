"""The run folder: summary.json, options.yaml, model, solution, pictures."""

from __future__ import annotations

import json
import math
import platform
import re
import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

import meshio
import mpi4py
import numpy
import petsc4py
import scipy
import torch
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.evaluation import Evaluator
from pescitrain.evaluation.metrics import Errors
from pescitrain.networks.device import describe
from pescitrain.problem import OperatorData
from pescitrain.run.build import Setup
from pescitrain.run.history import History
from pescitrain.run.model import save_model, save_weights
from pescitrain.run.options import Settings
from pescitrain.run.solution import compute_solution, write_vtu
from pescitrain.run.stages import StageResult


def versions() -> dict[str, str]:
    """What a result depends on."""
    return {
        "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
        "mpi": MPI.Get_library_version().split("\n")[0].strip("\x00 "),
        "python": platform.python_version(),
        **{m.__name__: m.__version__ for m in (petsc4py, mpi4py, torch, numpy, scipy, meshio)},
    }


def write_options(folder: Path, user: dict[str, str], settings: Settings) -> None:
    """``options.yaml``: our options with their values, PETSc's as given; running from it repeats the run."""
    values: dict[str, Any] = {}
    for name, value in asdict(settings).items():
        if value is None or value == () or name in ("out_dir", "ckpt_restart", "check_derivatives"):
            continue
        values[name] = ",".join(value) if isinstance(value, tuple) else value
    skipped = ("options_file", "ckpt_restart", "out_dir", "help", "check_derivatives", "options_left")
    values = {**values, **{key: value for key, value in user.items() if key not in skipped and key not in values}}
    lines = [f"{key}: {_yaml(value)}" for key, value in sorted(values.items())]
    (folder / "options.yaml").write_text("\n".join(lines) + "\n")


def _yaml(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if re.fullmatch(r"[\w./+:@,-]+", text) and ": " not in text else f"'{text}'"


def write_summary(
    folder: Path,
    setup: Setup,
    settings: Settings,
    results: list[StageResult],
    errors: Errors | None,
    test_errors: Errors | None,
    history: History,
    wall_s: float,
    setup_s: float,
    failure: str,
) -> dict[str, Any]:
    """``summary.json``; returns it on all ranks. Collective."""
    evaluator = setup.evaluator
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_mb = evaluator.comm.allreduce(peak_kb / 1024.0, MPI.MAX)
    last = results[-1] if results else None
    objective, terms = float(history.final[4]) if history.final else math.nan, _last_terms(history)
    if evaluator.batches is not None and history.final:
        objective, terms = _over_all_samples(evaluator)
    summary: dict[str, Any] = {
        "problem": settings.problem,
        "solver": last.solver if last else None,
        "pc": last.pc if last else None,
        "ranks": evaluator.comm.size,
        "device": describe(evaluator.parameters.device),
        "threads": torch.get_num_threads(),
        "parameters": evaluator.parameters.size,
        "residuals": evaluator.residual_count,
        "seed": settings.seed,
        "stages": [
            {"name": r.name, "solver": r.solver, "pc": r.pc, "reason": r.outcome.reason, "iterations": r.iterations}
            for r in results
        ],
        "converged_reason": last.outcome.reason if last else None,
        "iterations": sum(r.iterations for r in results),
        "objective": objective if math.isfinite(objective) else None,
        "rel_l2": errors.rel_l2 if errors and math.isfinite(errors.rel_l2) else None,
        "max_error": errors.maximum if errors and math.isfinite(errors.maximum) else None,
        "test_rel_l2": test_errors.rel_l2 if test_errors and math.isfinite(test_errors.rel_l2) else None,
        "unknowns": {name: float(p.detach()[0]) for name, p in evaluator.parameters.unknowns.items()},
        "terms": dict(zip(evaluator.term_names, terms, strict=False)),
        "wall_s": round(wall_s, 4),
        "setup_s": round(setup_s, 4),
        "torch_s": round(evaluator.arithmetic.seconds, 4),
        "evaluations": evaluator.counters.as_dict(),
        "closures": evaluator.counters.closures,
        "closures_depth": evaluator.counters.closures_depth,
        "peak_rss_mb": round(peak_mb, 1),
        "bc_enforce": settings.bc_enforce,
        "problem_parameters": {key: repr(value) for key, value in setup.problem.settings().items()},
        "failure": failure or None,
        "versions": versions(),
    }
    if evaluator.comm.rank == 0:
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _over_all_samples(evaluator: Evaluator) -> tuple[float, list[float]]:
    """φ and its terms at the parameters as they are, not those of a batch; charged to nobody. Collective."""
    assert evaluator.batches is not None
    number, before = evaluator.batches.number, evaluator.counters.objective
    evaluator.batches.show(None)
    value = evaluator.objective(evaluator.parameters.current())
    evaluator.batches.show(number)
    evaluator.counters.objective = before
    return value.objective, value.terms.tolist()


def _last_terms(history: History) -> list[float]:
    return [float(value) for value in history.final[7:]] if history.final else []


def write_results(
    folder: Path, setup: Setup, settings: Settings, history: History, functions: OperatorData | None
) -> list[str]:
    """Model, solution and pictures, by the rank that calls; returns sentences about what could not be written."""
    notices = []
    if not settings.out_model:
        save_weights(setup.surrogate, folder)
    elif reason := save_model(setup.surrogate, folder):
        notices.append(f"the network cannot be exported ({reason}); its weights are in weights.pt")
    solution = compute_solution(setup, functions)
    if solution.trouble:
        notices.append(solution.trouble)
    write_vtu(solution, folder / "solution.vtu")
    if settings.out_pictures:
        from pescitrain.run.pictures import draw_convergence, draw_solution  # Matplotlib, for those who want it

        name = settings.problem.rpartition("/")[2]
        metric = "error" if setup.metric is None else setup.metric.name
        draw_convergence(history.columns, history.rows, metric, name, folder / "convergence.png")
        draw_solution(solution, tuple(setup.problem.coordinates), name, folder / "solution.png")
    return notices
