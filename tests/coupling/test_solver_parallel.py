"""The Python door: the host's options and objects stay its own, and data stay on the ranks that made them."""

import gc

import numpy as np
import pytest
import torch
from petsc4py import PETSc
from toys import random_vector  # noqa: F401

from pescitrain import OperatorData, OptionError, ProblemError, SnapshotProblem, Solver, load_model
from pescitrain.evaluation.metrics import OperatorErrorMetric

pytestmark = pytest.mark.parallel
SMALL = {"net_width": 6, "net_depth": 2, "tao_type": "lm", "tao_max_it": 4, "tao_gatol": 0.0, "tao_grtol": 0.0}


def whole(count=12, locations=11, seed=0):
    """Waves with a frequency and an amplitude: inputs (N, 2), locations (K, 1), values (N, K)."""
    random = np.random.default_rng(seed)
    inputs = random.uniform(0.5, 1.5, (count, 2))
    x = np.linspace(0.0, 1.0, locations)[:, None]
    return inputs, x, inputs[:, 1:] * np.sin(inputs[:, :1] * 2.0 * x.T)


def distributed(comm, **kind):
    """The same with the locations of this rank alone."""
    inputs, x, values = whole(**kind)
    mine = slice(len(x) * comm.rank // comm.size, len(x) * (comm.rank + 1) // comm.size)
    return OperatorData(inputs, x[mine], values[:, mine], comm)


def test_data_on_their_ranks_train_as_data_that_all_ranks_have(comm):
    test = OperatorData(*whole(seed=1))
    with Solver(SnapshotProblem(OperatorData(*whole()), test), SMALL) as one:
        expected = one.solve()
    with Solver(SnapshotProblem(distributed(comm), distributed(comm, seed=1)), SMALL) as other:
        result = other.solve()
    assert result.objective == pytest.approx(expected.objective, rel=1e-7)  # four steps of sums in another order
    assert result.error == pytest.approx(expected.error, rel=1e-7)
    assert other.setup.evaluator.residual_count == 12 * 11


@pytest.mark.parallel(3)
def test_a_rank_without_locations_takes_part(comm):
    inputs, x, values = whole(locations=4)
    mine = {0: slice(0, 1), 1: slice(1, 4), 2: slice(0, 0)}[comm.rank]
    data = OperatorData(inputs, x[mine], values[:, mine], comm)
    with (
        Solver(SnapshotProblem(data), SMALL) as solver,
        Solver(SnapshotProblem(OperatorData(*whole(locations=4))), SMALL) as one,
    ):
        assert solver.solve().objective == pytest.approx(one.solve().objective, rel=1e-7)


def test_batches_of_distributed_data_are_batches_of_functions(comm):
    options = {**SMALL, "tao_type": "adam", "tao_adam_lr": 1e-2, "tao_max_it": 8, "sample_batch": 4}
    thetas = []
    for data in (OperatorData(*whole()), distributed(comm)):
        with Solver(SnapshotProblem(data), options) as solver:
            solver.solve()
            thetas.append(solver.theta)
    np.testing.assert_allclose(thetas[0], thetas[1], rtol=0.0, atol=1e-10)  # eight steps of at most 1e-2


def test_data_that_are_wrong_on_one_rank_are_refused_on_all(comm):
    inputs, x, values = whole()
    mine = slice(len(x) * comm.rank // comm.size, len(x) * (comm.rank + 1) // comm.size)
    broken = values[:, mine].copy()
    if comm.rank == comm.size - 1:
        broken[3, 0] = np.nan
    with pytest.raises(ProblemError, match="values hold NaN"):
        OperatorData(inputs, x[mine], broken, comm)
    with pytest.raises(ProblemError, match="sample 2 is zero everywhere"):
        OperatorData(inputs, x[mine], values[:, mine] * (np.arange(12)[:, None] != 2), comm)
    with pytest.raises(ProblemError, match="no rank has a location"):
        OperatorData(inputs, x[:0], values[:, :0], comm)


def test_the_error_of_distributed_data_is_that_of_all(comm):
    def network(inputs, locations):
        return inputs[:, 1:] * torch.sin(inputs[:, :1] * locations.t())

    class Network(torch.nn.Module):
        def forward(self, inputs, locations):
            return network(inputs, locations)

    errors = [
        OperatorErrorMetric(Network(), data, comm).evaluate() for data in (OperatorData(*whole()), distributed(comm))
    ]
    assert errors[0].rel_l2 == pytest.approx(errors[1].rel_l2, rel=1e-13)
    assert errors[0].maximum == pytest.approx(errors[1].maximum, rel=1e-13)


# ------------------------------------------------------------------------------------------------------------- options


def test_the_database_is_as_it_was(comm):
    options = PETSc.Options()
    options["pc_type"] = "lu"
    options["tao_max_it"] = 1
    options["mesh"] = "of_the_host.msh"
    options["max_time"] = 1e-9
    options["pescitrain_tao_max_it"] = 2
    before = options.getAll()
    with Solver(SnapshotProblem(OperatorData(*whole())), SMALL) as solver:
        assert options.getAll() == before
        result = solver.solve()
        assert options.getAll() == before
        assert result.iterations == 2  # the command line comes before the dictionary
        assert solver.solve().iterations == 2
    assert options.getAll() == before
    assert options.used("pescitrain_tao_max_it")
    assert not options.used("mesh")


def test_the_database_is_as_it_was_after_an_error():
    options = PETSc.Options()
    with pytest.raises(OptionError, match="-pescitrain_net_width wide: give a whole number"):
        Solver(SnapshotProblem(OperatorData(*whole())), {**SMALL, "net_width": "wide"})
    assert not options.getAll()
    with (
        Solver(SnapshotProblem(OperatorData(*whole())), {**SMALL, "tao_type": "nonsense"}) as solver,
        pytest.raises(OptionError, match="nonsense"),
    ):
        solver.solve()
    assert not options.getAll()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"net_widht": 3}, "unknown option -pescitrain_net_widht; did you mean -pescitrain_net_width?"),
        ({"stages": "a,b"}, "-pescitrain_stages: stages is for runs of the command"),
        ({"tao": {"typ": "lm"}, "pcc_type": "asm"}, "unknown option -pescitrain_pcc_type"),
    ],
)
def test_names_that_nobody_knows_are_told(options, sentence):
    with pytest.raises(OptionError, match=sentence.replace("?", r"\?")):
        Solver(SnapshotProblem(OperatorData(*whole())), {**SMALL, **options})


