"""A problem in a file of the user's own, on a mesh of the user's own; and what can be wrong with it."""

import meshio
import numpy as np
import pytest
from run.commands import TINY, command, history, refused, summary  # pyright: ignore[reportMissingImports]
from run.squares import BOTTOM, LEFT, RIGHT, TOP, write_square  # pyright: ignore[reportMissingImports]

USER_FILE = '''
"""-Δu = f in a square plate, u = 0 on the wall, no flux through the free sides."""
from math import pi

import numpy as np
import torch

from pescitrain import Dirichlet, Neumann, Problem, Residual


class Plate(Problem):
    def equation(self, u, x, y):
        return -u.laplacian - 1.25 * pi**2 * torch.sin(pi * x / 2) * torch.cos(pi * y)

    def terms(self):
        return [Residual(self.equation), Dirichlet(0.0, on="wall"), Neumann(0.0, on="free")]

    def exact(self, x, y):
        return np.sin(pi * x / 2) * np.cos(pi * y)
'''


def exact(x):
    return np.sin(np.pi * x[:, 0] / 2) * np.cos(np.pi * x[:, 1])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """The unit square in triangles, with the groups ``plate``, ``wall`` (x = 0) and ``free`` (the other sides)."""
    path = tmp_path_factory.mktemp("mesh") / "unseen.msh"
    return write_square(path, 8, {"wall": [LEFT], "free": [RIGHT, BOTTOM, TOP]})


