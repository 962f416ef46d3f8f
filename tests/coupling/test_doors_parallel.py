"""What a trained network gives back to a host: a start, a coarse space, a law at points."""

import numpy as np
import pytest
import torch
from coupling.hosts import Bratu
from petsc4py import PETSc

from pescitrain import AddedTendency, InitialGuess, NetworkPC, OptionError, PescitrainError, PointwiseLaw, ProblemError
from pescitrain.coupling.locations import locations_of
from pescitrain.coupling.network_pc import orthonormal
from pescitrain.run.model import export_model

pytestmark = pytest.mark.parallel


class Sines(torch.nn.Module):
    """(K, 2) -> (K, p): products of sines, as a trunk might have learnt them."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, locations):
        x, y = locations[:, 0], locations[:, 1]
        return torch.stack([torch.sin(k * torch.pi * x) * torch.sin(m * torch.pi * y) for k, m in self.modes()], dim=1)

    def modes(self):
        return [(k, m) for k in range(1, self.count + 1) for m in range(1, self.count + 1)]


# ----------------------------------------------------------------------------------------------------- initial guesses


def test_a_solve_starts_from_the_prediction_and_ends_where_it_did():
    host = Bratu(rate=5.0)
    exact, iterations = host.solve(), host.snes.getIterationNumber()
    values = exact.array_r.copy()

    def predict(inputs, locations):
        assert inputs.tolist() == [[5.0]]
        assert len(locations) == len(values)
        return 1.0001 * values[None]

    guess = InitialGuess(predict, host.da, lambda: [host.rate])
    host.snes.setInitialGuess(guess)
    host.snes.setTolerances(rtol=0.0, atol=1e-12)
    again = host.solve()
    assert host.snes.getIterationNumber() <= iterations - 2  # an error of 1e-4 is squared to 1e-8 and 1e-16
    again.axpy(-1.0, exact)
    assert again.norm() < 1e-9
    assert (guess.used, guess.kept) == (1, 0)


def test_a_prediction_that_is_worse_than_the_hosts_own_start_is_left_alone(comm):
    host = Bratu(rate=5.0)
    exact = host.solve()
    iterations = host.snes.getIterationNumber()
    nodes = len(locations_of(host.da))
    for bad in (1e3 * np.ones((1, nodes)), np.full((1, nodes), np.nan)):
        guess = InitialGuess(lambda _, bad=bad: bad, host.da)
        host.snes.setInitialGuess(guess)
        with np.errstate(over="ignore"):
            again = host.solve()
        again.axpy(-1.0, exact)
        assert again.norm() == 0.0
        assert host.snes.getIterationNumber() == iterations
        assert (guess.used, guess.kept) == (0, 1)


def test_a_prediction_of_another_size_is_told(comm):
    host = Bratu()
    guess = InitialGuess(lambda locations: np.zeros(len(locations) + (comm.rank == 0)), host.da)
    with pytest.raises(ProblemError, match=r"the network gives \d+ values for the \d+ of the Vec"):
        guess(host.snes, host.da.createGlobalVec())
    with pytest.raises(PescitrainError, match=r"there is no file nowhere\.pt2"):
        InitialGuess("nowhere.pt2", host.da)


# ------------------------------------------------------------------------------------------------------ preconditioners


def laplacian(size=17):
    """Of the interior and its edge, as the first matrix of the host."""
    host = Bratu(size, rate=0.0)
    zero = host.da.createGlobalVec()
    host.snes.computeJacobian(zero, host.matrix)
    return host


def test_the_correction_solves_exactly_what_the_functions_span(comm):
    host = laplacian()
    pc = PETSc.PC().create(PETSc.COMM_WORLD)
    pc.setOperators(host.matrix)
    pc.setType("python")
    pc.setPythonContext(NetworkPC(Sines(3), host.da))
    pc.setUp()
    nodes = locations_of(host.da)
    u, r, z = (host.da.createGlobalVec() for _ in range(3))
    with torch.no_grad():
        u.setArray(Sines(3)(torch.tensor(nodes)).numpy() @ np.arange(1.0, 10.0))
    host.matrix.mult(u, r)
    for apply in (pc.apply, pc.applyTranspose):
        apply(r, z)
        z.axpy(-1.0, u)
        assert z.norm() < 1e-11 * u.norm()  # round-off times the condition of a coarse matrix of 9 rows
    pc.destroy()


def test_the_basis_is_orthonormal_and_drops_what_depends(comm):
    random = np.random.default_rng(5)
    whole = random.standard_normal((30, 4))
    whole = np.concatenate((whole, whole[:, :2] @ random.standard_normal((2, 2))), axis=1)
    mine = slice(30 * comm.rank // comm.size, 30 * (comm.rank + 1) // comm.size)
    basis = orthonormal(whole[mine], comm)
    assert basis.shape[1] == 4
    np.testing.assert_allclose(comm.allreduce(basis.T @ basis), np.eye(4), atol=1e-14)


def krylov_iterations(host, options):
    ksp = PETSc.KSP().create(PETSc.COMM_WORLD)
    ksp.setOptionsPrefix("with_")
    ksp.setOperators(host.matrix)
    ksp.setType("fgmres")
    ksp.setTolerances(rtol=1e-8)
    for key, value in options.items():
        PETSc.Options()[f"with_{key}"] = value
    ksp.setFromOptions()
    b, x = host.da.createGlobalVec(), host.da.createGlobalVec()
    b.setArray(np.prod(np.sin(3.0 * locations_of(host.da)), axis=1))
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    iterations = ksp.getIterationNumber()
    ksp.destroy()
    return iterations


def test_options_alone_put_it_beside_a_smoother(tmp_path):
    host = laplacian(33)
    if PETSc.COMM_WORLD.rank == 0:
        assert export_model(Sines(4), {"locations": 2}, tmp_path / "basis.pt2") == ""
    PETSc.COMM_WORLD.tompi4py().barrier()
    smoother = {"pc_type": "jacobi"}
    both = {
        "pc_type": "composite",
        "pc_composite_type": "multiplicative",
        "pc_composite_pcs": "python,jacobi",
        "sub_0_pc_python_type": "pescitrain.coupling.NetworkPC",
        "sub_0_pc_network_file": str(tmp_path / "basis.pt2"),
    }
    one, other = krylov_iterations(host, smoother), krylov_iterations(host, both)
    assert other < 0.5 * one  # measured 42 for 142: what is smooth of the error is gone


def test_a_file_of_coordinates_stands_in_for_a_dm(tmp_path):
    host = laplacian()
    coordinates = host.da.getCoordinates()
    bare = host.matrix.convert("aij", PETSc.Mat())
    plain = PETSc.Mat().createAIJ(bare.getSizes(), comm=PETSc.COMM_WORLD, csr=bare.getValuesCSR())
    viewer = PETSc.Viewer().createBinary(str(tmp_path / "nodes.bin"), "w", comm=PETSc.COMM_WORLD)
    flat = PETSc.Vec().createMPI((coordinates.getLocalSize(), None), comm=PETSc.COMM_WORLD)
    flat.setArray(coordinates.array_r)  # a Vec of a DMDA is written in another order than it has in memory
    flat.view(viewer)
    viewer.destroy()
    results = []
    for where, matrix in ((host.da, host.matrix), (None, plain)):
        pc = PETSc.PC().create(PETSc.COMM_WORLD)
        pc.setOptionsPrefix("some_")
        pc.setOperators(matrix)
        pc.setType("python")
        context = NetworkPC(Sines(2), where)
        pc.setPythonContext(context)
        if where is None:
            with pytest.raises(OptionError, match="neither the PC nor its matrix has a DM that knows the nodes"):
                context.setUp(pc)
            PETSc.Options()["some_pc_network_coordinates"] = str(tmp_path / "nodes.bin")
            context.setFromOptions(pc)
        pc.setUp()
        r, z = host.da.createGlobalVec(), host.da.createGlobalVec()
        r.setArray(locations_of(host.da)[:, 0])
        pc.apply(r, z)
        results.append(z.array_r.copy())
        pc.destroy()
    np.testing.assert_allclose(results[0], results[1], atol=1e-13)


def test_what_a_network_pc_lacks_is_told(tmp_path):
    host = laplacian()
    pc = PETSc.PC().create(PETSc.COMM_WORLD)
    pc.setOptionsPrefix("some_")
    pc.setOperators(host.matrix)
    with pytest.raises(OptionError, match="-some_pc_network_file: give the file"):
        NetworkPC().setUp(pc)
    with pytest.raises(OptionError, match=r"there is no file nowhere\.pt2"):
        NetworkPC("nowhere.pt2").setUp(pc)
    with pytest.raises(OptionError, match="its functions have 1 values here"):
        NetworkPC(lambda nodes: np.ones((1, 2))).setUp(pc)
    (tmp_path / "short.bin").write_bytes(b"123")
    PETSc.Options()["some_pc_network_coordinates"] = str(tmp_path / "short.bin")
    with pytest.raises(OptionError, match=r"short\.bin: it must be a PETSc binary file with one Vec"):
        NetworkPC().setFromOptions(pc)


# ------------------------------------------------------------------------------------------------------ laws at points


class Cubic(torch.nn.Module):
    """(N, 2) -> (N, 2)."""

    def forward(self, x):
        return torch.stack((x[:, 0] ** 3 + x[:, 1], x[:, 0] * x[:, 1]), dim=1)


def test_the_tangent_of_a_law_is_its_derivative():
    law, x = PointwiseLaw(Cubic()), np.random.default_rng(1).standard_normal((5, 2))
    values, tangent = law.with_tangent(x)
    np.testing.assert_allclose(values, law(x), rtol=0.0, atol=0.0)
    expected = [[[3 * a * a, 1.0], [b, a]] for a, b in x]
    np.testing.assert_allclose(tangent, expected, atol=1e-14)


def test_a_law_from_a_file_has_its_tangent(tmp_path):
    path = tmp_path / "law.pt2"
    if PETSc.COMM_WORLD.rank == 0:
        assert export_model(Cubic(), {"x": 2}, path) == ""
    PETSc.COMM_WORLD.tompi4py().barrier()
    x = np.random.default_rng(2).standard_normal((4, 2))
    for one, other in zip(PointwiseLaw(path).with_tangent(x), PointwiseLaw(Cubic()).with_tangent(x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-14)


def test_a_law_is_added_to_a_right_hand_side_and_to_its_jacobian(comm):
    class Decay(torch.nn.Module):
        def forward(self, x):
            return -(x**3)

    ts = PETSc.TS().create(PETSc.COMM_WORLD)
    u = PETSc.Vec().createMPI((2, None), comm=PETSc.COMM_WORLD)
    u.set(2.0)
    added = AddedTendency(PointwiseLaw(Decay()), lambda ts, t, u, f: f.set(0.0))
    ts.setRHSFunction(added, u.duplicate())
    ts.setType("rk")
    ts.setTimeStep(0.01)
    ts.setMaxTime(1.0)
    ts.setExactFinalTime(PETSc.TS.ExactFinalTime.MATCHSTEP)
    ts.setTolerances(rtol=1e-9, atol=1e-9)
    ts.solve(u)
    np.testing.assert_allclose(u.array_r, 2.0 / 3.0, rtol=1e-7)  # u' = −u³: 1/√(1/4 + 2t)
    matrix = PETSc.Mat().createAIJ((u.getSizes(), u.getSizes()), nnz=1, comm=PETSc.COMM_WORLD)
    matrix.setUp()
    matrix.assemble()
    matrix.shift(5.0)
    added.add_jacobian(u, matrix, -1.0)
    np.testing.assert_allclose(matrix.getDiagonal().array_r, 5.0 + 3.0 * u.array_r**2, rtol=1e-13)
    nothing = AddedTendency(PointwiseLaw(Decay()), None)
    f = u.duplicate()
    nothing(ts, 0.0, u, f)
    np.testing.assert_allclose(f.array_r, -(u.array_r**3), rtol=1e-13)
