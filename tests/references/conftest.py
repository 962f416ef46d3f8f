"""The folder of meshes, and the reference solutions in it, which are no part of the package: loaded by path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

MESHES = Path(__file__).parents[2] / "meshes"


def _load(name: str) -> ModuleType:
    """The module meshes/references/``name``.py; its sibling ``harmonic_basis`` is found through sys.path."""
    folder = str(MESHES / "references")
    specification = importlib.util.spec_from_file_location(f"mesh_reference_{name}", f"{folder}/{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, folder)
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@pytest.fixture(scope="session")
def meshes() -> Path:
    return MESHES


@pytest.fixture(scope="session")
def mesh_reference() -> Callable[[str], ModuleType]:
    loaded: dict[str, ModuleType] = {}

    def get(name: str) -> ModuleType:
        if name not in loaded:
            loaded[name] = _load(name)
        return loaded[name]

    return get
