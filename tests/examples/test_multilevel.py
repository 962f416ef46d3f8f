"""The comparison of multilevel methods prints its table; its work is what the counters and the layers say."""

import sys
from pathlib import Path

import pytest
from run.commands import program, summary  # pyright: ignore[reportMissingImports]

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "multilevel"
SPIRALS = (
    "-problem spirals -problem_samples 40 -net_depth 9 -hier_type depth -hier_levels 2 -out_pictures false".split()
)


def work_of(folder, assembly, *words):
    command = [sys.executable, str(FOLDER / "charged.py"), assembly, *SPIRALS, *words, "-out_dir", str(folder)]
    ended = program(command)
    assert ended.code == 0, ended.err
    return [float(line.split(",")[0]) for line in (folder / "work.csv").read_text().split()], summary(folder)


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


def test_the_loss_of_batches_is_that_of_all_samples_where_it_is_measured(tmp_path):
    words = ("-tao_type", "adam", "-sample_batch", "10", "-tao_max_it", "6", "-out_error_interval", "3")
    work_of(tmp_path / "adam", "none", *words)
    losses = [line.split(",")[1] for line in (tmp_path / "adam" / "work.csv").read_text().split()]
    assert [bool(loss) for loss in losses] == [True, False, False, True, False, False, True]
    assert float(losses[-1]) == pytest.approx(summary(tmp_path / "adam")["objective"], rel=1e-12)


def test_budgets_may_be_seconds_and_a_rate_that_is_not_known_is_said():
    words = "--problems poisson2d --methods sgd,nested_lbfgs --seeds 0 --seconds 0.5 --target 0.5".split()
    ended = program([sys.executable, str(FOLDER / "compare.py"), *words, "-sample_points", "50", "-net_depth", "1"])
    assert ended.code == 0, ended.err
    head, unknown, row = ended.out.splitlines()
    assert head.split() == ["poisson2d", "loss", "0.5", "error", "0.5", "to", "trlsr1", "to", "adam", "work"]
    assert unknown.split(maxsplit=1) == ["sgd", "has no rate here yet: look for it with --tune 1"]
    name, loss, *_ = row.split()
    assert name == "nested_lbfgs"
    assert float(loss) > 0.0


def test_a_closure_is_a_unit_and_products_are_thirds_by_the_size_of_the_network(tmp_path):
    work, ended = work_of(tmp_path / "lbfgs", "none", "-tao_type", "lbfgs", "-tao_max_it", "4")
    assert work[-1] == pytest.approx(ended["closures"])
    gauss_newton = ("-tao_type", "rmtr", "-tao_rmtr_hessian", "gauss_newton", "-tao_max_it", "2")
    work, ended = work_of(tmp_path / "rmtr", "none", *gauss_newton)
    counts = ended["evaluations"]
    products = counts["jvp"] + counts["vjp"]
    expected = counts["gradient"] + (counts["objective"] + products) / 3 + 4 / 3 * counts["linearization"]
    assert work[-1] == pytest.approx(expected)
    assert counts["jvp"] != int(counts["jvp"])  # those of the coarser network count by its size


def test_an_unknown_method_is_said():
    ended = program([sys.executable, str(FOLDER / "compare.py"), "--methods", "rmtrr"])
    assert ended.code != 0
    assert "method rmtrr: choose from adam, adagrad" in ended.err
