"""Several solves after each other, budgets, and the sentence and exit code at the end."""

import pytest
from run.commands import TINY, column, command, history, summary  # pyright: ignore[reportMissingImports]

from pescitrain.problems.poisson2d import Poisson2D

POISSON2D = ("-problem", "poisson2d", *TINY)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stages") / "run"
    words = "-stages warm,main -warm_tao_type adam -warm_tao_max_it 5 -main_tao_type blmvm -main_tao_max_it 7"
    return folder, command(*POISSON2D, *words.split(), "-out_dir", folder)


def test_the_history_has_the_iterations_of_both_stages(staged):
    folder, _ = staged
    rows = [(row["stage"], int(row["iteration"])) for row in history(folder)]
    assert rows == [("warm", k) for k in range(6)] + [("main", k) for k in range(8)]


def test_a_stage_starts_where_the_one_before_ended(staged):
    folder, _ = staged
    objective, closures = column(folder, "objective"), column(folder, "closures")
    assert objective[6] == objective[5]  # the same θ, found among the last points that were evaluated
    assert closures[6] == closures[5]
    assert (closures[1:6] - closures[:5] == 1).all()  # Adam: one closure an iteration


def test_the_summary_and_the_screen_name_both(staged):
    folder, ended = staged
    found = [(s["name"], s["solver"], s["pc"], s["iterations"]) for s in summary(folder)["stages"]]
    assert found == [("warm", "tao:adam", "none", 5), ("main", "tao:blmvm", "asm", 7)]
    assert summary(folder)["solver"] == "tao:blmvm"
    assert summary(folder)["iterations"] == 12
    lines = ended.out.splitlines()
    assert lines.index("stage warm: tao:adam, preconditioner none") < lines.index(
        "stage main: tao:blmvm, preconditioner asm"
    )


def test_stages_with_different_kinds_of_solvers(tmp_path):
    words = "-stages a,b -a_snes_type qn -a_snes_max_it 2 -b_tao_type bntr -b_pc_type jacobi -b_tao_max_it 2"
    assert command(*POISSON2D, *words.split(), "-out_dir", tmp_path).code == 0
    assert [(s["solver"], s["pc"]) for s in summary(tmp_path)["stages"]] == [("snes:qn", "asm"), ("tao:bntr", "jacobi")]


def test_a_stage_has_the_method_that_is_given_for_it_before_the_one_for_all(tmp_path):
    words = "-stages a,b -tao_type adam -b_snes_type qn -tao_max_it 1 -snes_max_it 1"
    assert command(*POISSON2D, *words.split(), "-out_dir", tmp_path).code == 0
    assert [stage["solver"] for stage in summary(tmp_path)["stages"]] == ["tao:adam", "snes:qn"]


def test_a_method_that_is_given_goes_before_one_that_the_problem_prefers(tmp_path, monkeypatch):
    monkeypatch.setattr(Poisson2D, "defaults", {"tao_type": "adam", "tao_max_it": 1})
    for words, solver in (("", "tao:adam"), ("-snes_type qn -snes_max_it 1", "snes:qn")):
        assert command(*POISSON2D, *words.split(), "-out_dir", tmp_path).code == 0
        assert summary(tmp_path)["solver"] == solver


def test_a_type_of_snes_alone_implies_snes_and_solver_decides_between_two(tmp_path):
    for words, solver in (
        ("-snes_type qn", "snes:qn"),
        ("-snes_type qn -tao_type bntr -solver tao", "tao:bntr"),
        ("-snes_type qn -tao_type bntr -solver snes", "snes:qn"),
        ("-solver snes", "snes:newtonls"),
        ("", "tao:blmvm"),
    ):
        command(*POISSON2D, *words.split(), "-max_time", 1e-9, "-out_dir", tmp_path)
        assert summary(tmp_path)["solver"] == solver, words


def test_a_used_budget_is_a_success_with_the_option_that_raises_it(staged):
    _, ended = staged
    assert ended.code == 0
    assert ended.last_line.startswith("Used the budget of 7 iterations as asked")
    assert "12 iterations, " in ended.last_line
    assert "; relative error " in ended.last_line


def test_a_falling_objective_is_said_with_the_option_that_goes_on(tmp_path):
    for words, option in (("-tao_max_it 15", "-tao_max_it"), ("-snes_type qn -snes_max_it 15", "-snes_max_it")):
        ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path)
        assert "the objective was still falling" in ended.last_line
        assert f"raise {option} to go on" in ended.last_line


def test_used_time_is_a_success_and_is_counted_for_each_stage(tmp_path):
    words = "-stages warm,main -tao_max_it 4 -warm_max_time 1e-9"
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path)
    assert ended.code == 0
    assert [s["iterations"] for s in summary(tmp_path)["stages"]] == [0, 4]
    ended = command(*POISSON2D, "-tao_max_it", 4, "-max_time", 1e-9, "-out_dir", tmp_path)
    assert ended.code == 0
    assert ended.last_line.startswith("Used the time of -max_time as asked")
    assert len(history(tmp_path)) == 1


def test_convergence_is_said_with_the_test_that_was_met(tmp_path):
    ended = command(*POISSON2D, "-tao_gatol", 1e3, "-out_dir", tmp_path)
    assert ended.code == 0
    assert ended.last_line.startswith("Converged: gradient norm below -tao_gatol")
    assert summary(tmp_path)["converged_reason"] == "CONVERGED_GATOL"


@pytest.mark.parametrize(
    ("words", "reason", "remedy"),
    [
        ("-tao_max_funcs 3", "DIVERGED_MAXFCN", "-tao_max_funcs"),
        (
            "-snes_type nrichardson -pc_type none -snes_linesearch_type basic -snes_linesearch_damping 1",
            "DIVERGED_DTOL",
            "-snes_type newtontr",
        ),
    ],
)
def test_a_run_that_diverges_ends_with_code_one_and_what_to_try(tmp_path, words, reason, remedy):
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path)
    assert ended.code == 1
    assert ended.last_line.startswith(f"Stopped: {reason}: ")
    assert remedy in ended.last_line
    assert summary(tmp_path)["converged_reason"] == reason


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("-tao_max_it five", "-tao_max_it five: PETSc wants a whole number"),
        ("-stages a,b -tao_gatol 1e-x", "-tao_gatol 1e-x: PETSc wants a number"),
    ],
)
def test_a_value_that_petsc_cannot_read_is_told_with_its_option(tmp_path, words, complaint):
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path)
    assert (ended.code, ended.complaint) == (2, complaint)


def test_what_petsc_itself_refuses_is_one_sentence_with_its_reason(tmp_path):
    ended = command(*POISSON2D, "-tao_max_it", 0, "-out_dir", tmp_path)
    assert ended.code == 2
    assert ended.complaint.startswith("PETSc refuses these options (-tao_*, ")
    assert ended.complaint.endswith("Maximum number of iterations must be positive")
    assert summary(tmp_path)["failure"] == ended.complaint
