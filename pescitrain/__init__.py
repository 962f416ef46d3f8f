"""Train scientific networks the way PETSc solves equations."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pescitrain.coupling.exchange import Exchange as Exchange
    from pescitrain.coupling.host_equations import PETScResidual as PETScResidual
    from pescitrain.coupling.initial_guess import InitialGuess as InitialGuess
    from pescitrain.coupling.network_pc import NetworkPC as NetworkPC
    from pescitrain.coupling.pointwise_law import AddedTendency as AddedTendency
    from pescitrain.coupling.pointwise_law import PointwiseLaw as PointwiseLaw
    from pescitrain.coupling.problems import HostProblem as HostProblem
    from pescitrain.coupling.problems import SnapshotProblem as SnapshotProblem
    from pescitrain.coupling.solver import Result as Result
    from pescitrain.coupling.solver import Solver as Solver
    from pescitrain.errors import EvaluationError as EvaluationError
    from pescitrain.errors import MeshError as MeshError
    from pescitrain.errors import OptionError as OptionError
    from pescitrain.errors import PescitrainError as PescitrainError
    from pescitrain.errors import ProblemError as ProblemError
    from pescitrain.errors import RestartError as RestartError
    from pescitrain.errors import SnapshotError as SnapshotError
    from pescitrain.geometry import Box as Box
    from pescitrain.geometry import Mesh as Mesh
    from pescitrain.problem import Classes as Classes
    from pescitrain.problem import ClassificationProblem as ClassificationProblem
    from pescitrain.problem import Data as Data
    from pescitrain.problem import Dirichlet as Dirichlet
    from pescitrain.problem import Initial as Initial
    from pescitrain.problem import LabelledData as LabelledData
    from pescitrain.problem import Lifting as Lifting
    from pescitrain.problem import Neumann as Neumann
    from pescitrain.problem import Operator as Operator
    from pescitrain.problem import OperatorData as OperatorData
    from pescitrain.problem import OperatorProblem as OperatorProblem
    from pescitrain.problem import OperatorSets as OperatorSets
    from pescitrain.problem import Periodic as Periodic
    from pescitrain.problem import Problem as Problem
    from pescitrain.problem import Quantities as Quantities
    from pescitrain.problem import RegressionData as RegressionData
    from pescitrain.problem import RegressionProblem as RegressionProblem
    from pescitrain.problem import Residual as Residual
    from pescitrain.problem import Robin as Robin
    from pescitrain.problem import Unknown as Unknown
    from pescitrain.run.model import load_model as load_model
    from pescitrain.snapshots.collection import Snapshots as Snapshots

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(
        (
            "EvaluationError",
            "MeshError",
            "OptionError",
            "PescitrainError",
            "ProblemError",
            "RestartError",
            "SnapshotError",
        ),
        "errors",
    ),
    **dict.fromkeys(("Box", "Mesh"), "geometry"),
    **dict.fromkeys(
        (
            "Classes",
            "ClassificationProblem",
            "Data",
            "Dirichlet",
            "Initial",
            "LabelledData",
            "Lifting",
            "Neumann",
            "Operator",
            "OperatorData",
            "OperatorProblem",
            "OperatorSets",
            "Periodic",
            "Problem",
            "Quantities",
            "RegressionData",
            "RegressionProblem",
            "Residual",
            "Robin",
            "Unknown",
        ),
        "problem",
    ),
    "Snapshots": "snapshots.collection",
    "load_model": "run.model",
    "PETScResidual": "coupling.host_equations",
    "Exchange": "coupling.exchange",
    "InitialGuess": "coupling.initial_guess",
    "NetworkPC": "coupling.network_pc",
    **dict.fromkeys(("AddedTendency", "PointwiseLaw"), "coupling.pointwise_law"),
    **dict.fromkeys(("HostProblem", "SnapshotProblem"), "coupling.problems"),
    **dict.fromkeys(("Result", "Solver"), "coupling.solver"),
}
"""Public name -> where it is defined; imported when it is asked for, so that the command sets its threads first."""

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pescitrain' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pescitrain.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
