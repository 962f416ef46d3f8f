"""Nested iteration: the coarsest network is trained first, and what it has learnt is where the next finer one starts.

``-hier_nested`` makes a stage ``level_0``, ``level_1``, … of each of the ``-hier_levels`` networks, the coarsest first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.hierarchy import Coarsening, coarsen, finest_level, on_every_rank
from pescitrain.errors import OptionError
from pescitrain.run.build import Array, Setup
from pescitrain.run.options import RunOptions, Settings, StageOptions, read


def translate_grid_sequence() -> None:
    """``-snes_grid_sequence n`` is nested iteration over n + 1 networks: PETSc would solve on DMs and know no stages.

    Raises
    ------
    OptionError     it contradicts ``-hier_levels``
    """
    options = PETSc.Options()
    if not options.hasName("snes_grid_sequence"):
        return
    levels = options.getInt("snes_grid_sequence") + 1
    if options.hasName("hier_levels") and options.getInt("hier_levels") != levels:
        raise OptionError(
            f"-snes_grid_sequence {levels - 1} is about {levels} networks, -hier_levels about another number"
        )
    options.delValue("snes_grid_sequence")
    options["hier_nested"], options["hier_levels"] = True, levels


def stage_names() -> tuple[str, ...]:
    """The stages of a run: those of ``-stages``, or the levels of ``-hier_nested``.

    Raises
    ------
    OptionError     both, a hierarchy of one level, or a name twice
    """
    options = read(RunOptions)
    if not options.hier_nested:
        twice = [name for name in options.stages if options.stages.count(name) > 1]
        if twice:
            raise OptionError(
                f"-stages {','.join(options.stages)}: {twice[0]} is there twice; give each a name of its own"
            )
        return options.stages
    levels = read(StageOptions).hier_levels
    if options.stages:
        raise OptionError("-hier_nested makes stages of its own, level_0, level_1, …: leave out -stages")
    if levels < 2:
        raise OptionError(f"-hier_nested with -hier_levels {levels}: nested iteration needs 2 networks or more")
    return tuple(f"level_{level}" for level in range(levels))


def coarsening_of(name: str) -> Coarsening:
    """What ``-hier_type`` names."""
    return "depth" if name == "depth" else "width" if name == "width" else "both"


def settings_of_level(settings: Settings, below: int) -> Settings:
    """The settings of the network that is ``below`` levels below the finest one.

    Raises
    ------
    OptionError     there is nothing left to coarsen
    """
    if settings.net_type == "subdomain":
        raise OptionError(
            "-hier_nested: networks in subdomains have no coarser ones; give a coarse level by -net_subdomains 1,4"
        )
    if settings.net_train == "output":
        raise OptionError("-net_train output: -hier_nested hands hidden layers on from network to network; use all")
    kind = coarsening_of(read(StageOptions).hier_type)
    basis = settings.net_basis or settings.net_width
    for level in range(below):
        width, depth = settings.net_width, settings.net_depth
        if kind in ("width", "both"):
            width = (width + 1) // 2
        if kind in ("depth", "both"):
            depth = 1 + depth // 2 if depth > 1 else depth
        if (width, depth) == (settings.net_width, settings.net_depth):
            raise OptionError(
                f"-hier_type {kind}: a network of {depth} hidden layers of {width} cannot be coarsened further; lower "
                f"-hier_levels to {level + 1}"
            )
        settings = dataclasses.replace(settings, net_width=width, net_depth=depth, net_basis=basis)
    return settings


def refined(coarse: Setup, fine: Setup, theta: Array, seed: int) -> Array:
    """The parameters (n_fine,) of a finer network that make it the coarse one, or near to it. Collective.

    Outgoing weights of a neuron are shared unequally between the two that it becomes, as equal ones would stay alike.

    Raises
    ------
    OptionError     the networks are not of one hierarchy: a problem gives its own
    """
    kind = coarsening_of(read(StageOptions).hier_type)
    linear = read(StageOptions).hier_prolongation == "linear"
    level, prolongation = coarsen(finest_level(fine.system.layout), kind, np.random.default_rng(seed), linear)
    try:
        if level.layout.size != coarse.system.layout.size:
            raise OptionError(f"-hier_nested: problem {fine.problem.name} gives networks of its own, of one size")
        return on_every_rank(prolongation) @ theta
    finally:
        prolongation.destroy()
