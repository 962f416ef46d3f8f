"""What an evaluation cost, counted and never derived from a log."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass
class Counters:
    """Numbers of evaluations since the start of a run, the same on all ranks.

    A closure is one pass over all points that yields φ, with or without ∇φ; partial passes count by the fraction of
    the points that they touched. Linearizations, J v and Jᵀ w are counted on their own.
    """

    objective: float = 0.0
    gradient: float = 0.0
    linearization: float = 0.0
    jvp: float = 0.0
    vjp: float = 0.0
    krylov: int = 0

    @property
    def closures(self) -> float:
        """Passes that yielded φ."""
        return self.objective + self.gradient

    def as_dict(self) -> dict[str, float]:
        """For summary.json; whole numbers as integers."""
        return {name: int(value) if value == int(value) else value for name, value in asdict(self).items()}

    def restore(self, saved: dict[str, float]) -> None:
        """Continue from the counts of a checkpoint."""
        for field in fields(self):
            setattr(self, field.name, saved[field.name])
