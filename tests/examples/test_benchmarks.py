"""The benchmarks print their tables; no test looks at a time.

Each is run as a program, with as few runs of the command as its arguments allow: each of them starts PyTorch. Where the
table of a test has more rows, the command runs in the process of the test.
"""

import importlib
import importlib.util
import json
import math
import re
import runpy
import sys
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest
from petsc4py import PETSc
from run.commands import command, program  # pyright: ignore[reportMissingImports]

BENCHMARKS = Path(__file__).resolve().parents[2] / "examples" / "benchmarks"
TINY = "-net_width 8 -net_depth 2 -sample_points 200 -sample_boundary_points 40 -tao_max_it 8 -snes_max_it 8"


def lines_of(name, *words):
    """What a benchmark prints at a tiny size."""
    ended = program([sys.executable, str(BENCHMARKS / f"{name}.py"), *words, *TINY.split()])
    assert ended.code == 0, ended.err
    return ended.out.splitlines()


@pytest.fixture
def lines_here(monkeypatch, capsys):
    """What a benchmark prints where the command that it starts runs in this process."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(arguments, **_):
        ended = command(*arguments[3:])  # after python -m pescitrain
        return CompletedProcess(arguments, ended.code, ended.out, ended.err)

    monkeypatch.setattr(importlib.import_module("runs"), "subprocess", SimpleNamespace(run=run))

    def lines(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *words])
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return lines


@pytest.mark.parametrize(
    ("name", "words", "row"),
    [
        ("random_features", "--problems poisson2d --methods cholesky -problem_m 2 -net_subdomains 2", "cholesky"),
        ("solvers", "--tao adam --snes=", "tao:adam"),
        ("subdomain_krylov", "--along 2 --pcs additive", "additive, overlap 1"),
        ("subdomains", "--problems multiscale1d --methods= -net_subdomains 4", "subdomains"),
    ],
)
def test_a_table_of_one_row_is_that_of_a_program(name, words, row):
    _, only = lines_of(name, *words.split())
    assert re.split(r"\s{2,}", only)[0] == row


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


def test_solvers_are_tabled_with_what_they_cost(lines_here):
    words = f"--tao adam --snes newtontr --pcs asm {TINY}".split()
    rows = [line.split() for line in lines_here("solvers", *words)[1:]]
    assert [(row[0], row[1]) for row in rows] == [("tao:adam", "none"), ("snes:newtontr", "asm")]
    adam, newton = rows
    assert (adam[3], adam[4], adam[5]) == ("8", "9", "0")  # one closure an iteration and one at the start, no krylov
    assert newton[3] == "8"
    assert int(newton[5]) > 0


def test_the_linearization_is_compared_with_torch_func_and_with_dgemm():
    words = "--sizes 2x6 --points 60 --chunks 30 --functions 4".split()
    ended = program([sys.executable, str(BENCHMARKS / "linearization.py"), *words])
    assert ended.code == 0, ended.err
    first, _, row, _, operator = ended.out.splitlines()
    assert re.match(r"dgemm \S+ GFlop/s", first)
    size, points, linearize, ours, theirs, ratio, _, share = row.split()
    assert (size, points) == ("2x6", "60")
    assert float(linearize) > 0.0
    assert float(ratio) == pytest.approx(float(theirs) / float(ours), rel=0.5)  # of times that are rounded to 0.1 ms
    assert 0.0 <= float(share) < 1.0
    functions, ours, theirs, ratio, product, both, of_product, a_row_a_pair = operator.split()
    assert functions == "4"
    assert float(ratio) == pytest.approx(float(theirs) / float(ours), rel=0.2)
    assert float(of_product) == pytest.approx(float(both) / float(product), rel=0.2)
    assert float(a_row_a_pair) > 0.0


def test_methods_for_operators_are_compared_at_equal_seconds():
    size = ("-problem_samples", "20", "-problem_tests", "5")
    header, adam, lm = lines_of("operators", "--problems", "advection", "--times", "1,60", *size)
    assert header.split()[:3] == ["advection", "iterations", "closures"]
    first, second = adam.split(), lm.split()
    assert (first[0], second[0]) == ("adam", "lm")
    assert first[1] == second[1] == "8"
    assert first[6] == "1.0"
    assert float(second[6]) == pytest.approx(float(first[5]) / float(second[5]), rel=0.2)


def test_an_iteration_of_lm_is_compared_with_its_kernels():
    words = "--sizes 2x6 --points 60 --iterations 4".split()
    ended = program([sys.executable, str(BENCHMARKS / "levenberg_marquardt.py"), *words])
    assert ended.code == 0, ended.err
    _, row = ended.out.splitlines()
    size, points, iterations, trials, whole, kernels, quotient = row.split()
    assert (size, points, iterations) == ("2x6", "60", "4")
    assert int(trials) >= 4
    assert float(quotient) == pytest.approx(float(whole) / float(kernels), rel=0.2)  # of times rounded to 0.1 ms


def test_peers_are_tabled_and_drawn(tmp_path):
    methods = "ssbroyden,scipy_lbfgsb"
    arguments = ("--problems", "burgers", "--methods", methods, "--seeds", "0", "--times", "0.2,0.4")
    header, *rows = lines_of("peers", *arguments, "--plot", str(tmp_path / "peers.png"))
    assert re.split(r"\s{2,}", header)[:3] == ["burgers", "at 0.2 s", "at 0.4 s"]
    assert [row.split()[0] for row in rows] == methods.split(",")
    for row in rows:
        _, _, error, *reached, closures = row.split()
        assert 0.0 < float(error) < 1.0  # better than u = 0
        assert len(reached) == 5
        assert float(closures) >= 1  # of the last iterate with an error
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_optimizers_of_torch_follow_the_points_that_move(monkeypatch, capsys):
    """A peer without its table, in this process."""
    words = "-problem burgers -bc_enforce hard -net_width 8 -net_depth 2 -sample_points 200 -sample_adapt rad"
    monkeypatch.setattr(sys, "argv", ["peer.py", "torch_lbfgs", "0.5"])
    PETSc.Options().insertString(f"{words} -sample_adapt_interval 2")
    peer = runpy.run_path(str(BENCHMARKS / "peer.py"))
    monkeypatch.setitem(peer["torch_lbfgs"].__globals__, "BUNCH", 2)  # a slow machine comes so far, too
    moved = []
    move = peer["Training"].move
    monkeypatch.setattr(peer["Training"], "move", lambda *arguments: (move(*arguments), moved.append(arguments)))
    peer["main"]()
    curve = json.loads(capsys.readouterr().out)
    assert moved
    assert curve["errors"][-1] < curve["errors"][0]
    assert curve["closures"][-1] > 0


def test_a_peer_that_is_not_installed_is_left_out(tmp_path):
    names = {"scimba_ssbroyden": "scimba_torch", "deepxde": "deepxde"}
    missing = [name for name, package in names.items() if importlib.util.find_spec(package) is None]
    if not missing:
        pytest.skip("all peers are installed")
    arguments = ("--methods", ",".join(missing), "--problems", "poisson2d", "--seeds", "0", "--times", "1")
    lines = lines_of("peers", *arguments, "--plot", str(tmp_path / "peers.png"))
    for name, line in zip(missing, lines, strict=False):
        assert line.startswith(f"{name} is left out: its package is not installed")


def test_a_peer_or_problem_that_does_not_exist_is_refused():
    ended = program([sys.executable, str(BENCHMARKS / "peers.py"), "--methods", "lm,sgd", "--problems", "heat"])
    assert ended.code == 1
    assert ended.err.startswith("sgd, heat: choose problems from burgers, ")


def test_errors_and_seconds_of_a_curve(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    curve = importlib.import_module("peers").Curve([0.0, 1.0, 3.0], [1.0, 5.0, 9.0], [1.0, 0.1, 0.2])
    assert (curve.error_at(0.5), curve.error_at(2.0), curve.error_at(9.0)) == (1.0, 0.1, 0.2)
    assert (curve.seconds_to(0.5), curve.seconds_to(0.01)) == (1.0, float("inf"))


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


def test_subdomains_are_compared_with_one_network(lines_here):
    small = "-net_subdomains 16 -problem_scales 5"
    header, *rows = lines_here("subdomains", *f"--problems multiscale1d --methods lbfgs {small} {TINY}".split())
    assert header.split() == ["multiscale1d", "parameters", "error", "times"]
    names = [re.split(r"\s{2,}", row)[0] for row in rows]
    assert names == ["subdomains", "lbfgs", "lbfgs, Fourier"]
    errors = [float(row.split()[-2]) for row in rows]
    ratios = [float(row.split()[-1]) for row in rows]
    assert errors[0] < 0.1
    assert ratios[1] == pytest.approx(errors[1] / errors[0], rel=0.1)


def test_krylov_iterations_of_subdomains_are_tabled(lines_here):
    header, *rows = lines_here("subdomain_krylov", "--along", "3")
    assert header.split() == ["subdomains", "9"]
    counts = {re.split(r"\s{2,}", row)[0]: int(row.split()[-1]) for row in rows}
    assert len(counts) == 5
    assert max(counts["two_level, overlap 1"], counts["asm, overlap 1"]) < 0.5 * counts["asm, overlap 0"]


def test_least_squares_in_random_features_are_tabled(lines_here):
    chosen = "--problems poisson2d --limit 3000 --methods none,filter:1,cholesky"
    tiny = "-problem_m 2 -net_subdomains 2 -net_width 16 -sample_points 400"
    header, *rows = (line.split() for line in lines_here("random_features", *chosen.split(), *tiny.split()))
    assert header == ["poisson2d", "iterations", "seconds", "objective", "error"]
    assert [row[0] for row in rows] == ["none", "filter:1", "cholesky"]
    alone, filtered, direct = (int(row[1]) for row in rows)
    assert direct == 0
    assert filtered <= 0.1 * alone
    assert float(rows[1][4]) < 1e-2  # what these features can do


def test_what_more_ranks_compute_and_send_is_counted():
    words = "--kinds weak --ranks 1,2 --methods subdomains --size 2 -sample_points 100 -ksp_max_it 3".split()
    ended = program([sys.executable, str(BENCHMARKS / "scaling.py"), *words])
    assert ended.code == 0, ended.err
    header, *rows = (line.split() for line in ended.out.splitlines())
    assert header[:2] == ["subdomains,", "weak"]
    assert [row[:2] for row in rows] == [["1", "ranks"], ["2", "ranks"]]
    alone, shared = (dict(zip(header[2:], map(float, row[2:]), strict=True)) for row in rows)
    assert alone["messages"] == 0.0 < shared["messages"]
    assert shared["reduced_bytes"] < 0.1 * shared["message_bytes"]
    # Along the axis of the ranks each of 2 subdomains has 2 columns; on two ranks one of them has another neighbour.
    assert shared["matrix"] == pytest.approx(5 / 4 * alone["matrix"], rel=1e-3)  # of numbers of four digits


def test_the_model_of_scaling_adds_up(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    scaling = importlib.import_module("scaling")
    counts = dict.fromkeys(scaling.COUNTS, 0.0) | {"arithmetic": 1.0}
    known = {1: counts} | {
        ranks: counts
        | {
            "petsc_flops": 1e9,
            "shared_flops": 62.5e6 * ranks,
            "messages": 10.0 * ranks,
            "reductions": 100.0,
            "reduced_bytes": 2.5e7 * ranks,
        }
        for ranks in (3, 4, 6)
    }
    model = scaling.Model(known, 1e-3, 1e9, 1e9, math.inf)
    assert model.seconds(1) == pytest.approx(1.0)
    # 2 s of flops, 160 messages, and 4 levels of 100 latencies and twice 0.4 s
    assert model.seconds(16) == pytest.approx(1.0 + 2.0 + 0.16 + 4.0 * (0.1 + 0.8))
    # In groups of 4 there are two levels of 0.25 s of flops beside 1 s, and what 4 ranks reduce.
    assert scaling.Model(known, 1e-3, 1e9, 1e9, 4).seconds(16) == pytest.approx(1.0 + 1.5 + 0.16 + 4.0 * (0.1 + 0.2))


def test_time_slabs_are_tabled_with_the_path_of_a_rank_for_each():
    words = "--problems klein_gordon --methods additive --seeds 0 -net_subdomains 1x4 -sub_tao_max_it 1"
    header, row = lines_of("time_slabs", *words.split())
    assert header.split() == ["klein_gordon", "parameters", "error", "iterations", "closures", "path"]
    name, parameters, _, iterations, closures, path = row.split()
    assert (name, parameters, iterations) == ("additive", str(4 * 105), "8")
    assert 8 < int(path) < int(closures)


def test_iterations_of_schwarz_are_counted_to_a_fixed_objective():
    words = ("--along", "2", "--methods", "output", "--reduction", "0.9", "-sub_tao_max_it", "1")
    header, row = lines_of("subdomain_schwarz", *words)
    assert header.split() == ["subdomains", "4"]
    assert re.fullmatch(r"output +[1-8] \(\d+\.\d s\)", row)


def test_a_wide_network_is_trained_for_so_many_seconds():
    words = "--problems borehole --methods lm --width 16 --depth 2 --points 40 --seconds 1".split()
    ended = program([sys.executable, str(BENCHMARKS / "large_networks.py"), *words])
    assert ended.code == 0, ended.err
    header, row = (line.split() for line in ended.out.splitlines())
    assert header == ["borehole", "objective", "error", "iterations", "times", "rate"]
    assert row[0] == "lm"
    assert float(row[1]) < 1e-12  # fewer samples than parameters: all of them are met
    assert 0.0 < float(row[2]) < 0.5


@pytest.fixture
def large_networks(monkeypatch):
    """The script, and a command in the place of the one that it runs."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("large_networks")
    run = importlib.import_module("runs").Run

    def pretend(answer):
        def train(*words, **_):
            options = dict(zip(words[::2], words[1::2], strict=True))
            return run(answer(options), [], [], [1.0])

        monkeypatch.setattr(module, "train", train)

    return module, pretend


