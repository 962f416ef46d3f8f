"""What may stand in the options database: bare words, misspelt names, stages, and what nobody used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from petsc4py import PETSc

from pescitrain.errors import OptionError
from pescitrain.run.options import NetworkOptions, StageOptions, table
from pescitrain.solvers.names import OWN_TAO_TYPES

OUR_FAMILIES = ("problem", "mesh", "net", "sample", "loss", "bc", "part", "hier", "gn", "data", "ref", "out", "ckpt")
"""First words of our names; whole names outside the families are in the table too."""

SOLVER_FAMILIES = (
    "tao",
    "snes",
    "ksp",
    "pc",
    "sub",
    "mg",
    "fieldsplit",
    "npc",
    "redundant",
    "coarse",
    "global",
    "sync",
)
"""First words of PETSc's names that a stage hands to its solver."""

PETSC_GLOBAL = [
    "log",
    "malloc",
    "memory",
    "objects",
    "options",
    "info",
    "help",
    "version",
    "history",
    "mpi",
    "on",
    "on_error_abort",
    "on_error_attach_debugger",
    "debug",
    "debugger",
    "fp",
    "start",
    "stop",
    "check",
    "citations",
    "skip",
    "saws",
    "device",
    "vec",
    "mat",
    "dm",
    "is",
    "viewer",
    "x",
    "display",
    "draw",
    "nox",
    "get",
    "shared",
    "tmp",
    "machine",
    "use",
    "matmatmult",
    "python",
    "petsc",
    "error",
    "load",
    "root",
    "default",
    "checkstack",
    "requires",
    "sf",
    "theta",
    "inner",
]
"""First words of names that PETSc reads at its start or end, or anywhere."""

METHODS = ("tao_type", "snes_type")
"""Names of which a stage has one."""

COMMON_PETSC = [
    "tao_type",
    "tao_max_it",
    "tao_gatol",
    "tao_grtol",
    "tao_gttol",
    "tao_monitor",
    "tao_view",
    "tao_ls_type",
    "tao_converged_reason",
    "snes_type",
    "snes_max_it",
    "snes_rtol",
    "snes_atol",
    "snes_stol",
    "snes_monitor",
    "snes_view",
    "snes_converged_reason",
    "snes_linesearch_type",
    "ksp_type",
    "ksp_rtol",
    "ksp_atol",
    "ksp_max_it",
    "ksp_monitor",
    "ksp_view",
    "ksp_converged_reason",
    "pc_type",
    "pc_asm_type",
    "pc_asm_overlap",
    "pc_view",
    "pc_mg_levels",
    "pc_fieldsplit_type",
    "sub_pc_type",
    "sub_ksp_type",
    "options_file",
    "options_left",
    "log_view",
    "tao_adam_lr",
    "tao_lm_damping",
    "tao_lm_geodesic",
    "tao_lm_project",
    "tao_lm_space",
    "tao_lm_sketch",
    "tao_lbfgs_history",
    "tao_lbfgs_momentum",
    "tao_soap_lr",
    "tao_spqn_preset",
    "tao_spqn_kind",
    "tao_spqn_sync",
    "tao_spqn_coarse",
    "tao_spqn_memory",
    "sub_tao_type",
    "sub_tao_max_it",
    "coarse_tao_max_it",
    "global_tao_type",
    "npc_snes_type",
    "tao_ssbroyden_update",
    "tao_trlsr1_history",
    "tao_trlsr1_radius",
    "tao_rmtr_cycle",
    "tao_rmtr_coarse_model",
    "tao_rmtr_coarse_its",
    "tao_mladagrad_lr",
    "tao_mladagrad_coarse_steps",
    "tao_adagrad_lr",
]
"""Names that a typo is compared with."""


def find_bare_words(arguments: Sequence[str]) -> None:
    """Refuse a word that is neither an option nor the value of one, and a name after two dashes.

    PETSc drops the one without a trace, and keeps the other for an option that nobody reads.

    Raises
    ------
    OptionError
    """
    takes_value = False
    for word in arguments:
        if re.match(r"--[A-Za-z_]", word):
            raise OptionError(f"{word}: options start with one dash, as {word[1:]}")
        if re.match(r"-[A-Za-z_]|--", word):
            takes_value = True
        elif takes_value:
            takes_value = False
        else:
            near = get_close_matches(word.split("=")[0], [*table(), *COMMON_PETSC], n=1, cutoff=0.7)
            hint = f"; did you mean -{near[0]}?" if near else ""
            raise OptionError(f"{word!r} is neither an option nor the value of one{hint} (options start with a dash)")


