"""What pescitrain raises: one base, one kind for each thing that a user can mend."""

from __future__ import annotations


class PescitrainError(Exception):
    """Base of every error of this package; its text says what is wrong, where, and what to do.

    Collective: whoever raises it raises it on all ranks of the communicator at hand.
    """


class OptionError(PescitrainError):
    """An option is unknown, has a wrong value, or excludes another."""


class MeshError(PescitrainError):
    """A mesh or field file cannot be read, or lacks what the problem asks of it."""


class ProblemError(PescitrainError):
    """A problem is ill-posed for the program: unknown names, wrong shapes, no terms."""


class SnapshotError(PescitrainError):
    """Snapshots that cannot be collected, written, read or used: a size, a number or a file is not what it must be."""


class RestartError(PescitrainError):
    """A checkpoint is missing, broken, or belongs to another run."""


class StateError(PescitrainError):
    """An object is used after what it was computed from has changed."""


class EvaluationError(PescitrainError):
    """A user's function failed on some rank while the residual was evaluated."""