@pytest.fixture
def user(tmp_path):
    """A function: text of a file -> its path."""

    def write(text, name="user.py"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_file_of_25_lines_trains_on_an_unseen_mesh_with_the_defaults(user, mesh, tmp_path):
    assert len(USER_FILE.strip().splitlines()) <= 25
    words = ("-problem", f"{user(USER_FILE)}:Plate", "-mesh", mesh, "-tao_max_it", 100, "-out_pictures", "false")
    assert command(*words, "-out_dir", tmp_path / "run").code == 0
    assert summary(tmp_path / "run")["rel_l2"] <= 1e-2
    found = meshio.read(tmp_path / "run" / "solution.vtu")
    difference = found.point_data["u"] - exact(found.points)
    # Against the reference by the test's own formula, with equal weights for all nodes.
    assert np.linalg.norm(difference) <= 1e-2 * np.linalg.norm(exact(found.points))
    columns = set(history(tmp_path / "run")[0])
    assert columns >= {"residual_interior", "dirichlet_wall", "neumann_free"}


def test_a_reference_file_takes_the_place_of_an_exact_solution(user, mesh, tmp_path):
    text = USER_FILE.partition("    def exact")[0]
    given = meshio.read(mesh)
    given.point_data = {"u": 2.0 * exact(given.points)}
    given.write(tmp_path / "ref.vtu")
    words = ("-problem", user(text), "-mesh", mesh, *TINY, "-max_time", 1e-9, "-out_dir", tmp_path / "run")
    assert command(*words).code == 0
    assert summary(tmp_path / "run")["rel_l2"] is None
    assert command(*words, "-ref_file", tmp_path / "ref.vtu").code == 0
    found = meshio.read(tmp_path / "run" / "solution.vtu")
    np.testing.assert_allclose(found.point_data["u_reference"], 2.0 * exact(found.points), atol=1e-12)
    assert summary(tmp_path / "run")["rel_l2"] > 0


def test_parameters_of_a_dataclass_are_options(user, tmp_path):
    file = user(
        "from dataclasses import dataclass\n"
        "from pescitrain import Box, Dirichlet, Problem, Residual\n"
        "@dataclass\n"
        "class Bar(Problem):\n"
        "    load: float = 1.0\n"
        "    coordinates = ('x',)\n"
        "    def domain(self):\n"
        "        return Box(('x',), (0.0,), (1.0,))\n"
        "    def terms(self):\n"
        "        return [Residual(lambda u: u.xx + self.load), Dirichlet(0.0)]\n"
        "    def exact(self, x):\n"
        "        return 0.5 * self.load * x * (1 - x)\n"
    )
    words = ("-problem", file, *TINY, "-out_dir", tmp_path / "run")
    assert refused(*words, "-problem_laod", 3) == "unknown option -problem_laod; did you mean -problem_load?"
    assert command(*words, "-problem_load", 3, "-tao_max_it", 60).code == 0
    assert summary(tmp_path / "run")["problem_parameters"] == {"load": "3.0"}
    u = meshio.read(tmp_path / "run" / "solution.vtu").point_data["u"]
    assert u.max() == pytest.approx(3 / 8, rel=0.02)  # an error of 1e-3 relative to u, with a margin


# ------------------------------------------------------------------------------------------------------- errors

HEAD = """import torch
from pescitrain import Box, Dirichlet, Problem, Residual

class Square(Problem):
    def domain(self):
        return Box(("x", "y"), (0, 0), (1, 1))
"""


def with_terms(terms: str) -> str:
    return f"{HEAD}    def terms(self):\n        return [{terms}]\n"


WRONG_TERMS = {
    "Residual(lambda u: u.xx.sum())": (
        "term 'residual_interior': the residual must give one number a sample (3,), or a tuple of such; it gave ()"
    ),
    "Residual(lambda u: 1.0)": (
        "term 'residual_interior': the residual must give one number a sample (3,), or a tuple of such; it gave float"
    ),
    "Residual(lambda x: x)": "term 'residual_interior': its residual uses no field (u)",
    "Residual(lambda temp: temp.xx)": (
        "the residual of term 'residual_interior' asks for 'temp', which is not known (known: u, x, y)"
    ),
    "Residual(lambda u, xx: u)": (
        "the residual of term 'residual_interior' asks for 'xx', which is not known; did you mean 'x'? (known: u, x, y)"
    ),
    "Residual(lambda u: u.xz)": (
        "u.xz: no such derivative; write coordinate names one after the other (x, y; twice for a second derivative), "
        "or laplacian, grad, n"
    ),
    "Residual(lambda u: u.n)": "u.n: there is no normal inside the domain; use it in boundary terms only",
    'Residual(lambda u: u.xx), Dirichlet(0.0, on="x_mn")': (
        "There is no face 'x_mn'; did you mean 'x_min'? the names are boundary, x_min, x_max, y_min, y_max."
    ),
    'Residual(lambda u: u.xx), Dirichlet(0.0, "v")': "term 'dirichlet_boundary': no field 'v'; there are u",
    "": "problem Square has no terms left to minimise",
}


@pytest.mark.parametrize("terms", WRONG_TERMS)
def test_wrong_terms(user, tmp_path, terms):
    words = ("-problem", user(with_terms(terms)), *TINY, "-out_dir", tmp_path / "run")
    assert refused(*words) == WRONG_TERMS[terms]
    assert not (tmp_path / "run").exists()


WRONG_FILES = {
    "a syntax error": ("class Square(Problem)\n", "SyntaxError: expected ':' ({file}:1)"),
    "a missing module": (
        "import nothing_of_this_name\n",
        "ModuleNotFoundError: No module named 'nothing_of_this_name' ",
    ),
    "an error while it is imported": ("x = 1\nx / 0\n", "ZeroDivisionError: division by zero ({file}:2, in <module>)"),
    "an error in terms()": (with_terms("1 / 0"), "ZeroDivisionError: division by zero ({file}:8, in terms)"),
    "an error in domain()": (HEAD.replace("Box(", "Bix("), "NameError: name 'Bix' is not defined"),
    "an error in exact()": (
        with_terms("Residual(lambda u: u.xx)") + "    def exact(self, x, y):\n        return x[-1:, 2]\n",
        "IndexError: ",
    ),
    "an error in a residual": (with_terms("Residual(lambda u: u.xx @ 'a')"), "TypeError: "),
}


WRONG_VALUES = {
    "pass": "problem Square: terms() must return a list of terms; it returned NoneType",
    "return Residual(lambda u: u.xx)": "problem Square: terms() must return a list of terms; it returned Residual",
    "return [Residual(lambda u: u.xx), 0.0]": (
        "problem Square: terms() must return a list of terms; it returned Residual, float"
    ),
    "return [Residual(lambda u: u.xx)]\n    def exact(self, x): return x[:3]": (
        "the exact solution of problem Square must give one number a point (10201,), or a tuple of such; it gave (3,)"
    ),
    "return [Residual(lambda u: u.xx)]\n    def exact(self, x): return x * float('nan')": (
        "the exact solution of problem Square is not finite at 10201 of 10201 points, the first of them (0, 0)"
    ),
}


@pytest.mark.parametrize("body", WRONG_VALUES)
def test_what_terms_and_exact_return_is_checked(user, tmp_path, body):
    file = user(f"{HEAD}    def terms(self):\n        {body}\n")
    assert refused("-problem", file, *TINY, "-out_dir", tmp_path / "run") == WRONG_VALUES[body]


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_files(user, tmp_path, name):
    text, sentence = WRONG_FILES[name]
    file = user(text)
    found = refused("-problem", file, *TINY, "-out_dir", tmp_path / "run")
    assert found.startswith(f"-problem {file}: {sentence.format(file=file)}")
    assert not (tmp_path / "run").exists()


def test_a_problem_without_terms_is_told_so(user):
    assert refused("-problem", user(HEAD)) == ("problem Square has no terms(): return its equations and conditions")


def test_a_file_or_a_class_that_is_not_there(user, tmp_path):
    missing, file = tmp_path / "missing.py", user(HEAD)
    assert refused("-problem", missing) == f"-problem {missing}: there is no file {missing}"
    assert refused("-problem", f"{file}:Sqare") == (
        f"-problem {file}:Sqare: {file} has no Problem called Sqare; did you mean :Square? (it has Square)"
    )
    none, two = user("x = 1\n", "none.py"), user(f"{HEAD}\nclass Other(Square):\n    pass\n", "two.py")
    assert refused("-problem", none) == f"-problem {none}: {none} has no subclass of pescitrain.Problem"
    assert refused("-problem", two) == f"-problem {two}: say which Problem of {two}: one of :Square, :Other"


def test_a_residual_that_fails_in_the_middle_of_a_run_ends_it_and_what_was_computed_is_kept(user, tmp_path):
    text = """
    count = 0
    def terms(self):
        return [Residual(self.equation), Dirichlet(0.0)]
    def equation(self, u):
        Square.count += 1
        if Square.count > 12:
            raise ValueError("too hot")
        return u.laplacian + 1
"""
    file = user(HEAD + text)
    ended = command("-problem", file, *TINY, "-out_model", "true", "-out_dir", tmp_path / "run")
    assert ended.code == 1
    assert ended.complaint == f"the residual failed on rank 0: ValueError: too hot ({file}:14)"
    assert summary(tmp_path / "run")["failure"] == ended.complaint
    assert summary(tmp_path / "run")["objective"] == float(history(tmp_path / "run")[-1]["objective"])
    assert len(history(tmp_path / "run")) > 2
    assert (tmp_path / "run" / "model.pt2").is_file()


def test_an_objective_without_a_value_at_the_start_is_one_sentence(user, tmp_path):
    file = user(with_terms("Residual(lambda u: torch.log(u - 1e6))"))
    ended = command("-problem", file, *TINY, "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.complaint.startswith("the objective is not finite at the start: look for logarithms and divisions")
