"""Operator learning: a map from functions to functions, by a network for each of the two (a DeepONet).

Source: Lu et al., Nature Machine Intelligence 3 (2021) 218–229.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from mpi4py import MPI
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from pescitrain.errors import ProblemError
from pescitrain.geometry import Box, box_around
from pescitrain.networks.fixed_basis import FixedBasis
from pescitrain.problem.field import ByName
from pescitrain.problem.problem import Problem
from pescitrain.problem.surrogate import Surrogate
from pescitrain.problem.terms import Rows, Term

Array = NDArray[np.float64]

BRANCH, TRUNK = "branch", "trunk"


class OperatorData:
    """What N input functions are mapped to, at K locations that all of them share.

    Parameters
    ----------
    inputs : (N, s)         what the branch sees of each input function: its values at sensors, or parameters
    locations : (K, d)      coordinates
    values : (N, K)         the output functions there
    comm : Intracomm        the locations and values are those of this rank, K of the :attr:`total_locations` of all;
                            None: all of them, the same on all ranks. Collective where it is given.

    Raises
    ------
    ProblemError            shapes that do not fit, NaN, infinity, an output function that is zero everywhere
    """

    def __init__(
        self, inputs: ArrayLike, locations: ArrayLike, values: ArrayLike, comm: MPI.Intracomm | None = None
    ) -> None:
        self.comm = comm
        self.inputs: Array = np.asarray(inputs, dtype=np.float64)
        self.locations: Array = np.asarray(locations, dtype=np.float64)
        self.values: Array = np.asarray(values, dtype=np.float64)
        self._agree(self._trouble())
        self.total_locations = int(self._sum(np.array(len(self.locations))))
        self.squares: Array = self._sum((self.values**2).sum(1))
        zero = np.flatnonzero(self.squares == 0.0)
        if self.total_locations == 0:
            raise ProblemError("operator data: no rank has a location")
        if zero.size:
            raise ProblemError(
                f"operator data: sample {zero[0]} is zero everywhere and has no relative error; remove such samples"
            )

    def _trouble(self) -> str:
        """What is wrong with this rank's arrays, or nothing."""
        shapes = f"inputs {self.inputs.shape}, locations {self.locations.shape}, values {self.values.shape}"
        if {array.ndim for array in (self.inputs, self.locations, self.values)} != {2}:
            return f"{shapes} must be (N, s), (K, d) and (N, K)"
        if self.values.shape != (len(self.inputs), len(self.locations)) or self.inputs.size == 0:
            return f"{shapes} do not fit; the values are (N, K), one for each pair"
        for name in ("inputs", "locations", "values"):
            if not np.isfinite(getattr(self, name)).all():
                return f"the {name} hold NaN or infinity; remove these samples"
        return ""

    def _agree(self, trouble: str) -> None:
        for text in [trouble] if self.comm is None else self.comm.allgather(trouble):
            if text:
                raise ProblemError(f"operator data: {text}")

    def _sum(self, part: NDArray[Any]) -> NDArray[Any]:
        """Over the ranks that hold the locations."""
        return part if self.comm is None else np.asarray(self.comm.allreduce(part))

    def __len__(self) -> int:
        """N."""
        return len(self.inputs)

    def mean_and_deviation(self) -> tuple[float, float]:
        """Of all values at all locations. Collective where they are distributed."""
        count = len(self) * self.total_locations
        mean = float(self._sum(self.values.sum())) / count
        return mean, float(np.sqrt(float(self._sum(((self.values - mean) ** 2).sum())) / count))

    def box(self, coordinates: Sequence[str]) -> Box:
        """The box of all locations. Collective where they are distributed."""
        return box_around(coordinates, self.locations, self.comm)


@dataclass(frozen=True)
class OperatorSets:
    """Samples of one operator, for an :class:`OperatorProblem` that takes them.

    Attributes
    ----------
    training, validation, test : OperatorData       test: None where there is none
    field : str                                     what the output functions are called
    """

    training: OperatorData
    validation: OperatorData
    test: OperatorData | None
    field: str


@dataclass
class Operator(Term):
    """u(a_i)(y_j) = s_ij for all pairs, relative to the size of s_i: the mean of ‖u(a_i) − s_i‖² / ‖s_i‖² is minimised.

    A sample is an input function; its K rows are those of the locations.
    """

    data: OperatorData

    def __post_init__(self) -> None:
        self.name = self.name or "operator"
        super().__post_init__()
        self.place = "points"

    def residual(self, known: dict[str, object]) -> Rows:
        raise ProblemError(f"term {self.label!r}: operator data go with an OperatorProblem")


