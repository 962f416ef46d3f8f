"""The table of shipped problems, their parameters, and that a few iterations of training help each of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from mpi4py import MPI
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.errors import MeshError, OptionError, ProblemError
from pescitrain.evaluation import Evaluator, SamplingPlan, sample_terms
from pescitrain.geometry import Box, Mesh, Sampling
from pescitrain.networks import MLP, ScaleToUnitBox
from pescitrain.networks.parameters import FlatParameters
from pescitrain.problem import (
    ClassificationProblem,
    OperatorProblem,
    Problem,
    RegressionProblem,
    Residual,
    Surrogate,
)
from pescitrain.problem.surrogate import network_outputs
from pescitrain.problems import SHIPPED, load
from pescitrain.solvers.outcome import GaussNewtonSettings
from pescitrain.solvers.tao import TaoSolver


def test_a_misspelt_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(OptionError, match=r"'burgers'.*klein_gordon"):
        load("burger")


FROM_A_FILE = {"deeponet"}


def test_what_learns_from_a_file_says_so() -> None:
    problem = load("deeponet")()
    for ask in (problem.domain, problem.terms):
        with pytest.raises(ProblemError, match="learns from snapshots: give a file of them by -data_file"):
            ask()


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in FROM_A_FILE])
def test_a_problem_says_what_the_command_needs(name: str) -> None:
    problem = load(name)()
    assert problem.terms()
    assert problem.networks_of_fields()
    assert (problem.domain() is None) == (problem.mesh is not None)
    known = problem.exact is not None or problem.reference() is not None
    from_data = OperatorProblem | ClassificationProblem | RegressionProblem
    assert known or (isinstance(problem, from_data) and len(problem.validation()))
    if problem.defaults.get("bc_enforce") == "hard":
        assert problem.lifting() is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_parameters_are_plain_numbers_and_words(name: str) -> None:
    problem = load(name)
    for field in fields(problem) if is_dataclass(problem) else ():
        assert field.type in ("float", "int", "str", "bool")


def test_a_reference_file_belongs_to_the_default_parameters() -> None:
    assert load("elasticity")().reference() == "elastic_plate_ref.vtu"
    assert load("elasticity")(young=2.0).reference() is None
    assert load("heat_two_materials")(source=1.0).reference() is None


def test_senseless_parameters_are_refused() -> None:
    with pytest.raises(ProblemError, match="1 or more"):
        load("helmholtz")(waves=0)


# ------------------------------------------------------------------------------------------------- poisson on any mesh


def conditions(problem: Problem) -> list[tuple[str, str | tuple[str, ...]]]:
    return [(type(term).__name__, term.on) for term in problem.terms() if not isinstance(term, Residual)]  # type: ignore


def on_mesh(meshes: Path, name: str, **parameters: str) -> Problem:
    problem = load("poisson")(**parameters)
    problem.on_mesh(Mesh.read(meshes / name))
    return problem


def test_poisson_holds_the_hole_and_insulates_the_rest(meshes: Path) -> None:
    expected = [("Dirichlet", ("hole",)), ("Neumann", ("outer",))]
    assert conditions(on_mesh(meshes, "plate_with_hole.msh")) == expected
    assert conditions(load("poisson")()) == expected


def test_poisson_without_a_hole_holds_the_whole_boundary(meshes: Path) -> None:
    assert conditions(on_mesh(meshes, "lshape.msh")) == [("Dirichlet", ("boundary",))]
    assert conditions(on_mesh(meshes, "two_materials.msh")) == [("Dirichlet", ("boundary",))]


def test_poisson_takes_names_and_leaves_interfaces_alone(meshes: Path) -> None:
    problem = on_mesh(meshes, "two_materials.msh", dirichlet="left+right")
    assert conditions(problem) == [("Dirichlet", ("left", "right")), ("Neumann", ("insulated",))]


def test_poisson_refuses_a_boundary_that_is_not_there(meshes: Path) -> None:
    with pytest.raises(MeshError, match="did you mean 'hole'"):
        on_mesh(meshes, "plate_with_hole.msh", dirichlet="holes")


def test_poisson_takes_the_dimension_of_the_mesh() -> None:
    problem = load("poisson")()
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    problem.on_mesh(Mesh(corners, {"tetra": [[0, 1, 2, 3]]}))
    assert problem.coordinates == ("x", "y", "z")


# ------------------------------------------------------------------------------------------------------ short training


def small_system(problem: Problem, meshes: Path) -> System:
    """A network of 2 × 10 on few points, with the conditions that the problem prefers."""
    domain: Box | Mesh | None = problem.domain()
    if domain is None:
        assert problem.mesh is not None
        domain = Mesh.read(meshes / problem.mesh)
        problem.on_mesh(domain)
        lower, upper = domain.nodes.min(0).tolist(), domain.nodes.max(0).tolist()
    else:
        lower, upper = domain.lower, domain.upper
    lifting = problem.lifting() if problem.defaults.get("bc_enforce") == "hard" else None
    networks = {
        name: MLP(ScaleToUnitBox(lower, upper), len(lower), network_outputs(of_network, lifting), 10, 2)
        for name, of_network in problem.networks_of_fields().items()
    }
    surrogate = Surrogate(problem, networks, lifting)
    parameters = FlatParameters(surrogate.networks)
    plan = SamplingPlan(Sampling(300, "hammersley"), Sampling(60, "hammersley"), 0)
    evaluator = Evaluator(
        problem,
        surrogate,
        parameters,
        sample_terms(problem, surrogate, domain, plan, MPI.COMM_SELF, 500),
        MPI.COMM_SELF,
    )
    layout = ParameterLayout(parameters, PETSc.COMM_SELF)
    return System(evaluator, layout, decompose(parameters.layers, "layer", None, 0), None)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", [name for name in SHIPPED if not issubclass(load(name), OperatorProblem)])
def test_a_short_training_lowers_the_objective(name: str, meshes: Path) -> None:
    scales = {"scales": 2} if name.startswith("multiscale") else {}  # 10 neurons bend no more often
    system = small_system(load(name)(**scales), meshes)
    parameters = system.layout.parameters
    theta = system.layout.vec_from(parameters.values.numpy().copy())
    before = system.value(theta)
    PETSc.Options()["tao_max_it"] = 30
    TaoSolver(system, "", GaussNewtonSettings(), lambda _: False).run(theta, 0, 30, {})
    after = system.value(theta)
    assert after.objective < 0.95 * before.objective
    assert torch.isfinite(torch.from_numpy(after.terms)).all()
    theta.destroy()
    system.destroy()
