"""G: a point to the point where its blocks have been trained, one after the other or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra import Block, System
from pescitrain.algebra.options import get_choice, set_default
from pescitrain.evaluation.local_samples import LocalSamples
from pescitrain.solvers.outcome import Memory
from pescitrain.solvers.schwarz.coarse import COARSE, create_coarse_step
from pescitrain.solvers.schwarz.local import Correction, LocalProblem, LocalProblems
from pescitrain.solvers.schwarz.search import Point, point_at
from pescitrain.solvers.schwarz.synchronisation import SYNCHRONISATIONS, WEIGHTS, Synchronisation, weights_of

KINDS = ("additive", "multiplicative", "hybrid")
ORDERS = ("forward", "backward", "symmetric", "random")
MEMORIES = ("restart", "keep")
ACCEPTS = ("search", "copy")

PRESETS: dict[str, dict[str, object]] = {
    "none": {},
    "aspqn": {"kind": "additive", "sync": "single", "history": 3, "momentum": 0.9, "local_steps": 50},
    "mspqn": {"kind": "multiplicative", "history": 3, "momentum": 0.9, "local_steps": 50},
    "two_level": {"kind": "additive", "sync": "subdomain", "coarse": "first", "memory": "keep"},
    "subspace": {"kind": "additive", "sync": "subspace"},
}
"""Defaults that go together; what the user says about one of them wins."""


class NonlinearSchwarz:
    """A coarse step, then local solves of all blocks: from one point and joined, or each from where the last ended.

    additive        all blocks from the same point; :class:`Synchronisation` joins their corrections
    multiplicative  one block after the other, all ranks on each
    hybrid          the blocks of odd number side by side, then those of even number; of subdomains by colours: blocks
                    of one share no sample, so that the corrections add up and it is multiplicative

    Construction is collective.

    Parameters
    ----------
    system : System
    prefix : str        of the inner solvers ``sub_``, ``coarse_``, ``sync_``
    family : str        "tao_spqn_" or "snes_spqn_": the first words of its own options, after the prefix

    Raises
    ------
    OptionError
    """

    def __init__(self, system: System, prefix: str, family: str) -> None:
        self.system, name = system, f"{prefix}{family}"
        preset = preset_of(prefix, family)

        def choice(key: str, default: str, choices: Sequence[str]) -> str:
            return get_choice(f"{name}{key}", str(preset.get(key, default)), choices)

        self.kind, self.order = choice("kind", "additive", KINDS), choice("order", "forward", ORDERS)
        self.keep = choice("memory", "restart", MEMORIES) == "keep"
        few = "subdomain" if system.couplings is None else "copy" if self.kind == "hybrid" else "single"
        sync, weights = choice("sync", few, SYNCHRONISATIONS), choice("weights", "average", WEIGHTS)
        coarse, accept = choice("coarse", "none", COARSE), choice("coarse_accept", "search", ACCEPTS)
        for inner in ("sub_", "coarse_"):
            local_defaults(f"{prefix}{inner}", preset)
        set_default(f"{prefix}sub_tao_max_it", preset.get("local_steps", 10))
        set_default(f"{prefix}coarse_tao_max_it", 5)
        self._said: set[str] = set()
        self.coarse_step = create_coarse_step(coarse, accept, system, system.blocks, prefix)
        self.in_turn: list[LocalProblem] = []
        self.together: list[tuple[LocalProblems, Synchronisation]] = []
        if self.kind == "multiplicative":
            samples = LocalSamples.of(system.evaluator)
            self.in_turn = [LocalProblem(system, block, f"{prefix}sub_", samples) for block in system.blocks]
            return
        colours = _colours(system) if self.kind == "hybrid" else [system.blocks]
        for blocks in colours:
            weight = weights_of(weights, blocks, system.layout.size)
            synchronisation = Synchronisation(sync, weight, system, prefix, self.notice)
            self.together.append((LocalProblems(system, blocks, f"{prefix}sub_"), synchronisation))

    def apply(self, here: Point, draw: int) -> Point:
        """G(θ), with φ and ∇φ there. Collective. ``draw``: the number of the random order."""
        if self.coarse_step is not None:
            here = self.coarse_step.move(here, self.keep)
        theta, known = here.theta, here
        for problem in self._sequence(draw):
            if problem.sees_all and known is None:
                known = point_at(self.system, theta)
            correction = problem.solve(theta, known, self.keep)
            self.system.evaluator.counters.add(correction.cost)
            self._say_troubles([correction])
            if correction.change.any():
                theta, known = theta + correction.change, None
        here = point_at(self.system, theta) if known is None else known
        for problems, synchronisation in self.together:
            corrections = problems.solve(here, self.keep)
            self.system.evaluator.counters.add_concurrent([correction.cost for correction in corrections])
            self._say_troubles(corrections)
            here = synchronisation.join(here, [correction.change for correction in corrections])
        return here

    def _sequence(self, draw: int) -> list[LocalProblem]:
        """The blocks in turn, in the order of this time."""
        problems = self.in_turn
        if self.order == "backward":
            return problems[::-1]
        if self.order == "symmetric":
            return problems + problems[-2::-1]
        if self.order == "random":
            return [problems[k] for k in np.random.default_rng(draw).permutation(len(problems))]
        return problems

    def _say_troubles(self, corrections: Sequence[Correction]) -> None:
        for correction in corrections:
            if correction.trouble:
                self.notice(f"block {correction.name} had no correction in an iteration: {correction.trouble}")

    def notice(self, text: str) -> None:
        """Say it on the screen, once."""
        if text not in self._said:
            self._said.add(text)
            PETSc.Sys.Print(f"note: {text} (said once)", comm=self.system.layout.comm)

    def save(self) -> Memory:
        """The memories of the local and the coarse solves, where they are kept. Collective."""
        if not self.keep:
            return {}
        memories = [problem.memory for problem in self.in_turn]
        for problems, _ in self.together:
            memories += problems.save()
        known = {f"{place}": own for place, own in enumerate(memories)}
        if self.coarse_step is not None:
            known["coarse"] = self.coarse_step.memory
        return {f"{place} {key}": arrays for place, own in known.items() for key, arrays in own.items()}

    def restore(self, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        if self.coarse_step is not None:
            self.coarse_step.restore(under("coarse ", memory))
        place = 0
        for problem in self.in_turn:
            problem.memory, place = under(f"{place} ", memory), place + 1
        for problems, _ in self.together:
            problems.restore([under(f"{place + k} ", memory) for k in range(problems.count)])
            place += problems.count

    def destroy(self) -> None:
        """Collective."""
        for problem in (*self.in_turn, *(problems for problems, _ in self.together)):
            problem.destroy()
        if self.coarse_step is not None:
            self.coarse_step.destroy()


def preset_of(prefix: str, family: str) -> Mapping[str, object]:
    """What ``-<prefix><family>preset`` names.

    Raises
    ------
    OptionError
    """
    return PRESETS[get_choice(f"{prefix}{family}preset", "none", tuple(PRESETS))]


def local_defaults(prefix: str, preset: Mapping[str, object]) -> None:
    """Below what the user says about an inner solver: L-BFGS, as a preset has it, that stops at its iterations."""
    set_default(f"{prefix}tao_type", "lbfgs")
    for key in ("history", "momentum"):
        if key in preset:
            set_default(f"{prefix}tao_lbfgs_{key}", preset[key])
    for key in ("gatol", "grtol", "gttol", "steptol"):
        set_default(f"{prefix}tao_{key}", 0)


def under(prefix: str, memory: Memory) -> Memory:
    """The entries of a memory whose names begin with a prefix, without it."""
    return {key.removeprefix(prefix): arrays for key, arrays in memory.items() if key.startswith(prefix)}


def _colours(system: System) -> list[list[Block]]:
    """Every other block, so that neighbours without overlap are in different sets; of subdomains sets of blocks that
    meet at no sample, each block in the first that it fits (greedy colouring)."""
    blocks = system.blocks
    if system.couplings is None:
        return [half for half in (list(blocks[::2]), list(blocks[1::2])) if half]
    starts = np.array([layer.start for layer in system.layout.layers])
    colours: list[list[Block]] = []
    reached: list[set[int]] = []
    for block in blocks:
        own = set(np.flatnonzero(np.isin(starts, block.active)).tolist())
        place = next((k for k, taken in enumerate(reached) if not own & taken), len(colours))
        if place == len(colours):
            colours.append([])
            reached.append(set())
        colours[place].append(block)
        reached[place].update(int(other) for number in own for other in system.couplings.coupled[number])
    return colours
