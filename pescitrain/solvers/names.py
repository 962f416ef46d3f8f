"""Which methods there are, where their preconditioner goes, and the short names of our own."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal

from petsc4py import PETSc

from pescitrain.errors import OptionError

OWN_TAO_TYPES = {
    "adagrad": "pescitrain.solvers.multilevel.adagrad.Adagrad",
    "rmtr": "pescitrain.solvers.multilevel.trust_region.RecursiveTrustRegion",
    "mladagrad": "pescitrain.solvers.multilevel.adagrad.MultilevelAdagrad",
    "asadagrad": "pescitrain.solvers.schwarz.adagrad.SchwarzAdagrad",
    "adam": "pescitrain.solvers.adam.Adam",
    "lbfgs": "pescitrain.solvers.lbfgs.LimitedMemoryBFGS",
    "lm": "pescitrain.solvers.levenberg_marquardt.LevenbergMarquardt",
    "sgd": "pescitrain.solvers.gradient_descent.GradientDescent",
    "soap": "pescitrain.solvers.soap.Soap",
    "spqn": "pescitrain.solvers.schwarz.quasi_newton.SchwarzQuasiNewton",
    "trlsr1": "pescitrain.solvers.sr1_trust_region.SR1TrustRegion",
    "ssbroyden": "pescitrain.solvers.self_scaled_broyden.SelfScaledBroyden",
}
"""Short name -> Python type, for ``-tao_type``."""

TAO_SLOT = {
    "nls": "tao_nls_",
    "ntr": "tao_ntr_",
    "ntl": "tao_ntl_",
    "bnls": "tao_bnk_",
    "bntr": "tao_bnk_",
    "bntl": "tao_bnk_",
    "tron": "",
    "blmvm": "tao_blmvm_mat_lmvm_J0_",
    "bqnls": "tao_bqnls_mat_lmvm_J0_",
    "bqnktr": "tao_bqnk_mat_lmvm_J0_",
    "bqnktl": "tao_bqnk_mat_lmvm_J0_",
}
"""TAO types that take a preconditioner -> the prefix of the inner Krylov solver that holds it."""

TAO_NEWTON = ("nls", "ntr", "ntl", "bnls", "bntr", "bntl", "tron")
TAO_BOUNDED = (
    *("blmvm", "bqnls", "bqnktr", "bqnktl", "bncg", "bnls", "bntr", "bntl", "tron"),
    *("lm", "adagrad", "asadagrad", "mladagrad"),
)
TAO_WITHOUT_PRECONDITIONER = ("cg", "bncg", "owlqn", "python")
TAO_REFUSED = {
    "bqnkls": "PETSc's bqnkls fails with every problem (its secant matrix refuses a shift): use bqnktr or bqnls",
    "snes": "-tao_type snes hides its solver and ignores -tao_max_it: use -snes_type instead",
    "brgn": "brgn linearizes at every evaluation and takes no preconditioner here: use bntr",
    "nm": "Nelder-Mead is for a handful of parameters: use blmvm",
    "pounders": "pounders is for a handful of parameters: use blmvm",
    **dict.fromkeys(
        ("lcl", "ipm", "pdipm", "shell", "admm", "almm", "ssils", "ssfls", "asils", "asfls", "gpcg", "bqpip"),
        "it is for constrained, complementarity or quadratic problems: use blmvm, bqnls or bntr",
    ),
}

SNES_LINEAR = ("newtonls", "newtontr")
"""SNES types with a Krylov solver of their own."""
SNES_NONLINEAR = ("qn", "ngmres", "ncg", "anderson", "nrichardson")
"""SNES types that take the preconditioner as one step of a nonlinear one."""
SNES_SCHWARZ = ("nasm", "aspin")
"""SNES types that solve for the blocks of θ."""
SNES_MULTILEVEL = ("fas",)
"""SNES types on a hierarchy of networks."""
OWN_SNES_TYPES = {"spqn": "pescitrain.solvers.schwarz.nonlinear.SchwarzIteration"}
"""Short name -> Python type, for ``-npc_snes_type``."""

Kind = Literal["tao", "snes"]


def known_types(kind: Kind) -> list[str]:
    """Every name that ``-tao_type`` or ``-snes_type`` is given; a TAO type of the user's own is ``python``."""
    if kind == "tao":
        return sorted({*TAO_SLOT, *TAO_WITHOUT_PRECONDITIONER, "lmvm", *OWN_TAO_TYPES} - {"python"})
    return sorted({*SNES_LINEAR, *SNES_NONLINEAR, *SNES_SCHWARZ, *SNES_MULTILEVEL})


def check_type(kind: Kind, name: str, option: str) -> None:
    """Refuse a method that does not exist or makes no sense here, in one sentence.

    Raises
    ------
    OptionError
    """
    known = known_types(kind)
    if name in known or (kind, name) == ("tao", "python"):
        return
    if not name:
        raise OptionError(f"{option} needs a value: choose from {', '.join(known)}")
    if kind == "tao" and name in TAO_REFUSED:
        raise OptionError(f"{option} {name}: {TAO_REFUSED[name]}")
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    exists = name in vars((PETSc.TAO if kind == "tao" else PETSc.SNES).Type).values()
    why = "does not fit the training of networks" if exists else "is no method that is known"
    raise OptionError(f"{option} {name} {why}{hint} (choose from {', '.join(known)})")
