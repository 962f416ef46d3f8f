"""What the README says is so: its files exist, its options exist, its problem trains."""

import re
from pathlib import Path

import pytest
from run.commands import command, summary  # pyright: ignore[reportMissingImports]

from pescitrain.run.database import OUR_FAMILIES
from pescitrain.run.options import table
from pescitrain.solvers.names import known_types

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/install.md",
    "docs/options.md",
    "docs/scaling.md",
    "meshes/README.md",
    "examples/README.md",
]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)]+)\)", text) if "://" not in t]
    missing = [t for t in targets if t and not ((ROOT / page).parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES)
def test_our_options_exist(page):
    names = re.findall(r"(?<![\w-])-([a-z][a-z0-9]*(?:_[a-z0-9]+)+)", (ROOT / page).read_text())
    ours = {name for name in names if name.split("_")[0] in OUR_FAMILIES and not name.startswith("problem_")}
    assert ours - set(table()) == set()


def test_the_methods_are_those_that_there_are():
    (tao,) = re.findall(r"\| `-tao_type` \| (.*) \|", README)
    (snes,) = re.findall(r"\| `-snes_type` \| (.*) \|", README)
    assert set(re.findall(r"`(\w+)`", tao)) == set(known_types("tao"))
    assert set(re.findall(r"`(\w+)`", snes)) == set(known_types("snes"))


def test_the_problem_of_the_readme_trains(tmp_path):
    (code,) = [block for block in PYTHON if "class Membrane" in block]
    (tmp_path / "membrane.py").write_text(code)
    where = f"{tmp_path / 'membrane.py'}:Membrane"
    options = "-mesh plate_with_hole.msh -tao_max_it 100 -out_pictures false -out_model false"
    ended = command("-problem", where, *options.split(), "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    # 6.8e-4, 3.8e-4, 1.3e-3 for the seeds 0, 1, 2.
    assert summary(tmp_path / "run")["rel_l2"] < 3e-3


def test_the_lines_about_snapshots_are_those_of_the_example():
    (code,) = [block for block in PYTHON if "Snapshots(dm" in block]
    example = [line.strip() for line in (ROOT / "examples/wind_sweep.py").read_text().splitlines()]
    lines = [line.strip() for line in code.splitlines() if "snapshots" in line]
    assert len(lines) == 3
    assert set(lines) <= set(example)
