"""The networks that the options name, and the surrogate that they make."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pescitrain.errors import OptionError, ProblemError
from pescitrain.geometry import Box, Mesh
from pescitrain.networks import (
    MLP,
    FourierFeatures,
    Network,
    PeriodicFeatures,
    ProductNetwork,
    ResNet,
    ScaleToUnitBox,
    SubdomainNetwork,
)
from pescitrain.networks.bisection_windows import BisectionWindows
from pescitrain.networks.fixed_basis import FixedBasis
from pescitrain.networks.network import ExtraFeatures
from pescitrain.networks.windows import BoxWindows, Levels, Windows
from pescitrain.problem import (
    Lifting,
    OperatorData,
    OperatorProblem,
    OperatorSurrogate,
    Problem,
    Surrogate,
)
from pescitrain.problem.field import ByName
from pescitrain.problem.operator import BRANCH, TRUNK
from pescitrain.problem.pod import leading_modes
from pescitrain.problem.surrogate import network_outputs
from pescitrain.run.options import Settings

Array = NDArray[np.float64]


def bounding_box(problem: Problem, domain: Box | Mesh) -> tuple[list[float], list[float]]:
    """Lower and upper corner of a box around the domain."""
    if isinstance(domain, Box):
        return list(domain.lower), list(domain.upper)
    lower, upper = domain.box
    return lower.tolist(), upper.tolist()


def idle_options(settings: Settings) -> list[str]:
    """A sentence for each option of networks in subdomains that is given to a network of another type."""
    defaults = Settings()
    return [
        f"-{name} has no effect with -net_type {settings.net_type}; it is for subdomain"
        for name in ("net_subdomains", "net_partition", "net_overlap", "net_overlap_cells")
        if settings.net_type != "subdomain" and getattr(settings, name) != getattr(defaults, name)
    ]


def create_surrogate(
    problem: Problem, settings: Settings, domain: Box | Mesh, lifting: Lifting | None, network: int
) -> Surrogate:
    """The surrogate of a problem with new networks, the same on all ranks for a seed."""
    if isinstance(problem, OperatorProblem):
        data = problem.training()
        networks = create_operator_networks(problem, settings, domain, data, network)
        return OperatorSurrogate(problem, networks, data.inputs.shape[1], settings.bc_enforce == "hard")
    if settings.net_trunk != "network":
        raise OptionError(
            f"-net_trunk {settings.net_trunk}: problem {problem.name} learns no operator and has no trunk"
        )
    return Surrogate(problem, create_networks(problem, settings, domain, lifting, network), lifting)


def create_operator_networks(
    problem: OperatorProblem, settings: Settings, domain: Box | Mesh, data: OperatorData, network: int = 0
) -> dict[str, nn.Module]:
    """Branch and trunk with ``-net_basis`` outputs each; the branch sees the inputs as of mean zero and deviation one.

    The trunk is a network, or the leading modes of the outputs.
    """
    if settings.net_type == "subdomain":
        raise OptionError("-net_type subdomain: an operator has a branch and a trunk, which are mlp or resnet")
    if settings.net_train == "output":
        raise OptionError(
            "-net_train output: an operator is a product of branch and trunk, not linear in both output layers; use all"
        )
    generator = torch.Generator().manual_seed(settings.seed + network)
    outputs, inputs = settings.net_basis or settings.net_width, data.inputs
    mean, deviation = inputs.mean(0), inputs.std(0)
    deviation = np.where(deviation > 0.0, deviation, 1.0)
    standard = ScaleToUnitBox((mean - deviation).tolist(), (mean + deviation).tolist())
    fixed = None
    if settings.net_trunk == "pod":
        if settings.bc_enforce == "hard":
            raise OptionError(
                "-net_trunk pod has the conditions of the data that it is made from; use -bc_enforce soft"
            )
        locations, mean, modes = leading_modes(data, outputs)
        fixed, outputs = FixedBasis(locations, mean, modes / problem.scale), modes.shape[1]
    networks: dict[str, nn.Module] = {}
    for name in (BRANCH, TRUNK):
        own = problem.build_network(name) if fixed is None or name == BRANCH else fixed
        if own is None and name == BRANCH and settings.net_products:
            own = _product(problem, settings, standard, outputs, generator)
        elif own is None and name == BRANCH:
            own = _chain(settings, standard, standard.outputs, outputs, generator)
        networks[name] = own or _network(problem, settings, domain, outputs, generator)
        if not isinstance(networks[name], Network):
            raise ProblemError(f"problem {problem.name}: build_network({name!r}) must give a pescitrain Network")
    return networks


def _product(
    problem: OperatorProblem, settings: Settings, standard: ScaleToUnitBox, outputs: int, generator: torch.Generator
) -> ProductNetwork:
    """The branch of ``-net_products``."""
    gains = problem.nonlinear_inputs
    if gains is None or not 0 < gains < standard.outputs:
        raise OptionError(
            f"-net_products {settings.net_products}: problem {problem.name} does not say in which inputs it is linear "
            "(nonlinear_inputs); leave it out"
        )
    sizes = (standard.outputs, outputs, settings.net_width, settings.net_depth, gains, settings.net_products)
    return ProductNetwork(standard, *sizes, settings.net_activation, generator)


def create_networks(
    problem: Problem, settings: Settings, domain: Box | Mesh, lifting: Lifting | None, network: int = 0
) -> dict[str, nn.Module]:
    """One network for each entry of the problem's mapping, the same on all ranks for a seed."""
    generator = torch.Generator().manual_seed(settings.seed + network)
    networks: dict[str, nn.Module] = {}
    for name, fields in problem.networks_of_fields().items():
        own = problem.build_network(name)
        outputs = network_outputs(fields, lifting)
        networks[name] = own if own is not None else _network(problem, settings, domain, outputs, generator)
        if settings.net_train == "output":
            _freeze_hidden(problem, name, networks[name])
    return networks


