"""The sparse Gauss–Newton matrix of networks in subdomains, its factorisation, and the start of their output layers."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from petsc4py import PETSc
from toys import CASES, Case, Toy, _poisson, mlp, sentence_of, start, subdomains

from pescitrain.algebra import ParameterLayout, Preconditioner, System, decompose, two_level
from pescitrain.algebra.coarse_solve import CoarseSolve
from pescitrain.algebra.least_squares_start import RIDGE, least_squares_start
from pescitrain.algebra.multifrontal import EliminationOrder, MultifrontalCholesky
from pescitrain.algebra.operators import gather_rows
from pescitrain.algebra.sparse_gauss_newton import SparseGaussNewton
from pescitrain.algebra.two_level import TwoLevelSchwarz
from pescitrain.errors import EvaluationError, OptionError
from pescitrain.evaluation.couplings import find_couplings
from pescitrain.problem import Dirichlet, Residual

pytestmark = pytest.mark.parallel

NAMES = [name for name in CASES if name.startswith("subdomains")]
WIDE = Case(_poisson, subdomains(((5, 3),), 0.3))
"""Subdomains that do not all meet."""


def _linear_poisson():
    terms = [Residual(lambda u, x, y: u.laplacian - torch.sin(x * y)), Dirichlet(lambda y: y**2, on="boundary")]
    return Toy(terms)


def system_of(case, comm, ownership="blocks", **options):
    evaluator = case.build(comm, **{"chunk_size": 7, **options})
    layout = ParameterLayout(evaluator.parameters, PETSc.Comm(comm), ownership)
    couplings = find_couplings(evaluator.surrogate, layout.layers, evaluator.samples, comm)
    blocks = decompose(layout.layers, "layer", None, 0, None if couplings is None else couplings.neighbours)
    return System(evaluator, layout, blocks, None, couplings)


@pytest.mark.parametrize("ownership", ["blocks", "even"])
@pytest.mark.parametrize("case", [*(CASES[name] for name in NAMES), WIDE], ids=[*NAMES, "wide"])
def test_it_is_the_whole_matrix_and_needs_no_more_room(comm, case, ownership):
    system = system_of(case, comm, ownership)
    theta = start(system.evaluator)
    sparse = SparseGaussNewton(system.layout, system.couplings.coupled, 0.1)
    for _ in range(2):  # entries are replaced, not added up
        sparse.assemble(system.evaluator.linearize(theta))
    expected = system.evaluator.linearize(theta).gauss_newton_matrix()
    expected += 0.1 * expected.diagonal().mean() * np.eye(len(expected))
    np.testing.assert_allclose(gather_rows(sparse.mat).toarray(), expected, rtol=0.0, atol=1e-12 * expected.max())
    assert sparse.mat.getInfo()["mallocs"] == 0.0
    sparse.set_damping(0.0)
    assert sparse.mat.getDiagonal().min()[1] >= 0.0
    sparse.destroy()


def test_parameters_apart_keep_their_diagonal_alone(comm):
    system = system_of(CASES["subdomains, inverse"], comm)
    theta, alone = start(system.evaluator), np.array([system.layout.size - 1])
    sparse = SparseGaussNewton(system.layout, system.couplings.coupled, 0.0, alone)
    sparse.assemble(system.evaluator.linearize(theta))
    found = gather_rows(sparse.mat).toarray()
    expected = system.evaluator.linearize(theta).gauss_newton_matrix()
    expected[alone, :-1] = expected[:-1, alone] = 0.0
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-12 * expected.max())


@pytest.mark.parametrize("case", [*(CASES[name] for name in NAMES), WIDE], ids=[*NAMES, "wide"])
def test_the_multifrontal_factorisation_solves_with_any_shift(comm, case):
    system = system_of(case, comm)
    linearization = system.evaluator.linearize(start(system.evaluator))
    order = EliminationOrder(system.layout.layers, system.couplings.coupled)
    factors = MultifrontalCholesky(linearization.gauss_newton_sparse(), order, comm)
    dense, b = linearization.gauss_newton_matrix(), np.sin(np.arange(system.layout.size))
    np.testing.assert_allclose(factors.diagonal, dense.diagonal(), rtol=1e-12)
    for shift in (1.0, 1e-2):
        x = factors.factor(shift)(b)
        left = dense @ x + shift * x - b
        assert np.abs(left).max() < 1e-13 * dense.max() * np.abs(x).max()  # backward stable


def test_blocks_that_the_order_does_not_expect_are_refused_on_all_ranks(comm):
    system = system_of(WIDE, comm)
    blocks = system.evaluator.linearize(start(system.evaluator)).gauss_newton_sparse()
    alone = EliminationOrder(system.layout.layers, [np.array([n]) for n in range(len(system.layout.layers))])
    with pytest.raises(EvaluationError, match="-tao_lm_space krylov"):
        MultifrontalCholesky(blocks, alone, comm)


@pytest.mark.parametrize("pc_type", ["asm", "bjacobi", "gamg", "cholesky"])
def test_the_preconditioners_of_petsc_take_it(comm, pc_type):
    system = system_of(WIDE, comm)
    PETSc.Options()["pc_type"] = pc_type
    preconditioner = Preconditioner(system.layout, system.blocks, "", None, 1e-2, couplings=system.couplings)
    linearization = system.evaluator.linearize(start(system.evaluator))
    preconditioner.refresh(linearization)
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(preconditioner.matrix.mat)
    preconditioner.attach(ksp, preconditioner.matrix.mat)
    ksp.setType("cg")
    ksp.setTolerances(rtol=1e-10, max_it=500)
    b, x = system.layout.create_vec(), system.layout.create_vec()
    b.set(1.0)
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    limit = {"cholesky": 1, "gamg": 400}.get(pc_type, 200)
    assert ksp.getIterationNumber() <= limit
    preconditioner.destroy()


def iterations(comm, subdomains_along, pc_type, overlap, **options):
    """Of CG to 1e-6, boxes of a field with as many bends in each."""
    case = Case(lambda: _waves(subdomains_along), subdomains(((subdomains_along,) * 2,), 0.5))
    points = {"interior": 40 * subdomains_along**2, "boundary": 10 * subdomains_along}
    system = system_of(case, comm, chunk_size=400, **points)
    blocks = decompose(system.layout.layers, "layer", None, overlap, system.couplings.neighbours)
    for key, value in {"pc_type": pc_type, **options}.items():
        PETSc.Options()[key] = value
    preconditioner = Preconditioner(system.layout, blocks, "", None, 1e-7, couplings=system.couplings)
    preconditioner.refresh(system.evaluator.linearize(start(system.evaluator)))
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(preconditioner.matrix.mat)
    preconditioner.attach(ksp, preconditioner.matrix.mat)
    ksp.setType("cg")
    ksp.setTolerances(rtol=1e-6, max_it=1000)
    b, x = system.layout.create_vec(), system.layout.create_vec()
    system.layout.set(b, np.sin(np.arange(system.layout.size)))
    ksp.solve(b, x)
    assert ksp.getConvergedReason() > 0
    preconditioner.require_symmetric_positive_definite("cg")
    preconditioner.destroy()
    return ksp.getIterationNumber()


def _waves(half_waves):
    k = half_waves * torch.pi
    terms = [
        Residual(lambda u, x, y: u.laplacian + 2 * k**2 * torch.sin(k * x) * torch.sin(k * y), weight=1 / k**4),
        Dirichlet(0.0, on="boundary"),
    ]
    return Toy(terms)


def test_with_a_coarse_space_iterations_do_not_grow_with_the_number_of_subdomains(comm):
    one_level = [iterations(comm, n, "asm", 1) for n in (4, 6)]
    counts = [iterations(comm, n, "two_level", 1) for n in (4, 6)]
    assert counts[1] <= 1.1 * counts[0]  # 12 and 13; 15 and 22 on one level
    assert one_level[1] > 1.2 * one_level[0]
    additive = iterations(comm, 4, "two_level", 1, pc_two_level_type="additive")
    assert counts[0] <= additive <= 1.5 * counts[0]


def test_without_overlap_the_coarse_space_is_that_of_the_neighbours(comm):
    one_level = [iterations(comm, n, "asm", 0) for n in (2, 4)]
    counts = [iterations(comm, n, "two_level", 0) for n in (2, 4)]
    assert counts[1] <= 1.5 * counts[0]  # 21 and 23; 82 and 156 on one level
    assert one_level[1] > 1.5 * one_level[0]


@pytest.mark.parametrize(("lag", "made"), [(1, 4), (2, 2), (3, 2)])
def test_the_coarse_space_is_kept_for_some_linearizations(comm, monkeypatch, lag, made):
    calls = []
    basis = TwoLevelSchwarz._coarse_basis
    monkeypatch.setattr(
        TwoLevelSchwarz, "_coarse_basis", lambda self, *known: (calls.append(1), basis(self, *known))[1]
    )
    system = system_of(WIDE, comm)
    PETSc.Options()["pc_type"], PETSc.Options()["pc_two_level_lag"] = "two_level", lag
    preconditioner = Preconditioner(system.layout, system.blocks, "", None, 1e-4, couplings=system.couplings)
    theta = start(system.evaluator)
    for _ in range(4):
        preconditioner.refresh(system.evaluator.linearize(theta))
        preconditioner.pc.setUp()
        theta = 1.1 * theta
    assert len(calls) == made
    preconditioner.begin()
    preconditioner.refresh(system.evaluator.linearize(theta))
    preconditioner.pc.setUp()
    assert len(calls) == made + 1
    preconditioner.destroy()


@pytest.mark.parametrize("more_entries", [False, True])
def test_a_coarse_space_that_is_kept_inverts_the_new_matrix_on_it(comm, more_entries):
    system = system_of(WIDE, comm)
    for key, value in {"pc_type": "two_level", "pc_two_level_threshold": 0.5}.items():
        PETSc.Options()[key] = value
    preconditioner = Preconditioner(system.layout, system.blocks, "", None, 1e-4, couplings=system.couplings)
    theta, matrix, last = start(system.evaluator), preconditioner.matrix.mat, system.layout.size - 1
    kept = None
    for step in range(3):
        preconditioner.refresh(system.evaluator.linearize((1.0 + 0.1 * step) * theta))
        if step == 2 and more_entries:
            for row, column in ((0, last), (last, 0)):
                if system.layout.start <= row < system.layout.stop:
                    matrix.setValue(row, column, 1e-3, addv=PETSc.InsertMode.ADD)
            matrix.assemble()
        preconditioner.set_damping(10.0**-step)
        preconditioner.pc.setUp()
        basis = preconditioner.pc.getPythonContext()._basis
        kept = kept or basis
        assert basis.handle == kept.handle
        coarse, image, back = basis.createVecRight(), system.layout.create_vec(), system.layout.create_vec()
        coarse.setArray(np.sin(1.0 + np.arange(*coarse.getOwnershipRange())))
        vector = system.layout.create_vec()
        basis.mult(coarse, vector)
        matrix.mult(vector, image)
        preconditioner.apply(image, back)  # M A P = P in the deflated form
        # Round-off over a shift of 1e-2 at least, twice.
        difference = np.abs(system.layout.gather(back) - system.layout.gather(vector)).max()
        assert difference < 1e-9 * np.abs(system.layout.gather(vector)).max()
    preconditioner.destroy()


@pytest.mark.parametrize("type_", ["deflation", "additive"])
def test_a_solve_that_starts_on_the_coarse_space_needs_half_of_the_coarse_solves(comm, monkeypatch, type_):
    solves = []
    apply = CoarseSolve.apply
    monkeypatch.setattr(CoarseSolve, "apply", lambda self, x, y: (solves.append(1), apply(self, x, y))[1])
    system = system_of(WIDE, comm)
    for key, value in {"pc_type": "two_level", "pc_two_level_type": type_, "pc_two_level_threshold": 0.5}.items():
        PETSc.Options()[key] = value
    preconditioner = Preconditioner(system.layout, system.blocks, "", None, 1e-4, couplings=system.couplings)
    preconditioner.refresh(system.evaluator.linearize(start(system.evaluator)))
    matrix = preconditioner.matrix.mat
    right, x, residual, once, again = (system.layout.create_vec() for _ in range(5))
    system.layout.set(right, np.sin(np.arange(system.layout.size)))
    with preconditioner.solving(right, x) as started:
        assert started == (type_ == "deflation")
        matrix.mult(x, residual)
        residual.aypx(-1.0, right)
        solves.clear()
        preconditioner.apply(residual, once)
        assert len(solves) == 1
    preconditioner.apply(residual, again)
    assert len(solves) == (3 if started else 2)
    once.axpy(-1.0, again)
    # What is left of the coarse part of the residual is round-off, over a shift of 1e-4.
    assert once.norm() < 1e-9 * again.norm()
    preconditioner.destroy()


@pytest.mark.parametrize("numbers", [two_level.LOCAL_NUMBERS, 1], ids=["together", "one at a time"])
def test_the_columns_of_the_coarse_space_are_the_eigenvectors(comm, monkeypatch, numbers):
    found = {}
    monkeypatch.setattr(two_level, "LOCAL_NUMBERS", numbers)

    def kept(self, block, local, ridge):
        found[block.name] = block, eigenvectors(self, block, local, ridge)
        return found[block.name][1]

    eigenvectors = TwoLevelSchwarz._eigenvectors
    monkeypatch.setattr(TwoLevelSchwarz, "_eigenvectors", kept)
    system = system_of(WIDE, comm)
    blocks = decompose(system.layout.layers, "layer", None, 1, system.couplings.neighbours)
    PETSc.Options()["pc_type"], PETSc.Options()["pc_two_level_threshold"] = "two_level", 0.5
    preconditioner = Preconditioner(system.layout, blocks, "", None, 1e-4, couplings=system.couplings)
    preconditioner.refresh(system.evaluator.linearize(start(system.evaluator)))
    preconditioner.pc.setUp()
    basis = gather_rows(preconditioner.pc.getPythonContext()._basis).toarray()
    column = comm.exscan(sum(vectors.shape[1] for _, vectors in found.values())) or 0
    assert comm.allreduce(max((vectors.shape[1] for _, vectors in found.values()), default=0), op=MPI.MAX) > 1
    for block, vectors in found.values():
        here = basis[:, column : column + vectors.shape[1]]
        np.testing.assert_array_equal(here[block.owned], vectors)
        assert np.count_nonzero(here) == np.count_nonzero(vectors)
        column += vectors.shape[1]
    preconditioner.destroy()


@pytest.mark.parametrize("shape", [(5, 3), (2, 1)], ids=["wide", "fewer than ranks"])
def test_the_coarse_space_does_not_depend_on_the_ranks_or_on_round_off(comm, shape):
    applied = []
    for ranks, chunk_size in ((comm, 7), (MPI.COMM_SELF, 100)):
        system = system_of(Case(_poisson, subdomains((shape,), 0.3)), ranks, chunk_size=chunk_size)
        blocks = decompose(system.layout.layers, "layer", None, 1, system.couplings.neighbours)
        PETSc.Options()["pc_type"] = "two_level"
        preconditioner = Preconditioner(system.layout, blocks, "", None, 1e-4, couplings=system.couplings)
        preconditioner.refresh(system.evaluator.linearize(start(system.evaluator)))
        b, x = system.layout.create_vec(), system.layout.create_vec()
        system.layout.set(b, np.sin(np.arange(system.layout.size)))
        preconditioner.apply(b, x)
        applied.append(system.layout.gather(x).copy())
        preconditioner.destroy()
    # Round-off of 1e-16 over a shift of 1e-4, and two solves.
    np.testing.assert_allclose(applied[0], applied[1], rtol=0.0, atol=1e-9 * np.abs(applied[1]).max())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pc_two_level_vectors": 0}, "at least 1"),
        ({"pc_two_level_lag": 0}, "lag 0: it must be at least 1"),
        ({"pc_two_level_type": "both"}, "deflation, additive"),
    ],
)
def test_options_of_two_levels_are_checked(comm, options, sentence):
    system = system_of(WIDE, comm)
    for key, value in {"pc_type": "two_level", **options}.items():
        PETSc.Options()[key] = value
    with pytest.raises(PETSc.Error) as raised:
        Preconditioner(system.layout, system.blocks, "", None, 1e-2, couplings=system.couplings)
    assert sentence in sentence_of(raised.value)


def test_two_levels_need_subdomains(comm):
    parts = system_of(Case(_poisson, mlp()), comm)
    PETSc.Options()["pc_type"] = "two_level"
    with pytest.raises(OptionError, match="use spectral"):
        Preconditioner(parts.layout, parts.blocks, "", None, 1e-2)


def test_other_networks_have_no_sparse_matrix(comm):
    parts = system_of(Case(_poisson, mlp()), comm)
    with pytest.raises(OptionError, match="-net_type subdomain"):
        Preconditioner(parts.layout, parts.blocks, "", "sparse", 1e-2)


@pytest.mark.parametrize("maker", [subdomains(((5, 3),)), subdomains(((1, 1), (2, 2))), mlp(width=6)])
def test_output_layers_start_as_a_least_squares_solution(comm, maker):
    case = Case(_linear_poisson, maker)
    points = {"interior": 120, "boundary": 30, "chunk_size": 50}
    system = system_of(case, comm, **points)
    evaluator = system.evaluator
    before = evaluator.parameters.current()
    theta = least_squares_start(system)
    evaluator.parameters.put(theta)
    moved = theta != before
    gradient = evaluator.objective_gradient(theta)[1]
    started = evaluator.objective_gradient(before)[1]
    # The equations are linear: what is left of the gradient in the output layers is that of the ridge.
    ridge = RIDGE * evaluator.linearize(before).gauss_newton_diagonal()[moved].mean()
    left = gradient[moved] + ridge * (theta - before)[moved]
    assert np.abs(left).max() < 1e-9 * np.abs(started).max()
    assert evaluator.objective(theta).objective < evaluator.objective(before).objective
    serial = system_of(case, PETSc.COMM_SELF.tompi4py(), **points)
    np.testing.assert_allclose(
        evaluator.objective(theta).objective,
        serial.evaluator.objective(least_squares_start(serial)).objective,
        rtol=1e-8,  # the matrix is singular up to the ridge
    )
