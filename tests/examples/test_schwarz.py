"""The comparison of nonlinear Schwarz methods prints its table and draws its figure."""

import sys
from pathlib import Path

from run.commands import program  # pyright: ignore[reportMissingImports]

COMPARE = Path(__file__).resolve().parents[2] / "examples" / "schwarz" / "compare.py"
TINY = "-bc_enforce soft -net_width 4 -net_depth 2 -sample_points 60 -sub_tao_max_it 2 -tao_max_it 3 -snes_max_it 3"


def compare(*words):
    return program([sys.executable, str(COMPARE), "--seeds", "0", "--jobs", "2", *words, *TINY.split()])


def test_methods_are_tabled_by_closures_and_by_time(tmp_path):
    picture = tmp_path / "figure.png"
    words = "--problems burgers --methods lbfgs_3,aspqn,mspqn --budgets 3,100".split()
    ended = compare(*words, "--plot", picture)
    assert ended.code == 0, ended.err
    head, *rows = (line.split() for line in ended.out.splitlines()[:4])
    assert head == ["burgers", "3", "cl.", "100", "cl.", "60", "s", "its", "closures", "depth"]
    table = {name: [float(word) for word in words] for name, *words in rows}
    assert list(table) == ["lbfgs_3", "aspqn", "mspqn"]
    for early, late, in_time, iterations, closures, depth in table.values():
        assert late == in_time  # all of it fits
        assert late <= early
        assert iterations == 3
        assert depth <= closures
    closures = {name: row[-2] for name, row in table.items()}
    assert closures["aspqn"] > closures["lbfgs_3"]  # the local solves are charged
    assert table["aspqn"][-1] < table["aspqn"][-2]  # side by side
    assert table["mspqn"][-1] == table["mspqn"][-2]  # in turn
    title, *spent = ended.out.splitlines()[4:]
    assert title.startswith("to ")
    name, own, quotient, *_ = spent[0].replace("(", " ").replace(")", " ").split()
    assert name == "lbfgs_3"
    assert 1.0 <= float(own) <= closures["lbfgs_3"]
    assert float(quotient) == 1.0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_method_is_said():
    ended = compare("--methods", "aspqm")
    assert ended.code != 0
    assert "method aspqm: choose from adam, lbfgs_3" in ended.err
