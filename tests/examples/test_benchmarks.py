"""The benchmarks print their tables; no test looks at a time."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from run.commands import program  # pyright: ignore[reportMissingImports]

BENCHMARKS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
TINY = "-net_width 8 -net_depth 2 -sample_points 200 -sample_boundary_points 40 -tao_max_it 8 -snes_max_it 8"


def lines_of(name, *words):
    """What a benchmark prints at a tiny size."""
    ended = program([sys.executable, str(BENCHMARKS / f"{name}.py"), *words, *TINY.split()])
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


def test_the_objective_within_a_budget(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    run = importlib.import_module("runs").Run({}, [1.0, 2.0, 4.0], [0.5, 1.0, 2.0], [9.0, 8.0, 7.0])
    assert run.objective_at(closures=3) == 8.0
    assert run.objective_at(seconds=2.0) == run.objective_at() == 7.0
    assert run.objective_at(closures=4, seconds=1.5) == 8.0
    assert run.objective_at(seconds=0.1) == 9.0  # before the first iterate: the start


def test_the_preconditioner_is_compared_at_equal_closures_and_at_equal_time():
    header, seed, last = lines_of("preconditioner", "--seeds", "3")
    assert re.split(r"\s{2,}", header)[:2] == ["at equal:", "closures"]
    name, number, closures, none, asm, ratio, *_ = seed.split()
    assert (name, number) == ("seed", "3")
    assert int(closures) >= 9  # the start, and at least one in each iteration
    assert float(ratio) == pytest.approx(float(none) / float(asm), rel=0.1)
    assert re.fullmatch(r"median ratio \S+ at equal closures, \S+ at equal time", last)


def test_the_overhead_is_a_share_of_the_time():
    _, asm = lines_of("overhead", "--pcs", "asm")
    kind, iterations, closures, linearizations, seconds, arithmetic, share, _ = asm.split()
    assert (kind, iterations, linearizations) == ("asm", "8", "1")
    assert int(closures) >= 9
    assert 0.0 < float(arithmetic) <= float(seconds)
    assert 0.0 <= float(share) < 100.0


def test_solvers_are_tabled_with_what_they_cost():
    rows = [line.split() for line in lines_of("solvers", "--tao", "adam", "--snes", "newtontr", "--pcs", "asm")[1:]]
    assert [(row[0], row[1]) for row in rows] == [("tao:adam", "none"), ("snes:newtontr", "asm")]
    adam, newton = rows
    assert (adam[3], adam[4], adam[5]) == ("8", "9", "0")  # one closure an iteration and one at the start, no krylov
    assert newton[3] == "8"
    assert int(newton[5]) > 0


def test_krylov_iterations_are_tabled_for_every_stage_and_damping():
    chosen = "--problems burgers --stages 0,3 --dampings 3e-2 --pcs none,asm,nystrom,mg,cholesky --limit 300".split()
    tiny = "-net_width 4 -net_depth 3 -sample_points 200 -sample_boundary_points 40".split()
    ended = program([sys.executable, str(BENCHMARKS / "krylov.py"), *chosen, *tiny])
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith("burgers, seed 0: 57 parameters, ")
    assert [line.split(":")[0] for line in lines[1:3]] == ["stage 0", "stage 3"]
    rows = {line[:34].strip(): line[34:].split() for line in lines[4:]}
    assert {name.partition(",")[0] for name in rows} == {"none", "asm", "nystrom", "mg", "cholesky"}
    assert all(len(row) == 4 for row in rows.values())  # two stages, set-up, application
    assert rows["cholesky"][:2] == ["1", "1"]
    assert int(rows["nystrom, rank 40"][1]) < int(rows["none"][1])
