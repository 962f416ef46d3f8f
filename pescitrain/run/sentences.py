"""The last line of a run: why it stopped, what it cost, how good the result is, what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pescitrain.solvers.outcome import Outcome

CONVERGED = {
    "CONVERGED_GATOL": "gradient norm below -tao_gatol",
    "CONVERGED_GRTOL": "gradient norm relative to the objective below -tao_grtol",
    "CONVERGED_GTTOL": "gradient norm relative to the first below -tao_gttol",
    "CONVERGED_STEPTOL": "step below -tao_steptol",
    "CONVERGED_MINF": "objective below -tao_fmin",
    "CONVERGED_FNORM_ABS": "gradient norm below -snes_atol",
    "CONVERGED_FNORM_RELATIVE": "gradient norm relative to the first below -snes_rtol",
    "CONVERGED_SNORM_RELATIVE": "step relative to the solution below -snes_stol",
}

REMEDY = {
    "DIVERGED_LS_FAILURE": "no decrease along the step: try -check_derivatives, a larger -gn_shift, or -tao_type bntr",
    "DIVERGED_LINE_SEARCH": "no decrease along the step: try -check_derivatives, -gn_shift 0.1 or -snes_type newtontr",
    "DIVERGED_MAXFCN": "the limit -tao_max_funcs of evaluations was reached: raise it",
    "DIVERGED_FUNCTION_COUNT": "the limit -snes_max_funcs of evaluations was reached: raise it",
    "DIVERGED_NAN": "the objective became infinite or NaN: try another -seed or -tao_type bntr",
    "DIVERGED_FUNCTION_NANORINF": "the gradient became infinite or NaN: try another -seed or -snes_type newtontr",
    "DIVERGED_LINEAR_SOLVE": "the inner Krylov solver failed: try -pc_type asm, a larger -gn_shift or -ksp_max_it",
    "DIVERGED_TR_REDUCTION": "the trust region shrank to nothing: precision may be exhausted, or try -tao_type blmvm",
    "DIVERGED_TR_DELTA": "the trust region shrank to nothing: precision may be exhausted, or try -tao_type blmvm",
    "DIVERGED_DTOL": "the gradient grew beyond -snes_divergence_tolerance: try -snes_type newtontr",
    "DIVERGED_INNER": "a solve on one of the networks failed: try other -fas_levels_* and -fas_coarse_* options",
    "DIVERGED_LOCAL_MIN": "a local minimum of the gradient norm: try -snes_type newtontr or another -seed",
}


def why_it_stopped(
    outcome: Outcome, stopped_by_time: bool, max_iterations: int, kind: str, decline: float | None
) -> str:
    """The first half of the sentence."""
    if stopped_by_time:
        falling = _falling(decline)
        return f"Used the time of -max_time as asked{falling}"
    if outcome.budget:
        remedy = f"; raise -{kind}_max_it to go on" if decline is not None and decline > 0.01 else ""
        return f"Used the budget of {counted(max_iterations, 'iteration')} as asked{_falling(decline)}{remedy}"
    if outcome.diverged:
        remedy = REMEDY.get(outcome.reason, "try another method, a larger -gn_shift, or -check_derivatives")
        return f"Stopped: {outcome.reason}: {remedy}"
    return f"Converged: {CONVERGED.get(outcome.reason, outcome.reason)}"


def interrupted(name: str, checkpoint: Path) -> str:
    """The first half of the sentence, where the signal of that name ended the run."""
    return f"Stopped by {name}; -ckpt_restart {checkpoint} goes on"


def stopped_early(metric: str, patience: int) -> str:
    """The first half of the sentence, where ``-data_patience`` ended the run."""
    return f"Stopped early as asked: the {metric} has not fallen in {patience} measurements"


def what_is_kept(iteration: int | None) -> str:
    """Between the halves: which parameters the run ends with, where they are not the last ones."""
    return "" if iteration is None else f"; the parameters of iteration {iteration}, the best, are kept"


def _falling(decline: float | None) -> str:
    if decline is None or decline <= 0.01:
        return ""
    return f"; the objective was still falling {100 * decline:.0f} % per 100 iterations"


def decline_per_hundred(rows: list[list[Any]]) -> float | None:
    """Relative fall of the objective over the last 100 iterations of the stage, or what there is of them."""
    stage = [float(row[4]) for row in rows if row[0] == rows[-1][0]] if rows else []
    if len(stage) < 11:
        return None
    span = min(100, len(stage) - 1)
    before, now = stage[-1 - span], stage[-1]
    return 1.0 - (now / before) ** (100.0 / span) if 0.0 < now < before else None


def counted(number: float, what: str) -> str:
    """ "1 block", "2 blocks"."""
    return f"{number:.10g} {what}{'' if number == 1 else 's'}"


def cost_and_quality(
    iterations: int,
    closures: float,
    seconds: float,
    objective: float,
    error: float | None,
    metric: str,
    test: float | None = None,
) -> str:
    """The second half; ``metric``: what the error is called; ``test``: the same on data that are looked at once."""
    quality = f"; {metric} {error:.1e}" if error is not None else ""
    quality += f", in the test {test:.1e}" if test is not None else ""
    passes = round(closures, 1)
    cost = f"{counted(iterations, 'iteration')}, {counted(passes, 'closure')}, {seconds:.0f} s"
    return f"{cost}; objective {objective:.3e}{quality}."
