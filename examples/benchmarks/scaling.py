"""What more ranks compute, send and hold, and a model of what thousands of them would take.

    python examples/benchmarks/scaling.py [--methods lm,newton,subdomains] [--kinds weak,strong] [--ranks 1,2,3,4,6,8]
                                          [--predict 128,1024,10240] [--latency 2e-6] [--bandwidth 1e10] [--flops 2e9]
                                          [--group 32] [--timed 0] [--size 4] [options of the command]

Counts of one iteration, the mean of ten, on the rank with the most (``counted.py`` says what they are), on as many
ranks as are asked for: they may share cores, as nothing is timed but arithmetic, in CPU seconds. ``weak``: as many
points, and subdomains, for each rank; ``strong``: eight times as many for all. From the counts c(P) of weak scaling on
three ranks or more, where some rank has two neighbours, the model takes c(P) = a + b P by least squares, of arithmetic
their mean, of flops that are not the same on all ranks those on the most ranks (they fall where ranks share the blocks
of one network), and

    T(P) = arithmetic + flops / F + messages · α + message_bytes / B + (reductions · α + 2 · reduced_bytes / B) · log₂ P

with α, B and F from the options. What subdomains share of a coarse system grows with the ranks of a group, ``--group``
of them, as it does with all ranks of a run that is counted here; beyond, a group does for its level of the tree of
groups what a rank does, so that reduced_bytes are those of P = group, and flops that are the same on all ranks those of
P = group times the levels. It prints what it says for ranks that it has not seen, T(1) / T(P), and how far it is
off for the most ranks when it has seen the others alone; T(3) / T(P), too, as one rank has no neighbours.
``--timed``: repetitions of one rank beside two, in seconds on a clock, for cores that have nothing else to do.
``--size``: subdomains of a rank along the first axis, where those of other ranks follow, with 500 points for each.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from math import ceil, inf, log2
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from runs import arguments, read

FIRST, LAST = 2, 12
"""What is counted is what the iterations between these two add: of subdomains one coarse space, kept for ten."""
TIMED = 20
"""Iterations of what is timed: of subdomains two coarse spaces, each kept for ten."""
ONE_TRIAL = "-tao_lm_accept -1e30 -tao_lm_damping 1e-2"
"""Steps of lm are taken as they are: how many are tried depends on the problem, and with it what an iteration costs.
λ is small enough for a coarse space, and large enough for steps that are so taken."""
INNER = 3
"""Ranks from which on there is one inside."""
KRYLOV = "-ksp_convergence_test skip -ksp_max_it 20 -ksp_type cg"
HERE = Path(__file__).resolve().parent
SHARES = 8
"""Of the problem of strong scaling in that of a rank of weak scaling."""


def options_of(method: str, share: int, size: int) -> str:
    """The options of ``share`` times the problem of a rank, with ``size`` subdomains along the first axis.

    Raises
    ------
    SystemExit      there is no such method
    """
    problem = f"-problem poisson2d -problem_m 8 -bc_enforce hard -sample_points {500 * size * share}"
    lines = {
        "lm": f"-net_width 24 -net_depth 3 -tao_type lm -tao_lm_space parameters {ONE_TRIAL}",
        "newton": f"-net_width 24 -net_depth 6 -snes_type newtonls -pc_type asm {KRYLOV}",
        "subdomains": f"-net_type subdomain -net_subdomains {size * share}x4 -net_width 8 -net_depth 1 "
        f"-net_start random -pc_type two_level -tao_type lm -tao_lm_space krylov {ONE_TRIAL} {KRYLOV}",
    }
    if method not in lines:
        raise SystemExit(f"method {method}: choose from {', '.join(lines)}")
    return f"{problem} {lines[method]}"


def launch(program: list[str], ranks: int, options: list[str]) -> tuple[str, float]:
    """What a program says on its last line, and the seconds of the run. On one thread for each rank, and one core where
    there are so many.

    Raises
    ------
    SystemExit      it has no result; with what it said; or there is no mpiexec
    """
    with tempfile.TemporaryDirectory() as folder:
        silent = (
            f"-out_dir {folder} -out_pictures false -out_model false -out_error_interval 1000000 -ckpt_interval 1000000"
        )
        launcher = shutil.which(
            "mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        )
        if launcher is None:
            raise SystemExit("there is no mpiexec, neither beside this Python nor on PATH")
        pinned = ["-bind-to", "core"] if ranks <= (os.cpu_count() or 1) else []
        command = [
            launcher,
            *pinned,
            "-n",
            str(ranks),
            sys.executable,
            *program,
            *silent.split(),
            *options,
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if ended.returncode not in (0, 1) or not (Path(folder) / "summary.json").is_file():
            raise SystemExit(f"{' '.join(command)}\n{ended.stderr}")
        return ended.stdout.splitlines()[-1], read(Path(folder)).seconds[-1]


COUNTS = ("arithmetic", "petsc_flops", "shared_flops", "messages", "message_bytes", "reductions", "reduced_bytes")
GROUPED = ("shared_flops", "reduced_bytes")
"""What grows with the ranks of a group, not with all."""
MEMORY = ("largest", "matrix", "peak")


def counts_of(method: str, ranks: int, share: int, size: int, words: list[str]) -> dict[str, float]:
    """Counts of an iteration, and memory."""
    options = [*options_of(method, share, size).split(), *words]
    few, many = (
        json.loads(launch([str(HERE / "counted.py")], ranks, [*options, *until(iteration)])[0])
        for iteration in (FIRST, LAST)
    )
    grown = {name: (many[name] - few[name]) / (LAST - FIRST) for name in COUNTS}
    return grown | {name: many[name] for name in MEMORY}


def until(iteration: int) -> list[str]:
    """The options that end a run there."""
    return f"-tao_max_it {iteration} -snes_max_it {iteration}".split()


class Model:
    """c(P) = a + b P for each count, from weak scaling."""

    def __init__(
        self, known: dict[int, dict[str, float]], latency: float, bandwidth: float, flops: float, group: float
    ) -> None:
        self.known, self.latency, self.bandwidth, self.flops, self.group = known, latency, bandwidth, flops, group
        several = [ranks for ranks in known if ranks >= INNER]
        self._fits = {
            name: np.polyfit(several, [known[ranks][name] for ranks in several], min(1, len(several) - 1))
            for name in COUNTS[1:]
        }
        self._fits["arithmetic"] = np.array([np.mean([known[ranks]["arithmetic"] for ranks in several])])
        self._fits["petsc_flops"] = np.array([known[max(several)]["petsc_flops"]])

    def count(self, name: str, ranks: int) -> float:
        """A count on the rank with the most."""
        if ranks == 1:
            return self.known[1][name]
        of, times = ranks, 1
        if name in GROUPED and ranks > self.group:
            of, times = self.group, ceil(log2(ranks) / log2(self.group)) if name == "shared_flops" else 1
        return times * max(0.0, float(np.polyval(self._fits[name], of)))

    def seconds(self, ranks: int) -> float:
        """Of an iteration."""
        flops = self.count("petsc_flops", ranks) + self.count("shared_flops", ranks)
        arithmetic = self.count("arithmetic", ranks) + flops / self.flops
        sent = self.count("messages", ranks) * self.latency + self.count("message_bytes", ranks) / self.bandwidth
        reduced = (
            self.count("reductions", ranks) * self.latency + 2.0 * self.count("reduced_bytes", ranks) / self.bandwidth
        )
        return arithmetic + sent + reduced * log2(ranks)


def main() -> None:
    chosen, words = arguments(
        __doc__,
        methods=("lm", "newton", "subdomains"),
        kinds=("weak", "strong"),
        ranks=(1, 2, 3, 4, 6, 8),
        predict=(128, 1024, 10240),
        latency=(2e-6,),
        bandwidth=(1e10,),
        flops=(2e9,),
        group=(32,),
        timed=(0,),
        size=(4,),
    )
    for method in chosen.methods:
        for kind in chosen.kinds:
            print(f"{f'{method}, {kind}':22s}{''.join(f'{name:>15s}' for name in (*COUNTS, *MEMORY))}", flush=True)
            known = {}
            for ranks in chosen.ranks:
                known[ranks] = counts_of(method, ranks, ranks if kind == "weak" else SHARES, chosen.size[0], words)
                print(
                    f"{ranks:8d} ranks        {''.join(f'{value:15.4g}' for value in known[ranks].values())}",
                    flush=True,
                )
            if kind == "weak" and 1 in known and len([ranks for ranks in known if ranks >= INNER]) > 2:
                group = chosen.group[0] if method == "subdomains" else inf
                machine = (chosen.latency[0], chosen.bandwidth[0], chosen.flops[0], group)
                report(Model(known, *machine), Model(without_most(known), *machine), chosen.predict)
        if chosen.timed[0]:
            print(
                f"{method}: T(1) / T(2) of weak scaling {timed(method, chosen.timed[0], chosen.size[0], words):.2f}",
                flush=True,
            )


def without_most(known: dict[int, dict[str, float]]) -> dict[int, dict[str, float]]:
    """All counts but those of the most ranks."""
    return {ranks: counts for ranks, counts in known.items() if ranks < max(known)}


def report(model: Model, before: Model, predicted: list[int]) -> None:
    """What the model says, and how far it was off."""
    most = max(model.known)
    off = [
        f"{name} {before.count(name, most) / model.known[most][name]:.2f}" for name in COUNTS if model.known[most][name]
    ]
    print(f"counts on {most} ranks, predicted from fewer / counted: {', '.join(off)}")
    for ranks in predicted:
        seconds = model.seconds(ranks)
        shares = ", ".join(f"T({few}) / T({ranks}) {model.seconds(few) / seconds:.2f}" for few in (1, INNER))
        print(f"{ranks:8d} ranks: {1000.0 * seconds:.3g} ms, {shares}", flush=True)


def timed(method: str, repetitions: int, size: int, words: list[str]) -> float:
    """T(1) / T(2) of weak scaling, the median of pairs."""
    longer = [*words, *until(TIMED)]
    ratios = []
    for _ in range(repetitions):
        one, two = (
            launch(["-m", "pescitrain"], ranks, [*options_of(method, ranks, size).split(), *longer])[1]
            for ranks in (1, 2)
        )
        ratios.append(one / two)
    return statistics.median(ratios)


if __name__ == "__main__":
    main()
