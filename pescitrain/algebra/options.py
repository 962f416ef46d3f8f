"""Defaults in PETSc's options database, given only where the user said nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from petsc4py import PETSc

from pescitrain.errors import OptionError


def set_default(key: str, value: object = None) -> None:
    """Put ``-key value`` in the database unless it is there; only what the user gave can be an unused option."""
    options = PETSc.Options()
    if key.lower() not in map(str.lower, options.getAll()):  # hasName would count as a use
        options[key] = value
        options.hasName(key)


def get_string(key: str, default: str | None = None) -> str | None:
    """The value of an option as text, or the default."""
    options = PETSc.Options()
    return options.getString(key) if options.hasName(key) else default


def get_choice(key: str, default: str, choices: Sequence[str]) -> str:
    """The value of an option that is one of a few words, or the default.

    Raises
    ------
    OptionError
    """
    value = get_string(key, default) or default
    if value not in choices:
        raise OptionError(f"-{key} {value}: choose from {', '.join(choices)}")
    return value


DIRECT = ("lu", "cholesky")
"""PCs that factor, which PETSc has on one rank."""

SCHWARZ: Mapping[str, object] = {
    "pc_type": "asm",
    "pc_asm_type": "basic",
    "pc_asm_dm_subdomains": True,  # PETSc drops them if -pc_asm_overlap is given
    "pc_asm_sub_mat_type": "seqdense",
    "sub_pc_type": "cholesky",
}
"""Symmetric additive Schwarz on the blocks of a DM, each factored."""
