"""What an evaluation cost, counted and never derived from a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields


@dataclass
class Counters:
    """Numbers of evaluations since the start of a run, the same on all ranks.

    A closure is one pass over all points that yields φ, with or without ∇φ; partial passes count by the fraction of
    the points that they touched, those of coarser networks by the fraction of the parameters. Linearizations, J v and
    Jᵀ w are counted on their own, likewise. ``overlapped``: closures that were spent beside others.
    """

    objective: float = 0.0
    gradient: float = 0.0
    linearization: float = 0.0
    jvp: float = 0.0
    vjp: float = 0.0
    krylov: int = 0
    overlapped: float = 0.0

    @property
    def closures(self) -> float:
        """Passes that yielded φ."""
        return self.objective + self.gradient

    @property
    def closures_depth(self) -> float:
        """Closures on the critical path: of what was done side by side, the longest."""
        return self.closures - self.overlapped

    def add(self, other: Counters) -> None:
        """What was spent elsewhere, one after the other."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def add_concurrent(self, others: Sequence[Counters]) -> None:
        """What was spent elsewhere, side by side."""
        for other in others:
            self.add(other)
        depths = [other.closures_depth for other in others]
        self.overlapped += sum(depths) - max(depths, default=0.0)

    def as_dict(self) -> dict[str, float]:
        """For summary.json; whole numbers as integers."""
        return {name: int(value) if value == int(value) else value for name, value in asdict(self).items()}

    def restore(self, saved: dict[str, float]) -> None:
        """Continue from the counts of a checkpoint."""
        for field in fields(self):
            setattr(self, field.name, saved[field.name])