class OperatorProblem(Problem):
    """Base of problems that learn an operator; ``coordinates`` are those of the locations, ``domain()`` is their box.

    The surrogate is u(a)(y) = offset + scale · Σ_j branch_j(a) · tanh(trunk_j(y)), the sum times :attr:`factor` where
    conditions are hard.
    Blocks of the Gauss–Newton matrix cost (N + K) p |block|² multiply-adds, which a preconditioner seldom earns back:
    without a word of the user there is none.
    """

    defaults: ClassVar[dict[str, Any]] = {"pc_type": "none"}

    factor = None
    """A function of coordinates by name that vanishes where every output function does, for ``-bc_enforce hard``."""

    offset: float = 0.0
    scale: float = 1.0
    """The outputs are offset + scale · (what the networks give); the offset is left out where conditions are hard."""

    nonlinear_inputs: ClassVar[int | None] = None
    """The map is linear in all inputs of the branch but the first so many, for ``-net_products``; None: in none."""

    def training(self) -> OperatorData:
        """The samples that are fitted."""
        raise ProblemError(f"problem {self.name} has no training(): return its OperatorData")

    def validation(self) -> OperatorData | None:
        """Other samples, on which errors are measured; None: no errors are."""
        raise ProblemError(f"problem {self.name} has no validation(): return OperatorData that are not trained on")

    def test(self) -> OperatorData | None:
        """Samples on which the error is measured once, at the end; None: there are none."""
        return None

    def on_data(self, sets: OperatorSets) -> None:
        """Called with the samples of ``-data_file`` before anything else is asked.

        Raises
        ------
        ProblemError        the problem has samples of its own
        """
        raise ProblemError(f"problem {self.name} has samples of its own and takes no -data_file; use -problem deeponet")

    def terms(self) -> Sequence[Term]:
        # Errors are relative to the size of a function, which says little where all of them are near a large mean.
        return [Operator(self.training(), weight=1.0 + (self.offset / self.scale) ** 2)]

    def standardise(self, data: OperatorData) -> None:
        """Take offset and scale from samples, so that networks give numbers of size one. Collective where they are.

        Functions with a factor vanish somewhere and have no offset.
        """
        mean, deviation = data.mean_and_deviation()
        size = float(np.hypot(mean, deviation))
        constant = deviation <= 1e-12 * size
        self.offset, self.scale = (mean, deviation) if self.factor is None and not constant else (0.0, size)

    def networks_of_fields(self) -> dict[str, tuple[str, ...]]:
        return {BRANCH: tuple(self.fields), TRUNK: ()}


class OperatorSurrogate(Surrogate):
    """A torch module: inputs (N, s), locations (K, d) -> (N, K).

    Parameters
    ----------
    problem : OperatorProblem
    networks : dict             "branch" (N, s) -> (N, p) and "trunk" (K, d) -> (K, p)
    inputs : int                s
    hard : bool                 with the factor of the problem

    Raises
    ------
    ProblemError                conditions are to be hard and the problem has no factor
    """

    def __init__(self, problem: OperatorProblem, networks: Mapping[str, nn.Module], inputs: int, hard: bool) -> None:
        super().__init__(problem, networks, None)
        self.arguments = {"inputs": inputs, "locations": len(self.coordinates)}
        self._factor = None
        self.offset, self.scale = 0.0 if hard else problem.offset, problem.scale
        # As tensors for what is exported: ONNX keeps numbers of Python in single precision.
        self._units: Tensor
        self.register_buffer("_units", torch.tensor([self.offset, self.scale], dtype=torch.float64), persistent=False)
        if hard:
            if problem.factor is None:
                raise ProblemError(f"-bc_enforce hard: problem {problem.name} has no factor(); use -bc_enforce soft")
            self._factor = ByName(problem.factor, f"the factor of problem {problem.name}")

    def factor(self, locations: Tensor) -> Tensor | None:
        """(K, d) -> (K,), or None where it is one."""
        if self._factor is None:
            return None
        return self._factor({name: locations[:, axis] for axis, name in enumerate(self.coordinates)})

    def forward(self, inputs: Tensor, locations: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        trunk = self.networks[TRUNK]
        basis = basis_functions(trunk, trunk(locations), self.factor(locations))
        offset = trunk.mean(locations) if isinstance(trunk, FixedBasis) else self._units[0]
        return offset + self._units[1] * (self.networks[BRANCH](inputs) @ basis.t())

    def offset_at(self, locations: Tensor) -> Tensor | float:
        """What is added to the sum: a number, or of a fixed basis its mean (K,)."""
        trunk = self.networks[TRUNK]
        return trunk.mean(locations) if isinstance(trunk, FixedBasis) else self.offset


class BasisFunctions(nn.Module):
    """The functions of the trunk of a surrogate as a torch module of their own: locations (K, d) -> (K, p)."""

    def __init__(self, surrogate: OperatorSurrogate) -> None:
        super().__init__()
        self.surrogate = surrogate

    def forward(self, locations: Tensor) -> Tensor:
        trunk = self.surrogate.networks[TRUNK]
        return basis_functions(trunk, trunk(locations), self.surrogate.factor(locations))


def basis_functions(trunk: nn.Module, outputs: Tensor, factor: Tensor | None) -> Tensor:
    """(K, p): the functions that the branch combines, from the outputs (K, p) of the trunk; a fixed basis is them."""
    basis = outputs if isinstance(trunk, FixedBasis) else torch.tanh(outputs)
    return basis if factor is None else factor.unsqueeze(1) * basis