def test_a_prefix_of_ones_own_tells_two_solvers_apart():
    PETSc.Options()["second_tao_max_it"] = 1
    problem = SnapshotProblem(OperatorData(*whole()))
    with Solver(problem, SMALL) as first, Solver(problem, SMALL, options_prefix="second_") as second:
        assert (first.solve().iterations, second.solve().iterations) == (4, 1)
    with pytest.raises(OptionError, match="options_prefix needs a word"):
        Solver(problem, options_prefix="")


def test_dictionaries_nest_and_flags_are_none():
    options = {
        **SMALL,
        "tao_type": "bntr",
        "pc": {"type": "asm"},
        "sub": {"pc_type": "cholesky"},
        "net_adaptive_slope": None,
    }
    with Solver(SnapshotProblem(OperatorData(*whole())), options) as solver:
        before = solver.setup.evaluator.objective(solver.theta).objective
        assert solver.solve().objective < 0.5 * before


# ---------------------------------------------------------------------------------------------------------- going on


def test_a_second_solve_goes_on_with_what_the_first_remembers():
    """Eight steps at once, and four and four."""
    problem = SnapshotProblem(OperatorData(*whole()))
    with Solver(problem, {**SMALL, "tao_max_it": 8}) as once, Solver(problem, SMALL) as twice:
        expected = once.solve().objective
        twice.solve()
        assert twice.solve().objective == pytest.approx(expected, rel=1e-9)


