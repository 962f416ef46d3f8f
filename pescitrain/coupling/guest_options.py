"""Options of a guest in the host's database: under a prefix of their own, and only while the guest works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

from petsc4py import PETSc

from pescitrain.errors import OptionError
from pescitrain.run.database import COMMON_PETSC, SOLVER_FAMILIES
from pescitrain.run.options import table

Given = Mapping[str, object]
"""Options by name, without dash and prefix; a mapping in it adds its key to the names, None is a flag."""

NOT_FOR_GUESTS = ("stages", "hier_nested", "net_correction", "ckpt_restart", "check_derivatives", "problem", "out_dir")
"""Options of ours that are about a run of the command."""


def flatten(given: Given, stem: str = "") -> dict[str, str | None]:
    """{"sub": {"pc_type": "lu"}} -> {"sub_pc_type": "lu"}."""
    flat: dict[str, str | None] = {}
    for key, value in given.items():
        name = f"{stem}{str(key).lstrip('-')}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}_")
        elif isinstance(value, list | tuple):
            flat[name] = ",".join(map(str, value))
        else:
            flat[name] = None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return flat


@contextmanager
def guest_options(prefix: str, given: Given) -> Iterator[None]:
    """Inside, ``given`` is in the database under ``prefix``, but for what the host's user has said there himself.

    On leaving, the database is what it was: nothing of the guest's is left, nothing of the host's is changed.
    """
    options = PETSc.Options()
    before = options.getAll()
    for name, value in flatten(given).items():
        if prefix + name not in before:
            options[prefix + name] = value
    try:
        yield
    finally:
        for key, value in options.getAll().items():
            if key not in before:
                options.delValue(key)
            elif value != before[key]:
                options[key] = before[key] or None
                options.hasName(key)  # what the guest has read counts as used


def check_guest_names(prefix: str) -> None:
    """Refuse names under a guest's prefix that neither pescitrain nor its solvers know.

    Raises
    ------
    OptionError     with the nearest name
    """
    known = table()
    for key in PETSc.Options().getAll():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or (name not in NOT_FOR_GUESTS and name in known):
            continue
        if name in NOT_FOR_GUESTS:
            raise OptionError(f"-{key}: {name} is for runs of the command, not for a solver inside a program")
        if name.split("_")[0] in SOLVER_FAMILIES:
            continue
        near = get_close_matches(name, [*known, *COMMON_PETSC], n=1, cutoff=0.6)
        raise OptionError(f"unknown option -{key}{f'; did you mean -{prefix}{near[0]}?' if near else ''}")
