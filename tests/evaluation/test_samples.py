"""The points of terms, what is known on them, and the errors that a problem meets before any work."""

import numpy as np
import pytest
import torch
from mpi4py import MPI
from toys import CASES, Toy, mlp

from pescitrain.errors import ProblemError
from pescitrain.evaluation.residuals import Residuals
from pescitrain.evaluation.samples import SamplingPlan, sample_terms, samples_at
from pescitrain.geometry import Box, Sampling
from pescitrain.networks import Components, Laplacian
from pescitrain.networks.tape import Tape
from pescitrain.problem import Data, Dirichlet, Lifting, Neumann, Periodic, Residual, Surrogate
from pescitrain.problem.surrogate import network_outputs

PLAN = SamplingPlan(Sampling(9, "hammersley"), Sampling(8, "hammersley"), 0)


def sample(problem, chunk_size=100, plan=PLAN, domain=None):
    lifting = problem.lifting()
    networks = {
        name: mlp()(problem.domain(), network_outputs(fields, lifting), 0)
        for name, fields in problem.networks_of_fields().items()
    }
    surrogate = Surrogate(problem, networks, lifting)
    return sample_terms(problem, surrogate, domain or problem.domain(), plan, MPI.COMM_SELF, chunk_size)


@pytest.mark.parametrize("chunk_size", [1, 2, 4, 100])
def test_the_chunks_are_the_points_in_order(chunk_size):
    problem = CASES["poisson"].problem()
    for samples, cut in zip(sample(problem), sample(problem, chunk_size), strict=True):
        chunks = cut.chunks
        assert torch.equal(torch.cat([c.x for c in chunks]), torch.from_numpy(samples.points.x))
        assert torch.equal(torch.cat([c.scale for c in chunks]), samples.chunks[0].scale)
        if samples.points.normals is not None:
            normals = [c.normal for c in chunks if c.normal is not None]
            assert torch.equal(torch.cat(normals), torch.from_numpy(samples.points.normals))
        sizes = [c.samples for c in chunks]
        assert max(sizes) <= chunk_size
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_embedded_coordinates_and_liftings_are_those_of_the_points_of_the_chunk():
    one, many = (sample(CASES["lifted"].problem(), chunk_size=size)[0].chunks for size in (100, 2))
    assert len(one) == 1
    assert len(many) == 5
    for part in ("base", "factor"):
        assert torch.equal(torch.cat([getattr(c, part) for c in many], dim=2), getattr(one[0], part))
    assert torch.equal(torch.cat([c.embedded["network"] for c in many], dim=2), one[0].embedded["network"])
    assert not one[0].embedded["network"].requires_grad


def test_scales_make_the_objective_the_weighted_mean_square():
    problem = Toy([Residual(lambda u: u, weight=3.0), Dirichlet(0.0, on=("x_min", "y_max"), weight=0.5)])
    interior, boundary = sample(problem)
    for samples, weight in ((interior, 3.0), (boundary, 0.5)):
        scale = samples.chunks[0].scale
        share = torch.from_numpy(samples.points.weights / samples.points.measure)
        torch.testing.assert_close(scale, (weight * share).sqrt(), rtol=1e-15, atol=0.0)
        assert float(scale.square().sum()) == pytest.approx(weight, rel=1e-14)


def test_a_residual_is_traced_to_what_it_asks_for():
    poisson = sample(CASES["poisson"].problem())
    assert poisson[0].components == Components.closed([Laplacian((0, 1)), (0,)])
    assert poisson[1].components == Components.closed([])
    assert poisson[2].components == Components.closed([(0,), (1,)])
    assert [s.rows for s in poisson] == [1, 1, 1, 1]
    both = sample(CASES["two rows"].problem())
    assert [s.rows for s in both] == [2, 1]
    assert both[1].networks == ("network",)
    assert both[1].columns == {"u": 0, "v": 1}


