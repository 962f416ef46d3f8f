"""What `pip install pescitrain` brings."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pescitrain.problems import SHIPPED, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves folders behind
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "pescitrain", "meshes"):
        (source / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("pescitrain-*.whl")
    return set(zipfile.ZipFile(path).namelist())


def test_the_wheel_has_every_module_and_no_tests(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "pescitrain").rglob("*.py")}
    assert modules - wheel == set()
    assert "pescitrain/py.typed" in wheel
    assert not [name for name in wheel if name.startswith("tests")]


def test_the_wheel_has_the_meshes_and_references_of_the_shipped_problems(wheel):
    shipped = {name.rpartition("/")[2] for name in wheel if "/share/pescitrain/meshes/" in name}
    needed = {getattr(load(name), attribute) for name in SHIPPED for attribute in ("mesh", "reference_file")} - {None}
    assert "plate_with_hole.msh" in needed
    assert needed - shipped == set()
