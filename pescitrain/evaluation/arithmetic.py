"""The clock of torch's arithmetic: events of PETSc's ``-log_view``, and their sum for summary.json."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from petsc4py import PETSc

from pescitrain.networks.device import HOST, at_home


class Arithmetic:
    """What of a run is arithmetic of the network, on this rank; the rest is PETSc, MPI and Python.

    Each kind of work is an event of its own: ``PSTObjective``, ``PSTGradient``, ``PSTResidual``, ``PSTLinearize``,
    ``PSTJacobianMult``, ``PSTJacobianMultTranspose``, ``PSTGaussNewtonMult``, ``PSTGaussNewtonBlocks``,
    ``PSTGaussNewtonMatrix``, ``PSTSampleGramMatrix``, ``PSTGaussNewtonDiagonal``, ``PSTGaussNewtonProducts``,
    ``PSTKroneckerFactors``, ``PSTOutputLayer``, ``PSTTriangularFactors``.
    """

    def __init__(self, device: torch.device = HOST) -> None:
        self.device = device
        self.seconds = 0.0

    @contextmanager
    def event(self, name: str) -> Iterator[None]:
        """Log the block as the event ``PST<name>`` and add its seconds, on a GPU up to its end. Not collective."""
        start = time.perf_counter()
        with PETSc.Log.Event(f"PST{name}"):
            try:
                with at_home(self.device):
                    yield
                if self.device != HOST:
                    torch.cuda.synchronize(self.device)
            finally:
                self.seconds += time.perf_counter() - start
