"""Evolution problems solved in a time window that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pescitrain.evaluation.refresh import Array, Refresh
from pescitrain.evaluation.samples import sequence_of_points
from pescitrain.geometry import Box


@dataclass
class TimeWindows(Refresh):
    """In round s = 0, 1, … the equations hold for the first (s + 1)/count of the time, then for all of it.

    The interior points, as many as ever, lie in the window and are the plan's; initial conditions, boundary conditions
    and data keep theirs. One network for all windows: each starts from the parameters of the last (adaptive sampling in
    time, Wight & Zhao, Commun. Comput. Phys. 29 (2021) 930–954).
    """

    name: ClassVar[str] = "sample_time_windows"
    axis: int  # of time
    count: int

    @property
    def last_round(self) -> int:
        return self.count - 1

    def begin(self, theta: Array) -> None:
        self.refresh(theta, 0)

    def resume(self, round: int) -> None:
        """Where new points may lie."""
        whole = self.samples.whole
        assert isinstance(whole, Box)
        upper = list(whole.upper)
        if round < self.last_round:
            start = whole.lower[self.axis]
            upper[self.axis] = start + (upper[self.axis] - start) * (round + 1) / self.count
        self.samples.domain = Box(whole.coordinates, whole.lower, upper)

    def refresh(self, theta: Array, round: int) -> None:
        self.resume(round)
        for samples in self.samples.interior:
            self.samples.place(samples, sequence_of_points(samples.term, self.samples.domain, self.samples.plan))