def test_only_the_networks_of_the_fields_that_occur_are_evaluated():
    first, second = sample(CASES["second field only"].problem())
    assert (first.networks, first.columns) == (("second",), {"v": 0})
    assert (second.networks, second.columns) == (("first", "second"), {"u": 0, "v": 1})
    assert set(first.chunks[0].embedded) == {"second"}
    base, factor = first.chunks[0].base, first.chunks[0].factor
    assert base is not None
    assert factor is not None
    assert torch.equal(base[0, 0], first.chunks[0].x[:, 1])
    assert torch.equal(factor[0, 0], 1 + first.chunks[0].x[:, 1] ** 2)


def test_a_periodic_term_looks_at_points_and_their_translates():
    term = sample(CASES["wave, periodic term"].problem(), chunk_size=3)[2]
    assert term.sides == 2
    assert term.partners is not None
    np.testing.assert_allclose(term.partners - term.points.x, [[2.0, 0.0]] * 8, rtol=0, atol=1e-14)
    position = 0
    for chunk in term.chunks:
        near, far = chunk.x.chunk(2)
        assert near.shape[0] == chunk.samples
        assert torch.equal(near, torch.from_numpy(term.points.x[position : position + chunk.samples]))
        assert torch.equal(far, torch.from_numpy(term.partners[position : position + chunk.samples]))
        assert chunk.normal is not None
        assert torch.equal(chunk.normal, torch.tensor([[-1.0, 0.0]] * (2 * chunk.samples), dtype=torch.float64))
        position += chunk.samples
    assert position == 8
    assert sample(CASES["poisson"].problem())[0].sides == 1


def test_the_shift_of_a_periodic_term_may_be_given():
    problem = Toy([Periodic(on=("x_min", "x_max"), shift=(0.25, 0.5))])
    (term,) = sample(problem)
    np.testing.assert_allclose(term.partners, term.points.x + [0.25, 0.5], rtol=0, atol=0)


def test_boundaries_of_different_size_are_not_translates():
    domain = Box(("x", "y"), (0.0, 0.0), (1.0, 2.0))
    with pytest.raises(ProblemError, match=r"'x_min' and 'y_max' are not translates of each other"):
        sample(Toy([Periodic(on=("x_min", "y_max"))]), domain=domain)


def test_data_are_points_of_equal_weight_with_their_values():
    x, values = np.random.default_rng(0).uniform(-1, 1, (5, 2)), np.arange(5.0)
    chunks = sample(Toy([Data(x, values, weight=2.0)]), 2)[0].chunks
    assert torch.equal(torch.cat([c.x for c in chunks]), torch.from_numpy(x))
    assert torch.equal(torch.cat([c.data for c in chunks if c.data is not None]), torch.from_numpy(values))
    expected = torch.full((5,), (2.0 / 5) ** 0.5, dtype=torch.float64)
    torch.testing.assert_close(torch.cat([c.scale for c in chunks]), expected, rtol=1e-15, atol=0.0)


def test_a_term_may_ask_for_its_own_number_of_points():
    terms = [Residual(lambda u: u, points=5), Dirichlet(0.0, on="x_min", points=3), Dirichlet(0.0, on="x_max")]
    assert [len(s.points) for s in sample(Toy(terms))] == [5, 3, 8]
    quadrature = SamplingPlan(Sampling(kind="quadrature"), Sampling(kind="quadrature"), 0)
    numbered = sample(Toy(terms[:2]), plan=quadrature)
    hammersley = sample(Toy(terms[:2]))
    for one, other in zip(numbered, hammersley, strict=True):
        np.testing.assert_array_equal(one.points.x, other.points.x)


def test_points_follow_from_the_seed():
    plans = [SamplingPlan(Sampling(9, "uniform"), Sampling(8, "uniform"), seed) for seed in (0, 0, 1)]
    first, again, other = (sample(CASES["poisson"].problem(), plan=plan) for plan in plans)
    for term in range(4):
        assert np.array_equal(first[term].points.x, again[term].points.x)
        assert not np.array_equal(first[term].points.x, other[term].points.x)


def lifted(conditions, *terms):
    lifting = Lifting(lambda x: x, lambda x: 1 - x * x, conditions)
    return Toy([Residual(lambda u: u.x), *terms], lifting=lifting)


