"""Find the problem class, its mesh and its reference by what the options say."""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from petsc4py import PETSc

from pescitrain.errors import MeshError, OptionError, ProblemError
from pescitrain.problem import Problem
from pescitrain.problems import load
from pescitrain.run.agreement import describe


def problem_class(name: str) -> type[Problem]:
    """The class of a shipped problem, or of ``path/to/file.py:Name`` (``:Name`` may be left out if there is only one).

    Raises
    ------
    OptionError     no such file or class
    ProblemError    the file cannot be imported; the text has the cause
    """
    path, _, wanted = name.partition(".py")
    if not _:
        return load(name)
    file, wanted = Path(f"{path}.py"), wanted.removeprefix(":")
    if not file.is_file():
        raise OptionError(f"-problem {name}: there is no file {file}")
    module = _import_file(file)
    classes = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Problem) and value.__module__ == module.__name__
    }
    if not wanted and len(classes) == 1:
        return next(iter(classes.values()))
    if wanted not in classes:
        if not classes:
            raise OptionError(f"-problem {name}: {file} has no subclass of pescitrain.Problem")
        if not wanted:
            raise OptionError(f"-problem {name}: say which Problem of {file}: one of :{', :'.join(classes)}")
        near = get_close_matches(wanted, list(classes), n=1)
        hint = f"; did you mean :{near[0]}?" if near else ""
        raise OptionError(f"-problem {name}: {file} has no Problem called {wanted}{hint} (it has {', '.join(classes)})")
    return classes[wanted]


def _import_file(file: Path) -> ModuleType:
    name = f"pescitrain_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise OptionError(f"-problem {file}: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent.resolve()))
    try:
        # Not by the loader, whose cache takes a file that has changed within a second for the old one.
        exec(compile(file.read_bytes(), file, "exec"), vars(module))
    except Exception as error:  # whatever the user's file does wrong, told with its place
        raise ProblemError(f"-problem {file}: {describe(error, file)}") from error
    finally:
        sys.path.pop(0)
    return module


def parameters_of(problem: type[Problem]) -> list[str]:
    """The names that ``-problem_<name>`` may set."""
    return [field.name for field in fields(problem) if field.init] if is_dataclass(problem) else []


def create_problem(problem: type[Problem]) -> Problem:
    """An instance, with its parameters from ``-problem_<name>``.

    Raises
    ------
    OptionError     a value of the wrong type
    """
    options, values = PETSc.Options(), {}
    types = get_type_hints(problem) if is_dataclass(problem) else {}
    for name in parameters_of(problem):
        key = f"problem_{name}"
        if options.hasName(key):
            values[name] = _parse(key, options.getAll().get(key) or "", types[name])
    return problem(**values)


def _parse(key: str, text: str, kind: Any) -> Any:
    for number in (int, float):
        if kind is number:
            try:
                return number(text)
            except ValueError:
                wanted = "a whole number" if number is int else "a number"
                raise OptionError(f"-{key} {text}: give {wanted}") from None
    if kind is bool:
        return text.lower() in ("", "1", "true", "yes", "on")
    if "tuple" in str(kind):
        return tuple(part.strip() for part in text.split(","))
    return text


def find_file(name: str, option: str) -> Path:
    """A file as given, or a shipped one by its name: from the ``meshes`` folder of the project or of the installation.

    Raises
    ------
    MeshError
    """
    places = [
        Path(),
        Path(__file__).resolve().parents[2] / "meshes",
        Path(sysconfig.get_path("data")) / "share" / "pescitrain" / "meshes",
    ]
    for place in places:
        if (place / name).is_file():
            return place / name
    raise MeshError(f"{option} {name}: there is no such file")
