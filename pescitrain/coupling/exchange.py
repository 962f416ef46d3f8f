"""Some ranks of a job simulate while others train: snapshots go one way, networks the other."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI
from torch import nn

from pescitrain.errors import OptionError
from pescitrain.run.model import load_model
from pescitrain.snapshots.collection import Snapshots

ROWS, MODEL = 1, 2
"""Tags."""

PAUSE = 1e-3
"""Seconds between looks for messages."""


@dataclass
class _Sent:
    """Messages on their way, with what they hold."""

    requests: list[MPI.Request] = field(default_factory=list)

    def add(self, request: MPI.Request) -> None:
        self.requests = [one for one in self.requests if not one.Test()]
        self.requests.append(request)

    def wait(self) -> None:
        MPI.Request.Waitall(self.requests)
        self.requests = []


class Exchange:
    """The two sides of a job. Construction is collective over ``world``.

    A side waits for the other only where it says so. Each simulating rank sends the rows that it has to one training
    rank, so that nothing is gathered.

    Parameters
    ----------
    world : MPI.Intracomm       all ranks
    training : int              how many of them, the last ones, train

    Attributes
    ----------
    trains : bool               whether this rank trains
    comm : MPI.Intracomm        the ranks of its side

    Raises
    ------
    OptionError                 a side without ranks
    """

    def __init__(self, world: MPI.Intracomm, training: int) -> None:
        if not 0 < training < world.size:
            raise OptionError(f"Exchange: {training} of {world.size} ranks cannot train: each side needs one")
        self._world = world.Dup()
        self._simulating = world.size - training
        self.trains = world.rank >= self._simulating
        self.comm = world.Split(int(self.trains), world.rank)
        partners = [self._simulating + rank * training // self._simulating for rank in range(self._simulating)]
        self._partner = None if self.trains else partners[world.rank]
        self._sources = [rank for rank, partner in enumerate(partners) if partner == world.rank]
        self._sent, self._done = _Sent(), 0
        self._open, self._ended = set(self._sources), False

    def share(self, snapshots: Snapshots | None) -> Snapshots:
        """The training side's snapshots, empty, of the locations that the simulating side's have. Collective on all.

        ``snapshots``: what the simulating side collects, which it gets back; None on the training side.
        """
        if snapshots is not None:
            self._world.send(
                (snapshots.parameters, snapshots.field, snapshots.locations), self._known_partner(), tag=ROWS
            )
            return snapshots
        parts = [self._world.recv(source=source, tag=ROWS) for source in self._sources]
        known = next(part for part in self.comm.allgather(parts[0] if parts else None) if part is not None)
        locations = [part[2] for part in parts] or [np.zeros((0, known[2].shape[1]))]
        return Snapshots(np.concatenate(locations), known[0], field=known[1], comm=self.comm)

    def send(self, snapshots: Snapshots) -> None:
        """Hand over what has been collected since the last time. Not collective; it does not wait."""
        rows = slice(self._done, len(snapshots))
        self._done = len(snapshots)
        message = (snapshots.inputs[rows], snapshots.values[rows])
        self._sent.add(self._world.isend(message, self._known_partner(), tag=ROWS))

    def finish(self) -> None:
        """The simulating side sends no more. Not collective."""
        self._sent.add(self._world.isend(None, self._known_partner(), tag=ROWS))

    def receive(self, snapshots: Snapshots, wait: bool = True) -> int:
        """Append what has come; returns how many snapshots, 0 where none have or all are done. Collective on training.

        ``wait``: for the next ones, if none have come and the simulations go on.
        """
        count = 0
        while not count and self.comm.allreduce(len(self._open)):
            ready = all(self._world.iprobe(source=source, tag=ROWS) for source in self._open)
            if not self.comm.allreduce(ready, MPI.LAND):  # a message is there on all ranks or is left for later
                if not wait:
                    return 0
                time.sleep(PAUSE)
                continue
            parts = {source: self._world.recv(source=source, tag=ROWS) for source in sorted(self._open)}
            self._open -= {source for source, part in parts.items() if part is None}
            own = [part for part in parts.values() if part is not None]
            count = self._append(snapshots, own)
        return count

    def _append(self, snapshots: Snapshots, parts: list[Any]) -> int:
        inputs = next(
            (i for i in self.comm.allgather(parts[0][0] if parts else None) if i is not None), np.zeros((0, 0))
        )
        for row, numbers in enumerate(inputs):
            values = [part[1][row] for part in parts]
            snapshots.append(numbers, np.concatenate(values) if values else np.zeros(0))
        return len(inputs)

    def publish(self, model: str | Path) -> None:
        """Send the file of a trained network, as :meth:`~pescitrain.Solver.save` wrote it, to the simulating side.

        Collective on training; it does not wait.
        """
        if self.comm.rank == 0:
            content = Path(model).read_bytes()
            for rank in range(self._simulating):
                self._sent.add(self._world.isend(content, rank, tag=MODEL))

    def latest(self, wait: bool = False) -> nn.Module | None:
        """The newest network that was published since the last time, or None. Collective on simulation.

        ``wait``: for the next one, if there is none.
        """
        source, come = self._simulating, []
        if wait and not self._ended:
            come.append(self._world.recv(source=source, tag=MODEL))
        while self._world.iprobe(source=source, tag=MODEL):
            come.append(self._world.recv(source=source, tag=MODEL))
        for _ in range(self.comm.allreduce(len(come), MPI.MAX) - len(come)):  # what others have is on its way
            come.append(self._world.recv(source=source, tag=MODEL))
        self._ended = self._ended or None in come
        networks = [content for content in come if content is not None]
        return load_model(io.BytesIO(networks[-1])) if networks else None

    def close(self) -> None:
        """Wait for what is on its way; networks that nobody has asked for are dropped. Collective on all."""
        if self.trains and self.comm.rank == 0:
            for rank in range(self._simulating):
                self._sent.add(self._world.isend(None, rank, tag=MODEL))
        elif not self.trains:
            while not self._ended:
                self._ended = self._world.recv(source=self._simulating, tag=MODEL) is None
        self._sent.wait()
        self.comm.Free()
        self._world.Free()

    def _known_partner(self) -> int:
        if self._partner is None:
            raise OptionError("Exchange: this rank trains; the simulating side sends snapshots")
        return self._partner
