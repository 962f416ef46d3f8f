"""What refreshes in a run, from the options: when it is due, and what a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import get_type_hints

import numpy as np

from pescitrain.errors import OptionError
from pescitrain.evaluation.attention import ResidualAttention
from pescitrain.evaluation.causality import CausalWeights
from pescitrain.evaluation.chunks import TermSamples
from pescitrain.evaluation.continuation import Continuation
from pescitrain.evaluation.refinement import ResidualRefinement
from pescitrain.evaluation.refresh import Refresh, Samples
from pescitrain.evaluation.resampling import FreshPoints, ResidualResampling
from pescitrain.evaluation.time_windows import TimeWindows
from pescitrain.geometry import Box, PointSet
from pescitrain.run.build import Setup
from pescitrain.run.checkpoint import State
from pescitrain.run.networks import bounding_box
from pescitrain.run.options import Settings
from pescitrain.run.sampling import numbers_by_name, samples_at_a_time, sampling_plan, term_weights


@dataclass(frozen=True)
class Refreshes:
    """Everything that refreshes, in the order in which one builds on the other: equations, points, weights."""

    samples: Samples
    items: Sequence[Refresh]

    def begin(self, state: State) -> None:
        """At the start of a run, or as its checkpoint left it. Collective."""
        if state.samples:
            for item in self.items:
                item.resume(state.rounds.get(item.name, 0))
            self._restore(state)
            return
        for item in self.items:
            item.begin(state.theta)
        self._keep(state)

    def next_in(self, state: State) -> int | None:
        """Iterations to the next refresh; 0 where one is due, None where none will be."""
        waits = [
            max(self._due_at(item, state) - state.iteration, 0) for item in self.items if self._active(item, state)
        ]
        return min(waits, default=None)

    def refresh(self, state: State) -> None:
        """Do what is due. Collective."""
        for item in self.items:
            if self._active(item, state) and self._due_at(item, state) <= state.iteration:
                state.rounds[item.name] = state.rounds.get(item.name, 0) + 1
                state.refreshed[item.name] = state.iteration
                item.refresh(state.theta, state.rounds[item.name])
        self._keep(state)

    def hasten(self, state: State) -> bool:
        """The method has converged: what leads to another objective is due now. Returns whether anything is."""
        waiting = self.unfinished(state)
        for item in waiting:
            state.refreshed[item.name] = state.iteration - item.interval
        return bool(waiting)

    def unfinished(self, state: State) -> list[Refresh]:
        """What has not come to its last round."""
        return [item for item in self.items if item.last_round is not None and self._active(item, state)]

    def notices(self) -> list[str]:
        """What whoever reads objectives should know."""
        return [
            f"the objective has weights of samples (-loss_sample_weights {item.name}), made anew every {item.interval} "
            "iterations; the error is without them"
            for item in self.items
            if isinstance(item, ResidualAttention | CausalWeights)
        ]

    def regrets(self, state: State) -> list[str]:
        """What the run has left undone."""
        return [
            f"the run ended in round {state.rounds.get(item.name, 0)} of {item.last_round} of -{item.name}, before the "
            "problem that was asked for: allow more iterations, or a shorter interval"
            for item in self.unfinished(state)
        ]

    @staticmethod
    def _active(item: Refresh, state: State) -> bool:
        return item.last_round is None or state.rounds.get(item.name, 0) < item.last_round

    @staticmethod
    def _due_at(item: Refresh, state: State) -> int:
        return state.refreshed.get(item.name, 0) + item.interval

    def _keep(self, state: State) -> None:
        """Points, their weights and the multipliers of all terms but data, for a checkpoint."""
        if self.items:
            state.measures = {f"{place}": samples.measure for place, samples in self._moving()}
            state.samples = {
                f"{place} {what}": array
                for place, samples in self._moving()
                for what, array in (
                    ("x", samples.points.x),
                    ("weights", samples.points.weights),
                    ("normals", samples.points.normals),
                    ("cells", samples.points.cells),
                    ("multipliers", samples.multipliers),
                )
                if array is not None
            }

    def _restore(self, state: State) -> None:
        for place, samples in self._moving():
            kept = {what: state.samples.get(f"{place} {what}") for what in ("normals", "cells", "multipliers")}
            normals, cells, multipliers = kept.values()
            points = PointSet(
                state.samples[f"{place} x"],
                state.samples[f"{place} weights"].ravel(),
                normals,
                None if cells is None else cells.ravel().astype(np.int64),
            )
            factors = None if multipliers is None else multipliers.ravel()
            self.samples.place_union(samples, [points], state.measures[f"{place}"], factors)

    def _moving(self) -> list[tuple[int, TermSamples]]:
        """The terms with points that are drawn, and their places."""
        everything = enumerate(self.samples.evaluator.samples)
        return [(place, samples) for place, samples in everything if samples.term.place != "points"]


def create_refreshes(setup: Setup, settings: Settings) -> Refreshes:
    """What ``-problem_continuation``, ``-sample_time_windows``, ``-sample_adapt`` and ``-loss_sample_weights`` ask for.

    Raises
    ------
    OptionError     a parameter or a time that the problem does not have, two that exclude each other
    """
    plan = sampling_plan(settings, not isinstance(setup.domain, Box))
    samples = Samples(setup.evaluator, setup.domain, plan, samples_at_a_time(settings), term_weights(settings))
    items: list[Refresh] = []
    for option in ("sample_adapt", "loss_sample_weights"):
        asked = getattr(settings, option)
        if asked != "none" and all(one.term.place == "points" for one in setup.evaluator.samples):
            raise OptionError(
                f"-{option} {asked}: problem {setup.problem.name} has data at given points and no equation"
            )
    if settings.problem_continuation:
        items.append(_continuation(samples, setup, settings))
    if settings.sample_time_windows > 1:
        items.append(_time_windows(samples, setup, settings))
    if settings.sample_adapt != "none":
        items.append(_moving_points(samples, settings))
    if settings.loss_sample_weights != "none":
        items.append(_sample_weights(samples, setup, settings))
    return Refreshes(samples, items)


def _continuation(samples: Samples, setup: Setup, settings: Settings) -> Refresh:
    types = get_type_hints(type(setup.problem))
    own = {name: float(value) for name, value in setup.problem.settings().items() if types[name] is float}
    first = numbers_by_name("problem_continuation", settings.problem_continuation)
    for name, value in first.items():
        if name not in own:
            near = get_close_matches(name, list(own), n=1)
            hint = f"; did you mean {near[0]}?" if near else f" (there are {', '.join(own)})" if own else ""
            raise OptionError(
                f"-problem_continuation {name}: problem {setup.problem.name} has no such parameter that is a real "
                f"number{hint}"
            )
        if not value * own[name] > 0.0:
            raise OptionError(
                f"-problem_continuation {name}={value:g}: geometric steps lead to {own[name]:g} only from a number of "
                "its sign that is not zero"
            )
    last = {name: own[name] for name in first}
    return Continuation(
        samples, settings.problem_continuation_interval, first, last, settings.problem_continuation_steps
    )


def _time_axis(setup: Setup, option: str) -> int:
    coordinates = list(setup.problem.coordinates)
    if "t" not in coordinates:
        raise OptionError(
            f"-{option} is for problems with a time t; problem {setup.problem.name} has the coordinates "
            f"{', '.join(coordinates)}"
        )
    return coordinates.index("t")


def _time_windows(samples: Samples, setup: Setup, settings: Settings) -> Refresh:
    axis = _time_axis(setup, "sample_time_windows")
    if not isinstance(setup.domain, Box):
        raise OptionError("-sample_time_windows needs a box; for a mesh use -loss_sample_weights causal")
    if settings.loss_sample_weights == "causal":
        raise OptionError("-sample_time_windows and -loss_sample_weights causal do the same: use one of them")
    return TimeWindows(samples, settings.sample_time_window_interval, axis, settings.sample_time_windows)


def _moving_points(samples: Samples, settings: Settings) -> Refresh:
    interval = settings.sample_adapt_interval
    if settings.sample_adapt == "rad":
        return ResidualResampling(samples, interval, settings.sample_adapt_power, settings.sample_adapt_uniform)
    if settings.sample_adapt == "fresh":
        return FreshPoints(samples, interval)
    most = max((equation.count for equation in samples.interior), default=0)
    limit = 2 * most if settings.sample_adapt_limit is None else settings.sample_adapt_limit
    if limit <= most:
        raise OptionError(
            f"-sample_adapt_limit {limit}: an equation has {most} points at the start; rar needs room for more"
        )
    return ResidualRefinement(samples, interval, settings.sample_adapt_add, limit)


def _sample_weights(samples: Samples, setup: Setup, settings: Settings) -> Refresh:
    interval = settings.sample_adapt_interval
    if settings.loss_sample_weights == "residual":
        if settings.sample_adapt in ("rad", "fresh"):
            raise OptionError(
                "-loss_sample_weights residual remembers points, which -sample_adapt "
                f"{settings.sample_adapt} replaces: use -sample_adapt none or rar"
            )
        if not 0.0 < settings.loss_residual_decay + settings.loss_residual_rate < float("inf"):
            raise OptionError("-loss_residual_decay and -loss_residual_rate: their sum must be above 0")
        return ResidualAttention(samples, interval, settings.loss_residual_decay, settings.loss_residual_rate)
    axis = _time_axis(setup, "loss_sample_weights causal")
    lower, upper = bounding_box(setup.problem, setup.domain)
    slices, tolerances = settings.loss_causal_slices, _tolerances(settings.loss_causal_tolerances)
    return CausalWeights(samples, interval, axis, lower[axis], upper[axis], slices, tolerances)


def _tolerances(words: Sequence[str]) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        values = ()
    rising = all(one < other for one, other in zip((0.0, *values), values, strict=False))
    if not values or not rising or not isfinite(values[-1]):
        raise OptionError(f"-loss_causal_tolerances {','.join(words)}: give numbers above 0 that rise, as 0.01,0.1,1")
    return values
