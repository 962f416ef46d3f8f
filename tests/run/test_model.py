"""The trained model as a torch module: coordinates (N, d) -> fields (N, k), conditions included."""

from pathlib import Path

import meshio
import numpy as np
import pytest
import torch
from run.commands import TINY, command  # pyright: ignore[reportMissingImports]

from pescitrain import PescitrainError, load_model

MESH = Path(__file__).parents[2] / "meshes" / "plate_with_hole.msh"


def trained(folder, *words):
    ended = command(*words, *TINY, "-out_model", "true", "-tao_max_it", 2, "-out_dir", folder)
    assert ended.code == 0, ended.err
    return load_model(folder)


def test_hard_conditions_are_part_of_the_model(tmp_path):
    model = trained(tmp_path, "-problem", "poisson2d", "-bc_enforce", "hard")
    along = torch.linspace(0, 1, 33, dtype=torch.float64)
    for axis in (0, 1):
        for side in (0.0, 1.0):
            x = torch.full((33, 2), side, dtype=torch.float64)
            x[:, axis] = along
            assert (model(x) == 0).all()
    assert model(torch.full((1, 2), 0.4, dtype=torch.float64)).abs() > 1e-3


def test_it_takes_arrays_and_says_which_shape_it_wants(tmp_path):
    model, x = trained(tmp_path, "-problem", "poisson2d"), np.array([[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_array_equal(model(x), model(torch.from_numpy(x)))
    np.testing.assert_array_equal(model(x.tolist()), model(x))
    for wrong in (x[0], np.zeros((5, 3)), np.zeros((5, 2, 1))):
        with pytest.raises(PescitrainError, match=r"^a loaded model takes \(N, 2\); it was given \("):
            model(wrong)
    with pytest.raises(PescitrainError, match=r"it was given \(2, 2\), \(2, 2\)$"):
        model(x, x)


def test_hard_conditions_on_a_mesh_hold_at_the_nodes_of_its_boundary(tmp_path):
    model = trained(tmp_path, "-mesh", "lshape.msh", "-bc_enforce", "hard")
    points = meshio.read(MESH.with_name("lshape.msh")).points
    x, y = points[:, 0], points[:, 1]
    corner = np.hypot(y, np.minimum(x, 0)) * np.hypot(x, np.maximum(y, 0))  # zero on the two sides that meet in it
    on_boundary = np.abs((x**2 - 1) * (y**2 - 1) * corner) < 1e-9
    assert on_boundary.sum() > 100
    u = model(torch.from_numpy(points[:, :2].copy()))[:, 0]
    # The distance to a segment is zero but for the round-off of products of coordinates of size one.
    assert u[on_boundary].abs().max() <= 1e-14
    assert u[~on_boundary].abs().max() > 1e-3


def test_hard_conditions_on_a_curved_boundary_are_refused():
    ended = command("-bc_enforce", "hard")
    assert ended.code == 2
    assert ended.complaint == (
        f"-bc_enforce hard: the boundary 'hole' of the mesh file '{MESH}' is curved, and the distance to it is made "
        "from straight edges; use -bc_enforce soft, or give the problem a lifting()"
    )


def test_a_system_has_a_column_for_each_field_and_any_number_of_rows(tmp_path):
    model = trained(tmp_path, "-problem", "elasticity")
    for count in (1, 2, 7, 1000):
        u = model(torch.rand(count, 2, dtype=torch.float64))
        assert u.shape == (count, 2)
        assert u.dtype == torch.float64
    fields = meshio.read(tmp_path / "solution.vtu")
    x = torch.from_numpy(fields.points[:, :2].copy())
    names = [name for name in fields.point_data if not name.endswith(("_reference", "_error"))]
    shown = np.stack([fields.point_data[name] for name in names], axis=1)
    # The exported graph and the network add the same products, maybe in another order.
    np.testing.assert_allclose(model(x).detach().numpy(), shown, rtol=1e-12, atol=1e-13)


def test_rows_do_not_depend_on_each_other_and_have_derivatives(tmp_path):
    model = trained(tmp_path, "-problem", "poisson2d")
    x = torch.rand(5, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[2, 0], x)
    assert (gradient[[0, 1, 3, 4]] == 0).all()
    step = 1e-6 * torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    with torch.no_grad():
        change = float((model(x[2:3] + step) - model(x[2:3] - step))[0, 0])
    # A central difference: h² u''' ≈ 1e-12 and round-off 1e-16 / h ≈ 1e-10, of a slope of order one.
    assert change / 2 == pytest.approx(float(gradient[2] @ step[0]), abs=1e-14)


def test_what_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(PescitrainError, match=r"^load_model: there is no file .*model.pt2; give a run folder or its"):
        load_model(tmp_path)
    (tmp_path / "model.pt2").write_text("nothing")
    with pytest.raises(PescitrainError, match=r"^load_model: .*model.pt2 cannot be read \(.*\): is it a model.pt2\?"):
        load_model(tmp_path)
