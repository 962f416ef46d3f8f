"""What a bare ``-pc_type`` and ``-ksp_*`` mean, whichever method runs."""

from __future__ import annotations

from petsc4py import PETSc

from pescitrain.algebra import Preconditioner, System
from pescitrain.algebra.operators import MatrixKind
from pescitrain.algebra.options import get_string
from pescitrain.errors import OptionError
from pescitrain.solvers.outcome import GaussNewtonSettings

SUPPORTED = (
    "none",
    "jacobi",
    "bjacobi",
    "asm",
    "gasm",
    "fieldsplit",
    "lu",
    "cholesky",
    "redundant",
    "sor",
    "composite",
)


def create_preconditioner(
    system: System, prefix: str, settings: GaussNewtonSettings, takes_one: bool, notices: list[str], method: str
) -> Preconditioner | None:
    """The preconditioner that the options of a stage ask for, or None.

    A method without a slot for one gets none; if the user named one, a notice says so.
    """
    asked = get_string(prefix + "pc_type")
    if asked == "none" or (settings.matrix == "none" and asked is None):
        return None
    if not takes_one:
        if asked is not None:
            notices.append(f"-{prefix}pc_type {asked} has no effect: {method} takes no preconditioner")
        return None
    if settings.matrix == "none":
        raise OptionError(f"-gn_mat none leaves -{prefix}pc_type {asked} without a matrix: use blocks or dense")
    matrix: MatrixKind | None = "dense" if settings.matrix == "dense" else "blocks" if settings.matrix else None
    return Preconditioner(system.layout, system.blocks, prefix, matrix, settings.shift)


def forward_krylov_options(prefix: str, slot: str) -> None:
    """A bare ``-ksp_*`` means the inner Krylov solver of the method; its own prefix wins."""
    if not slot:
        return
    options = PETSc.Options()
    for key, value in options.getAll().items():
        if key.startswith(prefix + "ksp_"):
            target = prefix + slot + key[len(prefix) :]
            if not options.hasName(target):
                options[target] = value
                options.hasName(target)
            options.hasName(key)
