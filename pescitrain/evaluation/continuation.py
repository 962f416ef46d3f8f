"""A parameter of the equations that goes from an easy value to the wanted one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pescitrain.evaluation.refresh import Array, Refresh
from pescitrain.evaluation.samples import weighted_terms


@dataclass
class Continuation(Refresh):
    """Parameters of the problem in ``steps`` geometric steps from ``first`` to ``last``, one a round, then ``last``.

    The problem gets the values as attributes and makes what follows from them in ``__post_init__``; its terms and its
    lifting are asked for again.
    """

    name: ClassVar[str] = "problem_continuation"
    first: Mapping[str, float]
    last: Mapping[str, float]
    steps: int

    @property
    def last_round(self) -> int:
        return self.steps

    def values(self, round: int) -> dict[str, float]:
        """The parameters of a round; exactly ``last`` at the end."""
        if round >= self.steps:
            return dict(self.last)
        part = round / self.steps
        return {name: first * (self.last[name] / first) ** part for name, first in self.first.items()}

    def begin(self, theta: Array) -> None:
        self.refresh(theta, 0)

    def resume(self, round: int) -> None:
        """Set the parameters; what is constant on the samples follows."""
        evaluator = self.samples.evaluator
        problem, surrogate = evaluator.problem, evaluator.surrogate
        for name, value in self.values(round).items():
            setattr(problem, name, value)
        getattr(problem, "__post_init__", lambda: None)()  # of a dataclass: what follows from its fields
        lifting = problem.lifting()
        if lifting is not None:
            surrogate.change_lifting(lifting)
        terms = {term.label: term for term in weighted_terms(problem, self.samples.weights)}
        for samples in evaluator.samples:
            samples.term = terms.get(samples.term.label, samples.term)
            self.samples.refill(samples)

    def refresh(self, theta: Array, round: int) -> None:
        self.resume(round)