def _freeze_hidden(problem: Problem, name: str, network: nn.Module) -> None:
    """What ``-net_train output`` asks for."""
    if not isinstance(network, Network) or not network.output_parts():
        raise OptionError(
            f"-net_train output: the network {name!r} that problem {problem.name} builds has no output layer that is "
            "known; use all"
        )
    network.freeze_hidden()


def _network(
    problem: Problem, settings: Settings, domain: Box | Mesh, outputs: int, generator: torch.Generator
) -> Network:
    if settings.net_type == "subdomain":
        return _subdomains(problem, settings, domain, outputs, generator)
    scaling = ScaleToUnitBox(*bounding_box(problem, domain))
    embedding: ScaleToUnitBox | FourierFeatures | PeriodicFeatures | ExtraFeatures = scaling
    if problem.periodic:
        if len(problem.periodic) > 1 or settings.net_fourier:
            raise OptionError("a periodic coordinate goes with one period and without -net_fourier")
        ((coordinate, period),) = problem.periodic.items()
        axis = list(problem.coordinates).index(coordinate)
        embedding = PeriodicFeatures(scaling, axis, period, settings.net_periodic_modes)
    elif settings.net_fourier:
        embedding = FourierFeatures(scaling, settings.net_fourier, settings.net_fourier_scale, generator)
    if problem.features is not None:
        embedding = ExtraFeatures(embedding, *_features(problem))
    return _chain(settings, embedding, embedding.outputs, outputs, generator)


def _subdomains(
    problem: Problem, settings: Settings, domain: Box | Mesh, outputs: int, generator: torch.Generator
) -> SubdomainNetwork:
    """What ``-net_type subdomain`` asks for."""
    if problem.periodic or settings.net_fourier or settings.net_adaptive_slope or problem.features is not None:
        raise OptionError(
            "-net_type subdomain takes the coordinates as they are: it goes with no -net_fourier, no "
            "-net_adaptive_slope, no periodic coordinate and no features of the problem"
        )
    levels = [_windows(word, problem, settings, domain) for word in settings.net_subdomains]
    windows = levels[0] if len(levels) == 1 else Levels(levels)
    sizes = (outputs, settings.net_width, settings.net_depth)
    return SubdomainNetwork(windows, *sizes, settings.net_activation, generator)


def _windows(word: str, problem: Problem, settings: Settings, domain: Box | Mesh) -> Windows:
    """One level of ``-net_subdomains``."""
    if settings.net_partition == "grid":
        if settings.net_overlap_cells is not None:
            raise OptionError(
                f"-net_overlap_cells {settings.net_overlap_cells}: boxes of a grid follow no cells; use -net_overlap, "
                "or -net_partition mesh"
            )
        lower, upper = bounding_box(problem, domain)
        return BoxWindows(lower, upper, _shape(word, len(lower)), settings.net_overlap)
    if isinstance(domain, Box):
        raise OptionError(
            f"-net_partition mesh: problem {problem.name} lives in a box and has no mesh; use -net_partition grid"
        )
    if not word.isdigit() or int(word) < 1:
        raise OptionError(f"-net_subdomains {word}: give one number of parts of the mesh, 1 or more, as 16")
    cells = list(domain.cells.values())
    return BisectionWindows(domain.nodes, cells, int(word), settings.net_overlap, settings.net_overlap_cells)


def _shape(word: str, dimension: int) -> tuple[int, ...]:
    """Of one level of ``-net_subdomains``."""
    numbers = word.split("x")
    if not all(number.isdigit() and int(number) > 0 for number in numbers) or len(numbers) not in (1, dimension):
        example = "x".join(["4"] * dimension)
        raise OptionError(
            f"-net_subdomains {word}: give one number of boxes, 1 or more, or one for each of the {dimension} "
            f"coordinates, as {example}"
        )
    return tuple(int(number) for number in numbers) if len(numbers) == dimension else (int(word),) * dimension


def _chain(
    settings: Settings, embedding: nn.Module, inputs: int, outputs: int, generator: torch.Generator
) -> MLP | ResNet:
    """What ``-net_type`` names."""
    common = (embedding, inputs, outputs, settings.net_width, settings.net_depth)
    if settings.net_type == "resnet":
        return ResNet(*common, settings.net_activation, settings.net_adaptive_slope, settings.net_final_time, generator)
    return MLP(*common, settings.net_activation, settings.net_adaptive_slope, generator)


def _features(problem: Problem):
    assert problem.features is not None
    by_name = ByName(problem.features, f"the features of problem {problem.name}")

    def features(x: Tensor) -> Tensor:
        values = by_name({name: x[:, axis] for axis, name in enumerate(problem.coordinates)})
        return torch.stack(list(values) if isinstance(values, tuple | list) else [values], dim=-1)

    return features, features(torch.ones(1, len(problem.coordinates), dtype=torch.float64)).shape[1]
