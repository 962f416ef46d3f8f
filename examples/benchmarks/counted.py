"""The command, with a last line of JSON about what a rank computed, sent and held while it trained.

    mpiexec -n 4 python examples/benchmarks/counted.py [options of the command]

All numbers are those of the rank with the most. ``arithmetic``: CPU seconds in the events ``PST…``, which hold no
communication, so that they mean something where ranks share cores, too. ``petsc_flops``: as PETSc's log has them;
``shared_flops``: those beside them that every rank does for itself, for what all ranks share of a coarse system.
``messages``, ``message_bytes``: from a rank to another, PETSc's from its log and our own. ``reductions``,
``reduced_bytes``: of what all ranks take part in, gathers with what they result in; those of PETSc as 8 bytes each.
``matrix``: bytes of the rows of the Gauss–Newton matrix here, where a preconditioner has its entries; ``largest``: of
the largest other array of numpy or torch when training ends; ``peak``: of resident memory, above that of the program
before it had a problem.
"""

from __future__ import annotations

# ruff: noqa: E402  (threads are settled before numpy is imported, and PETSc starts with the command line)
import gc
import json
import os
import re
import resource
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import petsc4py


def main(words: list[str]) -> int:
    """As ``python -m pescitrain``, whose exit code it returns."""
    petsc4py.init(["pescitrain", *words])  # only the first call counts, and PETSc is imported below
    import numpy as np
    import torch
    import torch._dynamo  # loaded later, it would be memory of the problem, and thrice as slow where memory is traced
    from mpi4py import MPI
    from petsc4py import PETSc

    from pescitrain.algebra.layout import ParameterLayout
    from pescitrain.algebra.operators import ShiftedMatrix
    from pescitrain.algebra.shared_system import SharedFactors
    from pescitrain.algebra.substructuring import Substructuring
    from pescitrain.evaluation import Linearization
    from pescitrain.run import session
    from pescitrain.run.build import Setup
    from pescitrain.run.command import main as command
    from pescitrain.run.stages import Training

    class Counting(MPI.Intracomm):
        """Counts what all ranks take part in."""

        reductions, reduced_bytes, messages, message_bytes = 0, 0, 0, 0

        @staticmethod
        def count(size: int) -> None:
            Counting.reductions += 1
            Counting.reduced_bytes += size

        def Allreduce(self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM) -> None:
            self.count(recvbuf.nbytes)
            super().Allreduce(sendbuf, recvbuf, op)

        def Reduce(self, sendbuf: Any, recvbuf: Any, op: MPI.Op = MPI.SUM, root: int = 0) -> None:
            self.count((recvbuf if sendbuf is MPI.IN_PLACE else sendbuf).nbytes)
            super().Reduce(sendbuf, recvbuf, op, root)

        def Isend(self, buf: Any, dest: int, tag: int = 0) -> MPI.Request:
            Counting.messages += 1
            Counting.message_bytes += buf.nbytes
            return super().Isend(buf, dest, tag)

        def alltoall(self, sendobj: Any) -> Any:
            self.count(8 * len(sendobj))
            return super().alltoall(sendobj)

        def allreduce(self, sendobj: Any, op: Any = MPI.SUM) -> Any:
            self.count(np.asarray(sendobj).nbytes)
            return super().allreduce(sendobj, op)

        def allgather(self, sendobj: Any) -> Any:
            result = super().allgather(sendobj)
            self.count(sum(part.nbytes if isinstance(part, np.ndarray) else 8 for part in result))
            return result

        def bcast(self, obj: Any, root: int = 0) -> Any:
            self.count(8)
            return super().bcast(obj, root)

    def counting_gathers(method: Any, size_of: Callable[[Any], int]) -> Any:
        """PETSc's log has no gathers."""

        def counting(self: Any, *arguments: Any) -> Any:
            Counting.count(8 * size_of(self))
            return method(self, *arguments)

        return counting

    def counting_flops(method: Any) -> Any:
        """What every rank does for itself."""

        def counting(self: Any, *arguments: Any) -> Any:
            before = PETSc.Log.getFlops()
            result = method(self, *arguments)
            found["shared_flops"] += PETSc.Log.getFlops() - before
            return result

        return counting

    def resident() -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    found: dict[str, float] = {"matrix": 0.0, "shared_flops": 0.0}
    build, run, assemble = session.build, Training.run, ShiftedMatrix.assemble

    def counting_build(*arguments: Any) -> Setup:
        found["peak"] = -resident()
        setup = build(*arguments)
        setup.evaluator.comm = Counting(setup.evaluator.comm)
        setup.system.layout.mpi_comm = Counting(setup.system.layout.mpi_comm)
        return setup

    def counting_run(training: Training) -> Any:
        arithmetic = training.setup.evaluator.arithmetic
        Counting.reductions = Counting.reduced_bytes = Counting.messages = Counting.message_bytes = 0
        before = arithmetic.seconds
        result = run(training)
        found["arithmetic"] = arithmetic.seconds - before
        found["reductions"], found["reduced_bytes"] = Counting.reductions, Counting.reduced_bytes
        found["messages"], found["message_bytes"] = Counting.messages, Counting.message_bytes
        traces = tracemalloc.take_snapshot().traces
        storages = (one.untyped_storage().nbytes() for one in gc.get_objects() if issubclass(type(one), torch.Tensor))
        found["largest"] = max(*(trace.size for trace in traces), *storages)
        found["peak"] += resident()
        return result

    def counting_assemble(matrix: ShiftedMatrix, linearization: Linearization) -> None:
        assemble(matrix, linearization)
        entries = matrix.mat.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
        found["matrix"] = 12.0 * entries if "aij" in matrix.mat.getType() else 8.0 * entries

    ParameterLayout.gather = counting_gathers(ParameterLayout.gather, lambda layout: layout.size)
    Substructuring.apply = counting_gathers(Substructuring.apply, lambda solver: solver.reduced)
    Substructuring.update = counting_gathers(Substructuring.update, lambda solver: solver.gathered)
    SharedFactors.take, SharedFactors.solve = counting_flops(SharedFactors.take), counting_flops(SharedFactors.solve)
    session.build, Training.run, ShiftedMatrix.assemble = counting_build, counting_run, counting_assemble
    session.report.write_results = lambda *_: []
    time.perf_counter = time.process_time
    PETSc.Log.begin()
    tracemalloc.start(1)
    code = command(words)
    comm = MPI.COMM_WORLD
    with TemporaryDirectory() as folder:
        path = Path(comm.bcast(folder)) / "log.py"
        viewer = PETSc.Viewer().createASCII(str(path), comm=PETSc.COMM_WORLD)
        viewer.pushFormat(PETSc.Viewer.Format.ASCII_INFO_DETAIL)
        PETSc.Log.view(viewer)
        viewer.destroy()
        text = path.read_text()
        comm.Barrier()
    summary = re.search(rf'\["Train"\]\["summary"\]\[{comm.rank}\] = (.*)', text)
    assert summary is not None
    logged = json.loads(re.sub(r"(\d)\.([,}])", r"\1.0\2", summary[1]))
    found["messages"] += logged["numMessages"]
    found["message_bytes"] += logged["messageLength"]
    found["petsc_flops"] = logged["flop"] - found["shared_flops"]
    sums = re.findall(rf'\["Train"\]\["Vec(?:T?Dot|Norm)"\]\[{comm.rank}\] = .*?"count" : (\d+)', text)
    reductions = logged["numReductions"] + (sum(map(int, sums)) if comm.size > 1 else 0)  # PETSc 3.26 leaves them out
    found["reductions"] += reductions
    found["reduced_bytes"] += 8.0 * reductions
    largest = {name: comm.allreduce(float(value), op=MPI.MAX) for name, value in found.items()}
    if comm.rank == 0:
        print(json.dumps(largest), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
