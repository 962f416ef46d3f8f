"""The points that the options ask for, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from pescitrain.errors import OptionError
from pescitrain.evaluation import SamplingPlan, sample_terms
from pescitrain.evaluation.chunks import TermSamples
from pescitrain.geometry import Box, Mesh, Sampling
from pescitrain.problem import (
    Problem,
    Surrogate,
)
from pescitrain.run.agreement import together
from pescitrain.run.options import Settings

Array = NDArray[np.float64]


def sample(
    problem: Problem, settings: Settings, domain: Box | Mesh, surrogate: Surrogate, comm: MPI.Intracomm
) -> list[TermSamples]:
    """The terms of a problem with the points that the options ask for. Collective.

    Raises
    ------
    OptionError, ProblemError, MeshError
    """
    plan = sampling_plan(settings, isinstance(domain, Mesh))
    chunk_size, weights = samples_at_a_time(settings), term_weights(settings)
    agreed = partial(together, comm, settings.problem)
    return sample_terms(problem, surrogate, domain, plan, comm, chunk_size, weights, agreed)


def samples_at_a_time(settings: Settings) -> int:
    """``-sample_chunk``, or what fits the cache of a core, or what fills a GPU."""
    return settings.sample_chunk or (1000 if settings.device == "cpu" else 16384)


def sampling_plan(settings: Settings, on_mesh: bool) -> SamplingPlan:
    """The points that ``-sample_*`` ask for."""
    kind = _kind(settings, on_mesh)
    if kind == "quadrature" and not on_mesh:
        raise OptionError(
            "-sample_type quadrature needs a mesh; for a box choose hammersley, sobol, halton, uniform, …"
        )
    if kind == "grid" and on_mesh:
        raise OptionError("-sample_type grid needs a box; for a mesh choose quadrature, sobol, halton, uniform, …")
    return SamplingPlan(
        Sampling(settings.sample_points, kind, settings.sample_order),
        Sampling(settings.sample_boundary_points, kind, settings.sample_boundary_order),
        settings.seed,
    )


def _kind(settings: Settings, on_mesh: bool) -> str:
    if settings.sample_type == "auto":
        return "quadrature" if on_mesh else "hammersley"
    return settings.sample_type


def idle_sample_options(settings: Settings, on_mesh: bool) -> list[str]:
    """A sentence for each number of points that is given where quadrature has its own, and the other way round."""
    defaults, kind = Settings(), _kind(settings, on_mesh)
    if kind == "quadrature":
        idle, other = ("sample_points", "sample_boundary_points"), "it is for points that are drawn, as of sobol"
    else:
        idle, other = ("sample_order", "sample_boundary_order"), "it is for quadrature on a mesh"
    return [
        f"-{name} has no effect with -sample_type {kind}; {other}"
        for name in idle
        if getattr(settings, name) != getattr(defaults, name)
    ]


def numbers_by_name(option: str, words: Sequence[str]) -> dict[str, float]:
    """The value of an option that gives numbers to names, ``a=1,b=2``.

    Raises
    ------
    OptionError
    """
    numbers = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            numbers[name.strip()] = float(text)
        except ValueError:
            raise OptionError(f"-{option} {word}: give a number to a name, as name=1.5") from None
    return numbers


def term_weights(settings: Settings) -> dict[str, float]:
    """What ``-loss_term_weights`` asks for, by label.

    Raises
    ------
    OptionError
    """
    weights = numbers_by_name("loss_term_weights", settings.loss_term_weights)
    for label, weight in weights.items():
        if not 0.0 <= weight < float("inf"):
            raise OptionError(f"-loss_term_weights {label}={weight:g}: a weight is a number of 0 or more")
    return weights
