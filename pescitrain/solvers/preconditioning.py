"""What a bare ``-pc_type`` and ``-ksp_*`` mean, whichever method runs."""

from __future__ import annotations

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import Preconditioner, System
from pescitrain.algebra.operators import MatrixKind
from pescitrain.algebra.preconditioner import OWN_PC_TYPES, pc_type_of
from pescitrain.errors import OptionError
from pescitrain.solvers.names import TAO_NEWTON
from pescitrain.solvers.outcome import GaussNewtonSettings


def create_preconditioner(
    system: System, prefix: str, settings: GaussNewtonSettings, takes_one: bool, notices: list[str], method: str
) -> Preconditioner | None:
    """The preconditioner that the options of a stage ask for, or None.

    Quasi-Newton methods project their steps onto the bounds, which leads downhill only where the initial matrix does
    not couple the bounded parameters with others (Bertsekas, SIAM J. Control Optim. 20 (1982) 221-246): it does not.

    A method without a slot for one gets none; if the user named one, a notice says so.
    """
    asked = pc_type_of(prefix)
    if asked == "none" or (settings.matrix == "none" and asked is None):
        return None
    if not takes_one:
        if asked is not None:
            notices.append(f"-{prefix}pc_type {asked} has no effect: {method} takes no preconditioner")
        if asked in OWN_PC_TYPES:  # TAO has a KSP even where the method has not, and PETSc does not know our names
            PETSc.Options()[f"{prefix}pc_type"] = "none"
        return None
    if asked == "lmvm":
        raise OptionError(
            f"-{prefix}pc_type lmvm is the identity here, because nothing gives it secant pairs: use "
            "-tao_bnk_pc_type lmvm with bntr, bntl or bnls, which do, or blmvm"
        )
    kinds: dict[str | None, MatrixKind] = {"dense": "dense", "blocks": "blocks", "sparse": "sparse", "none": "none"}
    matrix = kinds.get(settings.matrix)
    bounded = None
    if system.bounds is not None and method not in TAO_NEWTON:
        bounded = np.flatnonzero(np.isfinite(system.bounds[0]) | np.isfinite(system.bounds[1]))
    return Preconditioner(
        system.layout,
        system.blocks,
        prefix,
        matrix,
        settings.shift,
        bounded,
        settings.coarsening,
        settings.levels,
        settings.rows,
        settings.single,
        system.evaluator,
        system.couplings,
    )


def forward_krylov_options(prefix: str, slot: str) -> None:
    """A bare ``-ksp_*`` means the inner Krylov solver of the method; its own prefix wins."""
    options = PETSc.Options()
    for key, value in options.getAll().items():
        if key.startswith(prefix + "ksp_"):
            target = prefix + slot + key[len(prefix) :]
            if not options.hasName(target):
                options[target] = value
                options.hasName(target)
            options.hasName(key)
