"""Each example does what its docstring says, at a size that takes seconds."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from examples.finite_elements import reaction_diffusion  # pyright: ignore[reportMissingImports]
from run.commands import (  # pyright: ignore[reportMissingImports]
    MPIEXEC,
    command,
    history,
    program,
    summary,
)

from pescitrain import Mesh, load_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
SMALL = "-net_width 10 -net_depth 3 -out_pictures false"


def example(name):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reaction_diffusion_agrees_with_finite_elements_on_the_same_mesh(tmp_path):
    rate = 2.0  # not the default: the option of the problem reaches the equation
    words = ("-problem", EXAMPLES / "reaction_diffusion.py", "-problem_rate", rate, "-tao_max_it", 250)
    ended = command(*words, *SMALL.split(), "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    mesh = Mesh.read(str(ROOT / "meshes" / "plate_with_hole.msh"))
    c = reaction_diffusion(mesh, rate, "hole")
    found = load_model(tmp_path / "run")(torch.from_numpy(mesh.nodes.copy())).numpy()[:, 0]
    assert c.min() < 0.6  # a good part has reacted away: c = 1 would be far off
    assert np.linalg.norm(found - c) < 5e-3 * np.linalg.norm(c)


def test_the_rod_gives_away_its_coefficients_from_noisy_readings(tmp_path):
    words = ("-problem", EXAMPLES / "inverse_conductivity.py", "-tao_type", "blmvm", "-pc_type", "asm")
    ended = command(*words, *SMALL.split(), "-tao_max_it", 200, "-out_model", "false", "-out_dir", tmp_path / "run")
    assert ended.code == 0, ended.err
    rod, found = example("inverse_conductivity"), summary(tmp_path / "run")["unknowns"]
    assert found["k"] == pytest.approx(rod.K, rel=0.05)
    assert found["h"] == pytest.approx(rod.H, rel=0.10)
    noise = 100.0 * rod.NOISE**2 / 2  # the least that the data term can be, but for what the fit takes from the noise
    assert float(history(tmp_path / "run")[-1]["thermocouples"]) == pytest.approx(noise, rel=0.25)


def test_the_integral_is_learnt_from_samples(tmp_path):
    words = "-bc_enforce hard -tao_type lbfgs -tao_lbfgs_history 50 -tao_max_it 300 -problem_samples 200"
    where = ("-problem", EXAMPLES / "antiderivative.py", *words.split(), "-out_pictures", "false")
    assert command(*where, "-out_dir", tmp_path / "run").code == 0
    assert summary(tmp_path / "run")["rel_l2"] < 0.12  # 5.0e-2, and 1 without training
    model = load_model(tmp_path / "run")
    x = np.linspace(0.0, 1.0, 50)
    integral = model(torch.from_numpy(np.cos(3 * x)[None]), torch.from_numpy(x[:, None])).detach().numpy()[0]
    assert integral[0] == 0.0
    assert np.abs(integral - np.sin(3 * x) / 3).max() < 0.1  # a function that no field has drawn


def test_methods_that_would_ignore_the_bounds_of_the_rod_are_refused(tmp_path):
    ended = command("-problem", EXAMPLES / "inverse_conductivity.py", "-tao_type", "nls", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert "bounds" in ended.complaint


def test_a_loaded_model_has_values_and_derivatives_on_another_grid(tmp_path):
    words = ("-problem", "heat1d", "-tao_max_it", 150, "-sample_points", 500, "-out_dir", tmp_path / "run")
    assert command(*words, *SMALL.split()).code == 0
    temperature, flux = example("load_model").errors(tmp_path / "run")
    assert temperature == pytest.approx(summary(tmp_path / "run")["rel_l2"], rel=0.2)  # there on 101 × 101 points
    assert temperature < 2e-3
    assert flux < 1e-2


def test_a_petsc_program_goes_on_from_one_coefficient_to_the_next():
    words = "-diffusions 0.2,0.1 -tao_max_it 10 -sample_points 400 -sample_boundary_points 100"
    script = [str(MPIEXEC), "-n", "2", sys.executable, str(EXAMPLES / "own_solver_script.py")]
    ended = program([*script, *words.split(), *SMALL.split()])
    assert ended.code == 0, ended.err
    lines = re.findall(r"mu (\S+): (\d+) iterations, (\d+) closures, relative error (\S+)", ended.out)
    assert [line[0] for line in lines] == ["0.2", "0.1"]
    assert all(int(iterations) == 10 <= int(closures) for _, iterations, closures, _ in lines)
    assert float(lines[-1][3]) < 5e-2  # 2.0e-2 from the network of the first, whose own error is 2.4e-1


def test_the_sweep_of_winds_gives_snapshots_that_a_branch_learns(tmp_path):
    script = [str(MPIEXEC), "-n", "2", sys.executable, str(EXAMPLES / "wind_sweep.py")]
    ended = program([*script, "-count", "30", "-file", str(tmp_path / "winds.petsc"), "-ksp_rtol", "1e-10"])
    assert ended.code == 0, ended.err
    assert ended.out == f"30 snapshots in {tmp_path / 'winds.petsc'}\n"
    words = "-net_trunk pod -net_basis 6 -net_width 10 -net_depth 2 -tao_type lm -tao_max_it 60"
    data = ("-problem", "deeponet", "-data_file", tmp_path / "winds.petsc", "-data_patience", 3)
    silent = ("-out_pictures", "false", "-out_model", "false", "-out_dir", tmp_path / "run")
    ended = command(*data, *words.split(), *silent)
    assert ended.code == 0, ended.err
    assert summary(tmp_path / "run")["test_rel_l2"] < 2e-2
