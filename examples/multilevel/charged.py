"""The command in this process; ``work.csv`` has the work of each row of history.csv and the objective over all samples.

    python examples/multilevel/charged.py none|blocks|dense [options of the command]

Work is in passes of the finest network over all samples that give φ and ∇φ, by flops of the layers: φ alone is a third
of one, J v and Jᵀw a third each, a linearization of k rows a sample (1 + k) / 3; what a coarser network does counts by
its share of the parameters, a batch by its share of the samples. What is made of a linearization is charged, too:
``blocks`` for the entries of the diagonal blocks of the layers, ``dense`` for JᵀJ in half of the dimension and its
factors. The objective of history.csv is that of a batch, where there are batches. Seconds are those of the processor,
so that other programs do not count.
"""

from __future__ import annotations

import csv
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import petsc4py

PARTS = ("none", "blocks", "dense")


def main(assembly: str, words: list[str]) -> int:
    """As ``python -m pescitrain``, whose exit code it returns."""
    if assembly not in PARTS:
        raise SystemExit(f"charged.py {assembly}: choose from {', '.join(PARTS)}")
    petsc4py.init(["pescitrain", *words])  # only the first call counts, and PETSc is imported below
    from pescitrain.evaluation import Evaluator
    from pescitrain.run import session
    from pescitrain.run.command import main as command
    from pescitrain.run.history import Clock, History
    from pescitrain.solvers.outcome import Iterate

    class ProcessorClock(Clock):
        """Seconds of this process, on one thread."""

        @property
        def elapsed(self) -> float:
            return self._before + (time.process_time() - self._start if self._start is not None else 0.0)

        def start(self) -> None:
            self._start = time.process_time()

    class Charged(History):
        """Writes work and objective of each row."""

        made, known = 0.0, 0.0

        def record(self, stage: str, iterate: Iterate) -> None:
            counters = self.evaluator.counters
            passes = counters.gradient + (counters.objective + counters.jvp + counters.vjp) / 3.0
            self.made += (counters.linearization - self.known) * per_linearization(self.evaluator)
            self.known = counters.linearization
            with (self.path.parent / "work.csv").open("a", newline="") as file:
                csv.writer(file).writerow([passes + self.made, self.objective_of_all(iterate)])
            super().record(stage, iterate)

        def objective_of_all(self, iterate: Iterate) -> float | str:
            """Charged to nobody; empty between the iterations where errors are measured, if there are batches."""
            batches, counters = self.evaluator.batches, self.evaluator.counters
            if batches is None or batches.number is None:
                return float(iterate.objective)
            if iterate.iteration % self.error_interval:
                return ""
            number, before = batches.number, counters.objective
            with self.clock.paused():
                batches.show(None)
                value = self.evaluator.objective(iterate.theta)
                batches.show(number)
            counters.objective = before
            return value.objective

    def per_linearization(evaluator: Evaluator) -> float:
        parameters = evaluator.parameters
        outputs = sum(part.count * part.rows for part in evaluator.samples)
        points = sum(part.count * len(part.components) for part in evaluator.samples)
        unit = 6.0 * parameters.size * points  # flops of a pass: multiply-adds forward, and twice as many backward
        charge = (1.0 + outputs / points) / 3.0
        if assembly == "blocks":
            charge += outputs * sum(layer.size**2 for layer in parameters.layers) / unit
        if assembly == "dense":
            half = parameters.size / 2.0
            charge += (outputs * half**2 + half**3 / 3.0) / unit
        return charge

    session.History, session.Clock = Charged, ProcessorClock
    session.report.write_results = lambda *_: []  # a model that nobody loads takes longer than many a run
    return command(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
