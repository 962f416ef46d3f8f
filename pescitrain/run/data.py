"""From ``-data_*`` to the samples of a problem: read, split by simulation, handed over."""

from __future__ import annotations

from mpi4py import MPI

from pescitrain.errors import OptionError
from pescitrain.problem import OperatorProblem, Problem
from pescitrain.problem.operator import OperatorSets
from pescitrain.run.options import Settings
from pescitrain.snapshots.collection import Snapshots


def hand_data(problem: Problem, settings: Settings, comm: MPI.Intracomm) -> str:
    """Give the samples of ``-data_file`` to the problem, if there is one; returns what the file had that is left out.

    Collective.

    Raises
    ------
    OptionError, SnapshotError, ProblemError        on all ranks, one sentence
    """
    if settings.data_file is None:
        for name in ("data_parameters", "data_coordinates", "data_field"):
            if getattr(settings, name) is not None:
                raise OptionError(f"-{name} {getattr(settings, name)}: it belongs to a -data_file; give one")
        return ""
    if not isinstance(problem, OperatorProblem):
        raise OptionError(f"-data_file {settings.data_file}: problem {problem.name} takes none; use -problem deeponet")
    fractions = _fractions(settings.data_split)
    snapshots = Snapshots.read(
        settings.data_file,
        comm,
        parameters=settings.data_parameters,
        coordinates=settings.data_coordinates,
        field=settings.data_field,
        recover=settings.data_recover,
    )
    training, validation, *rest = snapshots.split(fractions, settings.seed)
    test = rest[0].data() if rest else None
    problem.on_data(OperatorSets(training.data(), validation.data(), test, snapshots.field))
    return snapshots.notice


def _fractions(words: tuple[str, ...]) -> list[float]:
    told = f"-data_split {','.join(words)}"
    try:
        fractions = [float(word) for word in words]
    except ValueError:
        raise OptionError(f"{told}: give fractions, as 0.8,0.1,0.1") from None
    if len(fractions) not in (2, 3) or not (min(fractions) > 0.0 and sum(fractions) <= 1.0 + 1e-9):
        raise OptionError(
            f"{told}: give two or three positive fractions of at most 1 in all: to train on, to measure on, to test on"
        )
    return fractions
