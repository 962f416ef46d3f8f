"""Every coupled host does what its docstring says, at a size that takes seconds."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run.commands import MPIEXEC, command, program, summary  # pyright: ignore[reportMissingImports]

HOSTS = Path(__file__).resolve().parents[2] / "examples" / "coupling"
MATRIX_PC = (
    "-pc_type composite -pc_composite_type multiplicative -pc_composite_pcs python,sor "
    "-sub_0_pc_python_type pescitrain.coupling.NetworkPC -sub_0_pc_network_file"
)


def ran(*words, cwd, ranks=1):
    """What a program of ours prints; it must end well."""
    launcher = [MPIEXEC, "-n", str(ranks)] if ranks > 1 else []
    ended = program([*launcher, sys.executable, *words], cwd=cwd)
    assert ended.code == 0, ended.err
    return ended.out


def number(pattern, text):
    found = re.search(pattern, text)
    assert found is not None, text
    return float(found.group(1))


def test_a_host_solves_without_us(tmp_path):
    out = ran(HOSTS / "bratu_host.py", "-size", "17", cwd=tmp_path)
    assert re.fullmatch(r"4 Newton iterations, max u = 0\.75\d+\n", out)


@pytest.mark.parametrize("ranks", [1, 2])
def test_later_solves_start_from_what_earlier_ones_taught(tmp_path, ranks):
    words = "-size 17 -solves 60 -tests 10 -pescitrain_tao_max_it 80".split()
    out = ran(HOSTS / "bratu_sweep.py", *words, cwd=tmp_path, ranks=ranks)
    assert number(r"([\d.]+) saved", out) > 1.5  # measured 1.8; with 100 solves, 33 × 33 nodes and 200 iterations 2.3


def test_the_lines_that_couple_the_sweep_are_few():
    code = (HOSTS / "bratu_sweep.py").read_text()
    coupled = code.split("# -- coupled\n")[1].strip().splitlines()
    assert len(coupled) <= 12  # of which three are the host's own loop


def test_a_host_is_solved_on_its_own_equations(tmp_path):
    words = "-size 17 -pescitrain_tao_max_it 40 -pescitrain_net_width 12".split()
    out = ran(HOSTS / "bratu_equations.py", *words, cwd=tmp_path)
    assert number(r"iterations\): ([\d.e+-]+)", out) < 3e-3  # measured 7.8e-4


def test_a_trained_trunk_makes_an_indefinite_operator_easy(tmp_path):
    words = "-coarse_size 13 -size 25 -solves 60 -tests 2 -pescitrain_tao_max_it 6".split()
    out = ran(HOSTS / "helmholtz_preconditioner.py", *words, cwd=tmp_path)
    smoother, network = (number(rf"{name}: median ([\d.]+)", out) for name in ("SOR", "\ntrained trunk"))
    assert network < 0.4 * smoother  # measured 14 of 71


def test_what_a_host_lacks_is_learnt_and_added(tmp_path):
    words = "-size 17 -observations 1 -tests 1 -pescitrain_tao_max_it 30".split()
    out = ran(HOSTS / "missing_reaction.py", *words, cwd=tmp_path)
    without, with_law = (number(rf"{name}: relative error ([\d.e+-]+)", out) for name in ("alone", "law"))
    assert with_law < 1e-2 * without  # measured 1.1e-4 of 4.9e-1


def test_some_ranks_train_while_others_simulate(tmp_path):
    words = "-rounds 2 -solves 20 -size 9 -wait -pescitrain_tao_max_it 30".split()
    out = ran(HOSTS / "online.py", *words, cwd=tmp_path, ranks=3)
    first = number(r"round 0: ([\d.]+) Newton iterations from zero", out)
    last = number(r"round 1: ([\d.]+) Newton iterations from the network", out)
    assert last < first - 0.4  # a round of twenty solves are few: measured 1.2
    assert out.count("trained on") == 2


def test_a_package_on_petsc_starts_from_the_network(tmp_path):
    pytest.importorskip("fipy")
    words = "-cells 8 -solves 20 -tests 4 -pescitrain_tao_max_it 30".split()
    out = ran(HOSTS / "fipy_sweep.py", *words, cwd=tmp_path)
    cold, warm = (number(rf"([\d.]+) from {start}", out) for start in ("zero", "the network"))
    assert warm < cold - 1.5  # measured 2.25 less


def test_a_c_program_feeds_training_and_uses_what_it_gave(tmp_path):
    """Its Vecs are the samples, and a Python PC by options alone makes its solves shorter."""
    folder = shutil.copytree(HOSTS / "c_host", tmp_path / "host")
    built = program(["make", "-s", f"PYTHON={sys.executable}"], cwd=folder)
    assert built.code == 0, built.err
    config = "import petsc4py; c = petsc4py.get_config(); print(c['PETSC_DIR']); print(c['PETSC_ARCH'])"
    prefix = program([sys.executable, "-c", config])
    petsc = dict(zip(("PETSC_DIR", "PETSC_ARCH"), [*prefix.out.split("\n"), ""], strict=False))
    environment = {**os.environ, **petsc, "PYTHONPATH": str(HOSTS.parents[1])}

    def host(*words):
        ended = subprocess.run(
            [folder / "helmholtz", *words], cwd=folder, env=environment, text=True, capture_output=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return number(r"solves: (\d+) Krylov", ended.stdout)

    host(*"-size 17 -solves 60 -ksp_type preonly -pc_type lu -file solutions.bin".split())
    data = ("solutions.bin", "-data_parameters", "solutions.csv", "-data_coordinates", "nodes.bin")
    files = [word if word.startswith("-") else folder / word for word in data]
    options = (
        "-bc_enforce hard -net_width 32 -net_depth 2 -tao_type lm -tao_lm_space krylov -pc_type kfac -tao_max_it 8"
    )
    words = ("-problem", f"{folder / 'square.py'}:Square", "-data_file", *files, *options.split())
    ended = command(*words, "-out_dir", tmp_path / "run", "-out_pictures", "false")
    assert ended.code == 0, ended.err
    assert summary(tmp_path / "run")["test_rel_l2"] > 0.0
    krylov = "-size 33 -solves 5 -seed 1 -ksp_type fgmres -ksp_gmres_restart 100".split()
    alone = host(*krylov, "-pc_type", "sor")
    together = host(*krylov, "-python", sys.executable, *MATRIX_PC.split(), tmp_path / "run" / "basis.pt2")
    assert together < 0.6 * alone
