"""The comparison of multilevel methods prints its table; its work is what the counters and the layers say."""

import importlib
import sys
from pathlib import Path

import pytest
from run import commands  # pyright: ignore[reportMissingImports]
from run.commands import command, program, summary  # pyright: ignore[reportMissingImports]

from pescitrain.run import session

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "multilevel"
SPIRALS = (
    "-problem spirals -problem_samples 40 -net_depth 9 -hier_type depth -hier_levels 2 -out_pictures false".split()
)


@pytest.fixture
def work_of(monkeypatch):
    """Work and summary of a run of charged.py in this process; compare.py starts it as a program."""
    monkeypatch.syspath_prepend(FOLDER)
    charged = importlib.import_module("charged")
    for owner, name in ((session, "History"), (session, "Clock"), (session.report, "write_results")):
        monkeypatch.setattr(
            owner, name, getattr(owner, name)
        )  # charged.py replaces them; they come back after the test

    def run(folder, *words):
        monkeypatch.setattr(commands, "main", lambda arguments, _: charged.main("none", arguments))
        ended = command(*SPIRALS, *words, "-out_dir", folder)
        assert ended.code == 0, ended.err
        return [float(line.split(",")[0]) for line in (folder / "work.csv").read_text().split()], summary(folder)

    return run


def test_methods_are_tabled_by_work():
    words = "--problems spirals --methods trlsr1,nested_lbfgs --seeds 0 --work 10 --target 10 --jobs 2".split()
    ended = program([sys.executable, str(FOLDER / "compare.py"), *words, "-problem_samples", "40", "-net_depth", "9"])
    assert ended.code == 0, ended.err
    head, *rows = (line.split() for line in ended.out.splitlines())
    assert head == ["spirals", "loss", "10", "error", "10", "to", "trlsr1", "to", "adam", "seconds"]
    table = {name: [float(word) for word in words] for name, *words in rows}
    assert list(table) == ["trlsr1", "nested_lbfgs"]
    loss, error, spent, _, _ = table["trlsr1"]
    assert 0.0 < loss < 1.2  # of three classes that are guessed: log 3
    assert 0.0 <= error <= 1.0
    assert spent <= 10.2  # it is the method that the target is from


def test_the_loss_of_batches_is_that_of_all_samples_where_it_is_measured(work_of, tmp_path):
    words = ("-tao_type", "adam", "-sample_batch", "10", "-tao_max_it", "6", "-out_error_interval", "3")
    work_of(tmp_path / "adam", *words)
    losses = [line.split(",")[1] for line in (tmp_path / "adam" / "work.csv").read_text().split()]
    assert [bool(loss) for loss in losses] == [True, False, False, True, False, False, True]
    assert float(losses[-1]) == pytest.approx(summary(tmp_path / "adam")["objective"], rel=1e-12)


def test_budgets_may_be_seconds_and_a_rate_that_is_not_known_is_said():
    words = "--problems poisson2d --methods sgd,trlsr1 --seeds 0 --seconds 0.2 --target 0.2".split()
    ended = program([sys.executable, str(FOLDER / "compare.py"), *words, "-sample_points", "50", "-net_depth", "1"])
    assert ended.code == 0, ended.err
    head, unknown, row = ended.out.splitlines()
    assert head.split() == ["poisson2d", "loss", "0.2", "error", "0.2", "to", "trlsr1", "to", "adam", "work"]
    assert unknown.split(maxsplit=1) == ["sgd", "has no rate here yet: look for it with --tune 1"]
    name, loss, *_ = row.split()
    assert name == "trlsr1"
    assert float(loss) > 0.0


def test_coarser_networks_share_four_fifths_of_the_seconds(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    words = importlib.import_module("compare").schedule("poisson2d", "nested_lbfgs", 10.0, "seconds").split()
    assert words[1] == "-hier_nested"
    *coarser, finest = (float(words[words.index(f"-level_{level}_max_time") + 1]) for level in range(3))
    assert coarser == [4.0, 4.0]
    assert finest >= 2.0  # it is stopped by the table, which looks at the whole budget


def test_a_closure_is_a_unit_and_products_are_thirds_by_the_size_of_the_network(work_of, tmp_path):
    work, ended = work_of(tmp_path / "lbfgs", "-tao_type", "lbfgs", "-tao_max_it", "4")
    assert work[-1] == pytest.approx(ended["closures"])
    gauss_newton = ("-tao_type", "rmtr", "-tao_rmtr_hessian", "gauss_newton", "-tao_max_it", "2")
    work, ended = work_of(tmp_path / "rmtr", *gauss_newton)
    counts = ended["evaluations"]
    products = counts["jvp"] + counts["vjp"]
    expected = counts["gradient"] + (counts["objective"] + products) / 3 + 4 / 3 * counts["linearization"]
    assert work[-1] == pytest.approx(expected)
    assert counts["jvp"] != int(counts["jvp"])  # those of the coarser network count by its size


def test_an_unknown_method_is_said():
    ended = program([sys.executable, str(FOLDER / "compare.py"), "--methods", "rmtrr"])
    assert ended.code != 0
    assert "method rmtrr: choose from adam, adagrad" in ended.err