def test_first_order_methods_have_the_best_rate_and_fall_to_a_hundredth(large_networks, capsys):
    module, pretend = large_networks
    decays = []

    def answer(options):
        if "-tao_adam_lr" not in options:
            return {"rel_l2": 0.001, "iterations": 7}
        decays.append(float(options["-tao_adam_decay"]))
        return {"rel_l2": abs(float(options["-tao_adam_lr"]) - 0.003) + 0.01, "iterations": 10}

    pretend(answer)
    size = module.Size(256, 4, 1000, [])
    module.compare(size, "borehole", ["adam", "lbfgs"], 100.0, [0, 1], [0.001, 0.003, 0.01])
    _, adam, lbfgs = (line.split() for line in capsys.readouterr().out.splitlines())
    assert adam[2:] == ["1.0e-02", "10", "1", "0.003"]
    assert lbfgs[2:] == ["1.0e-03", "7", "10"]
    assert decays[0] == 1.0
    assert decays[1] ** 200 == pytest.approx(0.01)  # ten iterations in a twentieth of the time


def test_memory_is_counted_in_numbers_a_parameter(large_networks, capsys):
    module, pretend = large_networks

    def answer(options):
        parameters = int(options["-net_width"]) ** 2
        return {"parameters": parameters, "peak_rss_mb": 300.0 + 8.0 * 12.0 * parameters / 1e6}

    pretend(answer)
    module.weigh("borehole", ["lbfgs"], [128, 512], 4, [1000], [])
    header, row = (line.split() for line in capsys.readouterr().out.splitlines())
    assert header[1:] == ["128,", "1000", "512,", "1000", "a", "parameter"]
    assert float(row[-1]) == pytest.approx(12.0)