def check_names(stages: Sequence[str], problem_parameters: Sequence[str]) -> None:
    """Refuse names of our families that are not in the table, and near misses of our names, before any work.

    Raises
    ------
    OptionError     with the nearest name
    """
    known = {*table(), *(f"problem_{name}" for name in problem_parameters)}
    staged, networks = StageOptions.__dataclass_fields__, NetworkOptions.__dataclass_fields__
    for key in PETSc.Options().getAll():
        stage = next((s for s in stages if key.startswith(f"{s}_")), None)
        name = key if stage is None else key[len(stage) + 1 :]
        if name in known:
            of_its_own = name in networks and PETSc.Options().hasName(f"{stage}_net_correction")
            if stage is not None and name not in staged and not of_its_own:
                hint = f", or give the stage a new network by -{stage}_net_correction" if name in networks else ""
                raise OptionError(f"-{key}: {name} holds for all stages, write -{name}{hint}")
            continue
        first = name.split("_")[0]
        if first in SOLVER_FAMILIES:
            continue
        rest = key.removeprefix(f"{first}_")
        if stages and (rest.split("_")[0] in SOLVER_FAMILIES or rest in staged):
            near = get_close_matches(first, list(stages), n=1)
            if near:
                raise OptionError(f"unknown option -{key}; did you mean -{near[0]}_{rest}?")
        cutoff = 0.6 if first in OUR_FAMILIES else 0.9 if first in PETSC_GLOBAL else 0.8
        near = get_close_matches(name, sorted(known), n=1, cutoff=cutoff)
        if first == "problem":
            parameters = [other.removeprefix("problem_") for other in known if other.startswith("problem_")]
            near = [f"problem_{match}" for match in get_close_matches(rest, sorted(parameters), n=1)]
        if first == "problem" and not near:
            own = ", ".join(f"-problem_{parameter}" for parameter in problem_parameters) or "none"
            raise OptionError(f"unknown option -{key} (parameters of this problem: {own})")
        if first in OUR_FAMILIES or near:
            hint = f"; did you mean -{near[0]}?" if near else " (python -m pescitrain -help lists them)"
            raise OptionError(f"unknown option -{key}{hint}")


def fill_stages(stages: Sequence[str]) -> dict[str, list[str]]:
    """Give bare solver options to every stage that has none of its own; PETSc itself does not fall back.

    A method of its own, of TAO or of SNES, is in place of both. Returns bare name -> the names that were made from it.
    """
    options = PETSc.Options()
    copies: dict[str, list[str]] = {}
    everything = options.getAll()
    for key, value in everything.items():
        if key.split("_")[0] not in SOLVER_FAMILIES:
            continue
        for stage in stages:
            name = f"{stage}_{key}"
            copies.setdefault(key, []).append(name)
            has_method = key in METHODS and any(f"{stage}_{method}" in everything for method in METHODS)
            if name not in everything and not has_method:
                options[name] = value or None
    return copies


def unused(known: Sequence[str], copies: dict[str, list[str]]) -> list[str]:
    """A sentence for each option that nobody read in this run."""
    options = PETSc.Options()
    everything = options.getAll()
    made = {name for names in copies.values() for name in names}
    sentences = []
    for key, value in everything.items():
        if key in made and key not in known:
            continue
        if options.used(key) or key.split("_")[0] in PETSC_GLOBAL or value in OWN_TAO_TYPES.values():
            continue
        if any(name in everything and options.used(name) for name in copies.get(key, [])):
            continue
        candidates = [*COMMON_PETSC, *table()]
        of_its_method = [name for name in candidates if name.split("_")[:2] == key.split("_")[:2]]
        near = get_close_matches(key, of_its_method or candidates, n=1, cutoff=0.75)
        hint = f"; did you mean -{near[0]}?" if near and near[0] != key else ""
        sentences.append(f"option -{key}{' ' + value if value else ''} was not used by this run{hint}")
    return sentences
