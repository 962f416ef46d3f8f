"""`-pc_type filter` against dense QR factorisations, and the triangular factors that it is made from."""

from functools import cache

import numpy as np
import pytest
from petsc4py import PETSc
from scipy.linalg import qr
from toys import CASES, RANDOM_FEATURES, jacobian_by_torch, sentence_of, start

from pescitrain.algebra import ParameterLayout, Preconditioner, decompose
from pescitrain.evaluation.couplings import find_couplings

pytestmark = pytest.mark.parallel

NAMES = ["poisson", "inverse", "subdomains", "subdomains, periodic term"]
KNOWN = {**CASES, **RANDOM_FEATURES}


@cache
def serial_jacobian(name, **options):
    """J (m, n) at the start, by `torch.func`."""
    serial = KNOWN[name].build(**options)
    return jacobian_by_torch(serial, start(serial))


class Parts:
    """A case over the ranks, its blocks, and J of the serial one."""

    def __init__(self, comm, name, ownership="blocks", overlap=0, **options):
        self.evaluator = KNOWN[name].build(comm, chunk_size=7, **options)
        self.layout = ParameterLayout(self.evaluator.parameters, PETSc.Comm(comm), ownership)
        couplings = find_couplings(self.evaluator.surrogate, self.layout.layers, self.evaluator.samples, comm)
        neighbours = None if couplings is None else couplings.neighbours
        self.blocks = decompose(self.layout.layers, "layer", None, overlap, neighbours)
        self.theta = start(self.evaluator)
        self.jacobian = serial_jacobian(name, **options)

    def filter(self, damping=1e-3, uncoupled=None, **options):
        for key, value in {"pc_type": "filter", **options}.items():
            PETSc.Options()[key] = value
        made = Preconditioner(self.layout, self.blocks, "", None, damping, uncoupled)
        made.refresh(self.evaluator.linearize(self.theta))
        return made

    def applied(self, preconditioner):
        """M as a dense matrix, column by column."""
        x, y = self.layout.create_vec(), self.layout.create_vec()
        columns = []
        for unit in np.eye(self.layout.size):
            self.layout.set(x, unit)
            y.set(3.0)
            preconditioner.apply(x, y)
            columns.append(self.layout.gather(y).copy())
        return np.array(columns).T

    def damping(self, relative):
        return relative * (self.jacobian**2).sum(0).mean()


def close(one, other, tolerance):
    np.testing.assert_allclose(one, other, rtol=0.0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("name", NAMES)
def test_triangular_factors_are_those_of_the_columns(comm, name):
    parts = Parts(comm, name, overlap=1)
    owners = [number % comm.size for number in range(len(parts.blocks))]
    found = parts.evaluator.linearize(parts.theta).triangular_factors([b.active for b in parts.blocks], owners)
    for block, factor, owner in zip(parts.blocks, found, owners, strict=True):
        assert (factor is None) == (owner != comm.rank)
        if factor is not None:
            columns = parts.jacobian[:, block.active]
            close(np.triu(factor), factor, 0.0)
            close(factor.T @ factor, columns.T @ columns, 1e-12)


@pytest.mark.parametrize(("overlap", "ownership"), [(0, "blocks"), (1, "even")])
@pytest.mark.parametrize("name", NAMES)
def test_with_a_damping_above_the_tolerance_it_inverts_the_blocks(comm, name, overlap, ownership):
    parts = Parts(comm, name, ownership, overlap)
    matrix = parts.jacobian.T @ parts.jacobian + parts.damping(1e-3) * np.eye(parts.layout.size)
    expected = np.zeros_like(matrix)
    for block in parts.blocks:
        window = np.ix_(block.active, block.active)
        expected[window] += np.linalg.inv(matrix[window])
    close(parts.applied(parts.filter()), expected, 1e-8)


@pytest.mark.parametrize("overlap", [0, 1])
def test_what_a_block_can_do_without_is_dropped(comm, overlap):
    """T⁻¹ T⁻ᵀ on the columns that a QR factorisation with column pivoting of the columns of J itself puts first."""
    parts = Parts(comm, "subdomains, output layers", overlap=overlap, interior=60, boundary=20)
    expected, kept = np.zeros((parts.layout.size,) * 2), 0
    for block in parts.blocks:
        triangle, order = qr(parts.jacobian[:, block.active], mode="r", pivoting=True)
        count = int((np.abs(triangle.diagonal()) > 0.2 * abs(triangle[0, 0])).sum())
        places = block.active[order[:count]]
        columns = parts.jacobian[:, places]
        expected[np.ix_(places, places)] += np.linalg.inv(columns.T @ columns)
        kept += count
    assert kept < sum(len(block.active) for block in parts.blocks)
    made = parts.filter(0.0, pc_filter_tolerance=0.2)
    close(parts.applied(made), expected, 1e-10)


def test_parameters_apart_keep_their_diagonal_alone(comm):
    parts = Parts(comm, "inverse")
    alone = np.array([4, parts.layout.size - 1])
    matrix = parts.jacobian.T @ parts.jacobian
    own = matrix[alone, alone]
    matrix[alone] = matrix[:, alone] = 0.0
    matrix[alone, alone] = own
    matrix += parts.damping(1e-3) * np.eye(len(matrix))
    expected = np.zeros_like(matrix)
    for block in parts.blocks:
        window = np.ix_(block.active, block.active)
        expected[window] = np.linalg.inv(matrix[window])
    close(parts.applied(parts.filter(uncoupled=alone)), expected, 1e-8)


def test_another_damping_and_another_linearization(comm):
    parts = Parts(comm, "subdomains")
    made = parts.filter()
    made.set_damping(parts.damping(1e-2))
    close(parts.applied(made), parts.applied(parts.filter(1e-2)), 1e-12)
    parts.theta = parts.theta + 0.1
    made.refresh(parts.evaluator.linearize(parts.theta))
    close(parts.applied(made), parts.applied(parts.filter()), 1e-12)
    made.require_symmetric_positive_definite("cg")


def test_it_says_how_many_parameters_it_keeps(comm, capfd):
    parts = Parts(comm, "subdomains, output layers", interior=60, boundary=20)
    made = parts.filter(0.0, pc_filter_tolerance=0.2)
    parts.applied(made)
    made.pc.view(PETSc.Viewer.STDOUT(parts.layout.comm))
    shown = "".join(comm.allgather(capfd.readouterr().out))
    assert f"of {parts.layout.size} parameters kept at tolerance 0.2" in shown


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_a_tolerance_that_drops_nothing_or_everything_is_refused(comm, tolerance):
    parts = Parts(comm, "poisson")
    with pytest.raises(PETSc.Error) as caught:
        parts.filter(pc_filter_tolerance=tolerance)
    assert sentence_of(caught.value) == f"-pc_filter_tolerance {tolerance:g}: it must be above 0 and below 1"