@pytest.mark.parametrize(
    ("on", "left"),
    [
        ("x_min", 1),
        (("x_min", "x_max"), 1),
        ("x_min+x_max", 1),
        (("x_min", "y_min"), 2),
        ("x_min+y_min", 2),
        ("y_min", 2),
    ],
)
def test_conditions_that_the_lifting_meets_are_left_out(on, left):
    assert len(sample(lifted(("x_min", "x_max"), Dirichlet(0.0, on=on)))) == left


def test_equations_stay_whatever_the_lifting_meets():
    assert len(sample(lifted(("interior", "x_min")))) == 1
    assert len(sample(lifted((), Dirichlet(0.0, on="x_min")))) == 2


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ([Residual(lambda u: u.xz)], r"u\.xz: no such derivative"),
        ([Residual(lambda u, z: u)], r"the residual of term 'residual_interior' asks for 'z'"),
        ([Residual(lambda u: u.n)], r"u\.n: there is no normal inside the domain"),
        ([Residual(lambda u, n: u)], r"asks for 'n', which is not known"),
        ([Residual(lambda u: u.other)], r"only a Periodic term has partner points"),
        ([Residual(lambda x: x)], r"term 'residual_interior': its residual uses no field \(u\)"),
        ([Residual(lambda u: u.value.sum())], r"one number a sample \(3,\).*it gave \(\)"),
        ([Residual(lambda u: u.value[:2])], r"it gave \(2,\)"),
        ([Residual(lambda u: u.value[:, None])], r"it gave \(3, 1\)"),
        ([Residual(lambda u: (u, 0.0 * float(u.value[0])))], r"it gave float"),
        ([Dirichlet(0.0, on="z_min")], r"There is no face 'z_min'"),
        ([Residual(lambda u: u, on="inside")], r"There is no part of the box 'inside'"),
        ([Data([[0.0, 0.0, 0.0]], [1.0])], r"its points have 3 coordinates, the domain has 2"),
        ([Data(np.zeros((0, 2)), [])], r"term 'data_points': no points on points"),
        (
            [Residual(lambda u: u), Residual(lambda u: u.x)],
            r"two terms are called 'residual_interior'; give them a name=",
        ),
        ([], r"problem Toy has no terms left to minimise"),
    ],
)
def test_what_is_wrong_with_a_problem_is_said_before_any_work(terms, sentence):
    with pytest.raises(ProblemError, match=sentence):
        sample(Toy(terms))


@pytest.mark.parametrize("part", ["base", "factor"])
def test_a_lifting_that_is_not_finite_is_refused(part):
    bad, good = (lambda x: torch.log(x - 2.0)), (lambda x: x)
    lifting = Lifting(**{"base": good, "factor": good, part: bad}, conditions=())
    with pytest.raises(ProblemError, match=rf"the {part} of the lifting .* is not finite .* use -bc_enforce soft"):
        sample(Toy([Residual(lambda u: u)], lifting=lifting))


def test_a_residual_may_return_a_field_as_it_is():
    (samples,) = sample(Toy([Residual(lambda u, v: (u, v.x))], fields=("u", "v")))
    assert samples.rows == 2


def test_rows_on_the_boundary_see_the_normal_by_name():
    (samples,) = sample(Toy([Residual(lambda u, n: u.x * n.x + n[1], boundary=True, on="y_min")]))
    assert samples.points.normals is not None
    (flux,) = sample(Toy([Neumann(lambda n: n.y, on="y_min")]))
    assert flux.components == Components.closed([(0,), (1,)])


def test_an_interior_term_can_be_looked_at_anywhere_unscaled():
    """Against the rows of an evaluator whose points are the ones that are asked for."""
    evaluator = CASES["poisson"].build()
    (samples,) = (s for s in evaluator.samples if s.term.place == "interior")
    moved = samples_at(samples, evaluator.surrogate, samples.points.x[::2])
    residuals = Residuals(evaluator.problem, evaluator.surrogate, evaluator.parameters.unknowns)

    def rows(of):
        with torch.no_grad():
            return torch.cat([residuals.rows(of, chunk, Tape()) for chunk in of.chunks])

    assert len(moved.points) == len(samples.points.x[::2])
    scale = torch.cat([chunk.scale for chunk in samples.chunks])
    expected = (rows(samples) / scale[:, None])[::2]
    torch.testing.assert_close(rows(moved), expected, rtol=1e-12, atol=1e-14)
