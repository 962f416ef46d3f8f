"""The command with points, weights and equations that change at declared points of a method."""

import pytest
from run.commands import TINY, command, history, refused, summary  # pyright: ignore[reportMissingImports]

HEAT = ("-problem", "heat1d", *TINY)
BURGERS = ("-problem", "burgers", *TINY)
CONTINUATION = "-problem_continuation nu=0.5 -problem_continuation_steps 3 -problem_continuation_interval 2".split()
WINDOWS = "-sample_time_windows 3 -sample_time_window_interval 2".split()
LM = ("-tao_type", "lm", "-tao_max_it", 8)


def test_a_continuation_ends_at_the_parameter_that_was_asked_for(tmp_path):
    for budget, reached in ((7, 0.05), (5, 0.05 * 10 ** (1 / 3))):
        words = (*BURGERS, "-problem_nu", 0.05, *CONTINUATION, "-tao_type", "lm", "-tao_max_it", budget)
        ended = command(*words, "-out_dir", tmp_path)
        assert float(summary(tmp_path)["problem_parameters"]["nu"]) == pytest.approx(reached, rel=1e-12)
        assert ("warning: the run ended in round 2 of 3 of -problem_continuation" in ended.out) == (budget == 5)


def test_the_error_is_against_the_problem_that_was_asked_for(tmp_path):
    words = (*BURGERS, "-problem_nu", 0.05, "-tao_max_it", 1, "-out_error_interval", 1)
    command(*words, *CONTINUATION, "-out_dir", tmp_path / "continued")
    command(*words, "-out_dir", tmp_path / "plain")
    first = [float(history(tmp_path / name)[0]["rel_l2"]) for name in ("continued", "plain")]
    assert first[0] == pytest.approx(first[1], rel=1e-12)


@pytest.mark.parametrize("words", [(*BURGERS, *CONTINUATION), (*HEAT, *WINDOWS)])
def test_a_method_that_converges_before_the_end_of_the_way_goes_on(tmp_path, words):
    ended = command(*words, "-tao_gatol", 1e3, "-out_dir", tmp_path)
    assert ended.code == 0
    assert ended.last_line.startswith("Converged")
    assert "warning:" not in ended.out
    assert [row["iteration"] for row in history(tmp_path)] == ["0"]


def test_weights_of_samples_are_said(tmp_path):
    ended = command(*HEAT, *LM, "-loss_sample_weights", "residual", "-out_dir", tmp_path)
    assert (
        "note: the objective has weights of samples (-loss_sample_weights residual), made anew every 20 iterations; "
        "the error is without them"
    ) in ended.out.splitlines()


def test_points_that_are_added_stop_at_the_limit(tmp_path):
    words = (*HEAT, *LM, "-sample_adapt", "rar", "-sample_adapt_interval", 1, "-sample_adapt_add", 30)
    found = []
    for more in ((), ("-sample_adapt_limit", 250)):
        command(*words, *more, "-out_dir", tmp_path)
        found.append(summary(tmp_path)["residuals"])
    plain = command(*HEAT, "-tao_max_it", 1, "-out_dir", tmp_path)
    assert plain.code == 0
    before = summary(tmp_path)["residuals"]
    assert found == [before + 200, before + 50]


def test_weights_of_terms_replace_those_of_the_problem(tmp_path):
    for more in ((), ("-loss_term_weights", "initial_t_min=40,dirichlet_x_min+x_max=0")):
        command(*HEAT, "-tao_max_it", 1, *more, "-out_dir", tmp_path / str(len(more)))
    plain, weighted = ({**history(tmp_path / name)[0]} for name in ("0", "2"))
    assert float(weighted["initial_t_min"]) == pytest.approx(4 * float(plain["initial_t_min"]), rel=1e-12)
    assert float(weighted["dirichlet_x_min+x_max"]) == 0.0
    assert weighted["residual_interior"] == plain["residual_interior"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            (*BURGERS, "-problem_continuation", "mu=0.2"),
            "-problem_continuation mu: problem Burgers has no such parameter that is a real number (there are nu)",
        ),
        (
            ("-problem", "helmholtz", *TINY, "-problem_continuation", "waves=1"),
            "-problem_continuation waves: problem Helmholtz has no such parameter that is a real number",
        ),
        (
            (*BURGERS, "-problem_continuation", "nu=-0.2"),
            "-problem_continuation nu=-0.2: geometric steps lead to 0.0031831 only from a number of its sign that is "
            "not zero",
        ),
        ((*BURGERS, "-problem_continuation", "0.2"), "-problem_continuation 0.2: give a number to a name, as name=1.5"),
        (
            ("-problem", "poisson2d", *TINY, "-sample_time_windows", 2),
            "-sample_time_windows is for problems with a time t; problem Poisson2D has the coordinates x, y",
        ),
        (
            ("-problem", "poisson2d", *TINY, "-loss_sample_weights", "causal"),
            "-loss_sample_weights causal is for problems with a time t; problem Poisson2D has the coordinates x, y",
        ),
        (
            (*HEAT, *WINDOWS, "-loss_sample_weights", "causal"),
            "-sample_time_windows and -loss_sample_weights causal do the same: use one of them",
        ),
        (
            (*HEAT, "-sample_adapt", "rad", "-loss_sample_weights", "residual"),
            "-loss_sample_weights residual remembers points, which -sample_adapt rad replaces: use -sample_adapt none "
            "or rar",
        ),
        (
            (*HEAT, "-loss_sample_weights", "residual", "-loss_residual_decay", 0, "-loss_residual_rate", 0),
            "-loss_residual_decay and -loss_residual_rate: their sum must be above 0",
        ),
        *[
            (
                (*HEAT, "-loss_sample_weights", "causal", "-loss_causal_tolerances", words),
                f"-loss_causal_tolerances {words}: give numbers above 0 that rise, as 0.01,0.1,1",
            )
            for words in ("1,0.1", "0,1", "high", "1,inf")
        ],
        (
            (*HEAT, "-sample_adapt", "rar", "-sample_adapt_limit", 200),
            "-sample_adapt_limit 200: an equation has 200 points at the start; rar needs room for more",
        ),
        (
            (*HEAT, "-loss_term_weights", "initial_t_mn=3"),
            "problem Heat1D has no term initial_t_mn; did you mean initial_t_min?",
        ),
        (
            (*HEAT, "-loss_term_weights", "initial_t_min=-3"),
            "-loss_term_weights initial_t_min=-3: a weight is a number of 0 or more",
        ),
        ((*HEAT, "-loss_term_weights", "3"), "-loss_term_weights 3: give a number to a name, as name=1.5"),
    ],
)
def test_nonsense_is_refused_before_any_work(tmp_path, words, sentence):
    assert refused(*words, "-out_dir", tmp_path / "run") == sentence
    assert not (tmp_path / "run").exists()


def test_an_iteration_of_lm_on_points_of_its_own_costs_its_trials_alone(tmp_path):
    """A new solve looks at φ and ∇φ where it starts: lm has both from the linearization of its first step."""
    words = (*HEAT, *LM, "-sample_adapt", "fresh", "-sample_adapt_interval", 1, "-tao_lm_geodesic", "false")
    command(*words, "-out_dir", tmp_path)
    counts = summary(tmp_path)["evaluations"]
    assert counts["gradient"] == 1  # at the very start
    assert counts["objective"] >= 8
    assert counts["linearization"] == 16
