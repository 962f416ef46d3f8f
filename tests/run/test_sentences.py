"""The sentence that closes a run, where numbers are unusual."""

import pytest

from pescitrain.run.sentences import counted, decline_per_hundred, why_it_stopped
from pescitrain.solvers.outcome import Outcome


def rows(*objectives):
    return [["main", str(k), "0", "0", str(objective)] for k, objective in enumerate(objectives)]


def test_the_decline_is_that_of_a_hundred_iterations():
    assert decline_per_hundred(rows(*(0.5 ** (k / 100) for k in range(31)))) == pytest.approx(0.5, rel=1e-12)
    assert decline_per_hundred(rows(*(0.5 ** (k / 100) for k in range(301)))) == pytest.approx(0.5, rel=1e-12)


def test_what_does_not_fall_has_no_decline():
    assert decline_per_hundred([]) is None
    assert decline_per_hundred(rows(*[1.0] * 10)) is None
    assert decline_per_hundred(rows(*[1.0] * 20)) is None
    assert decline_per_hundred(rows(*[1.0] * 20, 9.7e182)) is None
    assert decline_per_hundred(rows(*[1.0] * 20, 0.0)) is None


@pytest.mark.parametrize(
    ("number", "text"), [(1, "1 block"), (0, "0 blocks"), (2.5, "2.5 blocks"), (1234567, "1234567 blocks")]
)
def test_things_are_counted(number, text):
    assert counted(number, "block") == text


def test_a_method_that_ends_without_a_reason_has_diverged():
    outcome = Outcome("CONTINUE_ITERATING", 3, budget=False)
    assert outcome.diverged
    assert why_it_stopped(outcome, False, 10, "tao", None).startswith("Stopped: CONTINUE_ITERATING: try another method")