def test_new_data_go_on_from_the_old_parameters(comm):
    class Growing:
        count = 6

        def data(self):
            inputs, x, values = whole()
            mine = slice(len(x) * comm.rank // comm.size, len(x) * (comm.rank + 1) // comm.size)
            return OperatorData(inputs[: self.count], x[mine], values[: self.count, mine], comm)

    source = Growing()
    with Solver(SnapshotProblem(source), {**SMALL, "tao_max_it": 10}) as solver:
        first = solver.solve().objective
        assert solver.setup.evaluator.residual_count == 6 * 11
        source.count = 12
        solver.update()
        assert solver.setup.evaluator.residual_count == 12 * 11
        start = solver.setup.evaluator.objective(solver.theta).objective
        assert start != pytest.approx(first, rel=1e-3)
        assert solver.solve().objective < start


def test_a_monitor_sees_iterates_and_stops_the_solve():
    seen = []

    def monitor(iterate):
        seen.append(iterate.iteration)
        return iterate.iteration == 2

    with Solver(SnapshotProblem(OperatorData(*whole())), SMALL, monitor=monitor) as solver:
        result = solver.solve()
    assert seen == [0, 1, 2]
    assert result.iterations == 2
    assert result.converged


def test_methods_of_snes_and_adaptive_weights_are_at_hand():
    options = {**SMALL, "snes_type": "newtonls", "snes_max_it": 3}
    options = {key: value for key, value in options.items() if not key.startswith("tao")}
    with Solver(SnapshotProblem(OperatorData(*whole())), options) as solver:
        before = solver.setup.evaluator.objective(solver.theta).objective
        assert solver.solve().objective < before


# ------------------------------------------------------------------------------------------------------------- results


def test_the_network_is_a_function_a_module_and_a_file(comm, tmp_path):
    problem = SnapshotProblem(distributed(comm))
    inputs, x, _ = whole()
    with Solver(problem, SMALL) as solver:
        solver.solve()
        values = solver(inputs, x)
        assert values.shape == (12, 11)
        model = load_model(solver.save(tmp_path / "model.pt2"))
        functions = load_model(solver.save_basis(tmp_path / "basis.pt2"))
        with torch.no_grad():
            np.testing.assert_allclose(model(torch.tensor(inputs), torch.tensor(x)).numpy(), values, atol=1e-14)
            branch = solver.surrogate.networks["branch"](torch.tensor(inputs))
            sums = (branch @ functions(torch.tensor(x)).t()).numpy()
            np.testing.assert_allclose(problem.offset + problem.scale * sums, values, atol=1e-14)
        assert torch.get_num_threads() == 1
        with pytest.raises(OptionError, match="cannot be written"):
            solver.save(tmp_path / "nowhere" / "model.pt2")


def test_rounds_leave_nothing_behind(comm):
    """The number of Python's objects, those that hold PETSc's among them."""

    def objects():
        gc.collect()
        PETSc.garbage_cleanup()
        return len(gc.get_objects())

    problem = SnapshotProblem(OperatorData(*whole(count=4)))
    options = {**SMALL, "tao_max_it": 1}

    def round_trip():
        with Solver(problem, options) as solver:
            solver.solve()
            solver.update()
            solver.solve()

    for _ in range(2):
        round_trip()
    before = objects()
    for _ in range(4):
        round_trip()
    # A Solver that stayed would keep some hundreds of Python's objects alive in each round.
    assert objects() - before < 50


def test_threads_are_the_hosts_after_a_solve():
    torch.set_num_threads(2)
    try:
        seen = []
        with Solver(
            SnapshotProblem(OperatorData(*whole())), SMALL, monitor=lambda _: seen.append(torch.get_num_threads())
        ) as solver:
            solver.solve()
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parallel(1)
def test_onnx_gives_the_same_numbers(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs, x, _ = whole()
    with Solver(SnapshotProblem(OperatorData(*whole())), SMALL) as solver:
        file = solver.save(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(str(file))
        (values,) = session.run(["values"], {"inputs": inputs, "locations": x})
        np.testing.assert_allclose(values, solver(inputs, x), rtol=0.0, atol=1e-13)  # round-off of sums of size one
