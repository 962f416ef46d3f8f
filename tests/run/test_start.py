"""What a run has to load before it trains, which every rank of every run pays for."""

import sys

import pytest
from run.commands import TINY, program  # pyright: ignore[reportMissingImports]

HEAVY = ("matplotlib", "scipy.stats", "sympy", "torch._dynamo")
"""Between a third of a second and two seconds of CPU time each."""

PROGRAM = """
import sys
from pescitrain.run.command import main
main()
print("loaded:", *(name for name in {names} if name in sys.modules))
"""


def test_a_simulation_that_collects_snapshots_does_without_torch():
    script = "import sys; from pescitrain import Snapshots; print('torch' in sys.modules)"
    assert program([sys.executable, "-c", script]).out == "False\n"


@pytest.mark.parametrize("words", ["-problem burgers -bc_enforce hard", "-problem poisson2d -net_type subdomain"])
def test_what_is_not_needed_is_not_loaded(tmp_path, words):
    script = PROGRAM.format(names=HEAVY)
    ended = program(
        [sys.executable, "-c", script, *words.split(), *TINY, "-tao_max_it", "1", "-out_dir", str(tmp_path)]
    )
    assert ended.code == 0, ended.err
    assert ended.last_line == "loaded:"
