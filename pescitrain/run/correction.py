"""A network that is trained on what the stages before it have left: multi-stage refinement."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from pescitrain.errors import OptionError
from pescitrain.networks import Network
from pescitrain.problem import OperatorProblem
from pescitrain.run.build import Setup, build_in
from pescitrain.run.options import NetworkOptions, Settings, read


def correct(setup: Setup, settings: Settings, prefix: str, network: int, scale: float) -> Setup:
    """The system of u = u₀ + scale · N with u₀ the surrogate of ``setup`` as it is, and N a new network. Collective.

    The network is that of ``-<prefix>net_*``, at its random start. Unknown coefficients go on.

    Raises
    ------
    OptionError     the problem's own network is not a new one at each call, or the problem is an operator
    """
    if isinstance(setup.problem, OperatorProblem):
        raise OptionError(f"-{prefix}net_correction: problem {setup.problem.name} learns an operator and takes none")
    for parameter in setup.surrogate.parameters():
        parameter.requires_grad_(False)
    own = dataclasses.asdict(read(NetworkOptions, prefix, vars(settings)))
    unknowns = {name: float(u.detach()[0]) for name, u in setup.evaluator.parameters.unknowns.items()}
    corrected = build_in(
        setup.domain,
        setup.problem,
        dataclasses.replace(settings, **own),
        setup.system.layout.comm,
        setup.surrogate.corrected_by(scale),
        unknowns,
        network,
    )
    before = {id(parameter) for parameter in setup.surrogate.parameters()}
    if before & {id(parameter) for parameter in corrected.surrogate.networks.parameters()}:
        raise OptionError(
            f"-{prefix}net_correction: build_network() of problem {setup.problem.name} gives the network that is to be "
            "corrected; it must make a new one at each call"
        )
    corrected.surrogate.corrects = setup.surrogate
    corrected.evaluator.counters, corrected.evaluator.arithmetic = setup.evaluator.counters, setup.evaluator.arithmetic
    return corrected


def start_at_zero(setup: Setup) -> None:
    """Make the output layers of the networks zero: the surrogate is then the one that is corrected.

    A module of the problem's own starts at random.
    """
    for network in setup.surrogate.networks.values():
        if isinstance(network, Network):
            named = dict(network.named_parameters())
            for name, part in network.output_parts().items():
                named[name].data.view(-1)[part] = 0.0


def residual_scale(setup: Setup, prepare: Callable[[Setup], None], correct: Callable[[float], Setup]) -> float:
    """ε for which ε N, with N of size one, changes the residual by as much as there is of it. Collective.

    √(φ(u₀) / φ(u₀ + N)) for the random N at the start of the new network (the magnitude of Wang & Lai, J. Comput. Phys.
    504 (2024) 112865, measured through the equations). ``prepare`` puts a setup onto the present points.

    Raises
    ------
    OptionError     nothing is left to correct, or the residual of the trial is not finite
    """
    left = setup.evaluator.objective(setup.evaluator.parameters.current()).objective
    trial = correct(1.0)
    prepare(trial)
    whole = trial.evaluator.objective(trial.evaluator.parameters.current()).objective
    trial.destroy()
    if not (0.0 < left < math.inf and whole < math.inf):
        raise OptionError(f"a correction cannot be scaled: the objective is {left:g} without it and {whole:g} with it")
    return math.sqrt(left / whole)
