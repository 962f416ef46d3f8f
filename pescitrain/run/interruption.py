"""A run that is asked to end before its time: by Ctrl-C, or by a batch system that is about to kill it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """What signal this rank has got while it watched; the ranks agree on it where they agree to stop."""

    def __init__(self) -> None:
        self.number = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block in which the first signal is noted, and a second one ends the process."""
        if threading.current_thread() is not threading.main_thread():  # where Python takes no signals
            yield
            return
        before = [signal.signal(number, self._note) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: PETSc's, in C

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
