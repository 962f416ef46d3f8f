"""The shipped problems, by the names that ``-problem`` takes."""

from __future__ import annotations

import difflib
import importlib

from pescitrain.errors import OptionError
from pescitrain.problem import Problem

SHIPPED: dict[str, str] = {
    "poisson": "pescitrain.problems.poisson:Poisson",
    "poisson_lshape": "pescitrain.problems.poisson_lshape:PoissonLShape",
    "elasticity": "pescitrain.problems.elasticity:Elasticity",
    "heat_two_materials": "pescitrain.problems.heat_two_materials:HeatTwoMaterials",
    "burgers": "pescitrain.problems.burgers:Burgers",
    "allen_cahn": "pescitrain.problems.allen_cahn:AllenCahn",
    "klein_gordon": "pescitrain.problems.klein_gordon:KleinGordon",
    "diffusion_advection": "pescitrain.problems.diffusion_advection:DiffusionAdvection",
    "helmholtz": "pescitrain.problems.helmholtz:Helmholtz",
    "poisson2d": "pescitrain.problems.poisson2d:Poisson2D",
    "poisson5d": "pescitrain.problems.poisson5d:Poisson5D",
    "multiscale1d": "pescitrain.problems.multiscale:Multiscale1D",
    "multiscale2d": "pescitrain.problems.multiscale:Multiscale2D",
    "multiscale_mesh": "pescitrain.problems.multiscale:MultiscaleMesh",
    "heat1d": "pescitrain.problems.heat1d:Heat1D",
    "spirals": "pescitrain.problems.spirals:Spirals",
    "smiley": "pescitrain.problems.smiley:Smiley",
    "signals": "pescitrain.problems.signals:Signals",
    "borehole": "pescitrain.problems.borehole:Borehole",
    "diffusion_absorption": "pescitrain.problems.diffusion_absorption:DiffusionAbsorption",
    "deeponet": "pescitrain.problems.deeponet:DeepONet",
    "advection_operator": "pescitrain.problems.advection_operator:AdvectionOperator",
    "diffusion_operator": "pescitrain.problems.diffusion_operator:DiffusionOperator",
}
"""Name -> ``module:Class``; a module is imported when its problem is asked for."""


def load(name: str) -> type[Problem]:
    """The class of a shipped problem.

    Raises
    ------
    OptionError     there is no such problem; the text has the nearest name and all of them

    >>> load("burgers").coordinates
    ('x', 't')
    """
    if name not in SHIPPED:
        near = difflib.get_close_matches(name, SHIPPED, n=1, cutoff=0.5)
        hint = f" did you mean {near[0]!r}?" if near else ""
        raise OptionError(
            f"-problem {name}: no such problem;{hint} there are {', '.join(SHIPPED)}; "
            "for one of your own say path/to/file.py:Class"
        )
    module, _, attribute = SHIPPED[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
