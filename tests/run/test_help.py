"""What PETSc prints when it is asked, and ``-check_derivatives``."""

import pytest
from run.commands import TINY, command, process  # pyright: ignore[reportMissingImports]

from pescitrain.run.options import help_text

POISSON2D = ("-problem", "poisson2d", *TINY)


def test_help_prints_our_table_and_what_petsc_says_of_the_method():
    ended = process(*POISSON2D, "-tao_type", "bntr", "-help")
    assert (ended.code, ended.err) == (0, "")
    assert help_text() in ended.out
    for name in ("-tao_max_it", "-tao_bnk_", "-pc_type", "-pc_asm_type", "-log_view"):
        assert name in ended.out, name
    assert "-tao_blmvm_" not in ended.out
    assert "objective" not in ended.out.partition("pescitrain: ")[0]  # nothing was solved
    assert "Used the budget" not in ended.out


def test_the_short_name_of_help_is_help():
    ended = process(*POISSON2D, "-h")
    assert (ended.code, ended.err) == (0, "")
    assert help_text() in ended.out
    assert "Used the budget" not in ended.out


def test_log_view_has_the_stages_of_a_run(tmp_path):
    ended = process(*POISSON2D, "-tao_max_it", 2, "-out_dir", tmp_path, "-log_view")
    assert ended.code == 0
    stages = ended.out.partition("Summary of Stages:")[2].partition("------")[2]
    for number, name in enumerate(("Main Stage", "Set-up", "Train")):
        assert f"{number}: {name:>15}: " in stages, ended.out
    assert "option -log_view" not in ended.out


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("-tao_monitor -tao_max_it 2", ["0 TAO,  Function value", "2 TAO,  Function value"]),
        ("-tao_view -tao_max_it 2", ["Tao Object: 1 MPI process", "type: blmvm", "type: asm"]),
        ("-tao_converged_reason -tao_max_it 2", ["TAO solve did not converge due to DIVERGED_MAXITS"]),
        ("-tao_type adam -tao_view -tao_max_it 2", ["Adam: lr=0.001 beta1=0.9 beta2=0.999 eps=1e-08"]),
        ("-snes_type newtonls -snes_monitor -snes_max_it 2", ["0 SNES Function norm", "2 SNES Function norm"]),
        (
            "-snes_type newtonls -snes_view -snes_max_it 2",
            ["SNES Object: 1 MPI process", "type: newtonls", "type: asm"],
        ),
        ("-snes_type newtonls -ksp_monitor -snes_max_it 1", ["0 KSP ", "1 KSP "]),
        ("-stages a -a_tao_view -tao_max_it 1", ["Tao Object: (a_) 1 MPI process"]),
    ],
)
def test_monitors_and_views_of_petsc(tmp_path, words, texts):
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path)
    assert ended.code == 0
    for text in texts:
        assert text in ended.out, ended.out
    assert "was not used" not in ended.out


@pytest.mark.parametrize("words", ["", "-problem burgers", "-problem burgers -bc_enforce hard", "-problem elasticity"])
def test_derivatives_of_shipped_problems_pass(tmp_path, words):
    ended = command(*words.split(), *TINY, "-check_derivatives", "-out_dir", tmp_path / "run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count("   passed\n") == 5
    assert not (tmp_path / "run").exists()


def test_a_residual_with_a_wrong_derivative_fails_and_the_right_one_passes(tmp_path):
    """u² with the derivative ``factor`` u: the gradient and the Jacobian agree with each other but not with φ."""
    text = """
import torch
from pescitrain import Box, Problem, Residual

class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return u * u
    @staticmethod
    def backward(ctx, g):
        return FACTOR * ctx.saved_tensors[0] * g

class User(Problem):
    def domain(self):
        return Box(("x", "y"), (0, 0), (1, 1))
    def terms(self):
        return [Residual(lambda u, x: Square.apply(u.value + x) - 1)]
"""
    file = tmp_path / "user.py"
    for factor, code in ((2.0, 0), (2.1, 1)):
        file.write_text(text.replace("FACTOR", str(factor)))
        ended = command("-problem", file, *TINY, "-check_derivatives")
        assert ended.code == code
        lines = [line for line in ended.out.splitlines() if "Taylor remainder" in line]
        assert len(lines) == 2
        assert all(line.endswith("FAILED" if code else "passed") for line in lines)
