"""What a user can get wrong: one sentence, exit code 2, nothing left behind."""

import re

import pytest
from run.commands import TINY, command, process, refused  # pyright: ignore[reportMissingImports]
from run.squares import LEFT, write_square  # pyright: ignore[reportMissingImports]

POISSON2D = ("-problem", "poisson2d", *TINY, "-tao_max_it", 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-tao_type", r"-tao_type needs a value: choose from adagrad, adam, "),
        (
            "-tao_type lm -snes_type qn",
            r"-tao_type lm and -snes_type qn are both given: leave .*, or choose by -solver$",
        ),
        (
            "-stages a,b -b_tao_type lm -b_snes_type qn",
            r"-b_tao_type lm and -b_snes_type qn are both given: leave out one, or choose by -b_solver$",
        ),
        ("-stages a,b,a", r"-stages a,b,a: a is there twice; give each a name of its own$"),
        ("-tao_type blmv", r"-tao_type blmv is no method that is known; did you mean blmvm\?"),
        ("-snes_type newtonl", r"-snes_type newtonl is no method that is known; did you mean newtonls\?"),
        ("-pc_type asn", r"-pc_type asn: PETSc has no such type; did you mean asm\?"),
        ("-sub_pc_type cholseky", r"-sub_pc_type cholseky: PETSc has no such type; did you mean cholesky\?"),
        ("-ksp_type gmrez", r"-ksp_type gmrez: PETSc has no such type; did you mean (f|l|p)?gmres\?"),
        ("-pc_type 7", r"-pc_type 7: PETSc has no such type \(there are .*asm, "),
        ("-stages a,b -b_tao_type blmv", r"-b_tao_type blmv is no method that is known; did you mean blmvm\?"),
        ("-pc_type nystrom -pc_nystrom_rank 0", r"-pc_nystrom_rank 0: it must be at least 1"),
        ("-pc_type kfca", r"-pc_type kfca: PETSc has no such type; did you mean kfac\?"),
        ("-pc_type kfac -gn_mat dense", r"-gn_mat dense: -pc_type kfac reads no entries; leave it out"),
        ("-pc_type kfac -gn_precision single", r"-gn_precision single: -pc_type kfac reads no entries; leave it out"),
        ("-pc_type mg -hier_levels 9", r"-hier_type both: a network of 2 layers cannot be coarsened further"),
        ("-stages a,b -b_pc_type asn", r"-b_pc_type asn: PETSc has no such type; did you mean asm\?"),
        ("-tao_type bqnkls", r"-tao_type bqnkls: .*use bqnktr or bqnls"),
        ("-tao_type pounders", r"-tao_type pounders: .*use blmvm"),
        ("-tao_type almm", r"-tao_type almm: it is for constrained, complementarity or quadratic problems: use "),
        ("-snes_type ms", r"-snes_type ms does not fit the training of networks \(choose from anderson, "),
        ("-mesh a.msh", r"-mesh a.msh: problem Poisson2D lives in a box and takes no mesh"),
        ("-sample_type quadrature", r"-sample_type quadrature needs a mesh; for a box choose hammersley, "),
        ("-problem burgers -problem_nu -1", r"burgers resolves viscosities from 1e-4 on, not -1.0"),
        (
            "-problem diffusion_advection -problem_mu 0",
            r"diffusion_advection resolves layers from a diffusion of 0.001",
        ),
        ("-gn_mat none -pc_type asm", r"-gn_mat none leaves -pc_type asm without a matrix: use blocks or dense"),
    ],
)
def test_a_senseless_choice_is_refused(tmp_path, words, sentence):
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert re.match(sentence, ended.complaint), ended.complaint


NO_ENTRIES = "use -pc_type kfac, nystrom or woodbury, which hold no entries"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "-tao_type blmvm",
            "-pc_type asm: the matrix of 3 blocks, of which the largest has 72 parameters, has 5.8e+03 entries, "
            f"0 GiB, and this machine has 0 GiB: {NO_ENTRIES}, or none",
        ),
        (
            "-tao_type bntr -pc_type mg",
            "-pc_type mg: the matrix of 105 parameters has 1.1e+04 entries, 0 GiB, and this machine has 0 GiB: "
            f"{NO_ENTRIES}, or none",
        ),
        (
            "-tao_type bntr -pc_type spectral",
            "-pc_type spectral: the matrix of 3 blocks has 5.8e+03 entries, 0 GiB, and this machine has 0 GiB: "
            f"{NO_ENTRIES}",
        ),
        (
            "-tao_type bntr -pc_type filter",
            "-pc_type filter: the matrix of 3 blocks has 5.8e+03 entries, 0 GiB, and this machine has 0 GiB: "
            f"{NO_ENTRIES}",
        ),
        (
            "-tao_type lm",
            "-tao_type lm: the matrix of 105 parameters has 1.1e+04 entries, 0 GiB, and this machine has 0 GiB: use "
            "-tao_lm_space krylov",
        ),
        (
            "-tao_type lm -sample_points 40",
            "-tao_type lm: the matrix of 80 residuals has 6.4e+03 entries, 0 GiB, and this machine has 0 GiB: use "
            "-tao_lm_space krylov",
        ),
        (
            "-tao_type lm -net_type subdomain -net_subdomains 3 -net_width 3 -net_depth 1 -net_start random",
            "-tao_type lm: the sparse matrix of 117 parameters with its factor has 1.2e+04 entries, 0 GiB, and this "
            "machine has 0 GiB: use -tao_lm_space krylov -pc_type two_level",
        ),
        (
            "-tao_type ssbroyden",
            "-tao_type ssbroyden: the inverse Hessian of 105 parameters has 1.1e+04 entries, 0 GiB, and this machine "
            "has 0 GiB: use -tao_type lbfgs, which keeps a few vectors",
        ),
    ],
)
def test_a_matrix_that_no_memory_holds_is_refused_before_it_is_made(tmp_path, monkeypatch, words, sentence):
    monkeypatch.setattr("pescitrain.algebra.memory.memory_of_machine", lambda: 1e4)
    ended = command(*POISSON2D, *words.split(), "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.complaint == sentence


def test_a_sparse_matrix_with_more_entries_than_petsc_counts_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pescitrain.algebra.memory.LIMIT", 1000)
    ended = command(*POISSON2D, "-tao_type", "blmvm", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    assert re.search(r"5.8e\+03 entries, 0 GiB, and this PETSc counts to 1.0e\+03: use -pc_type ", ended.complaint)


def test_a_run_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert refused(*POISSON2D, "-out_dir", file / "run") == f"-out_dir {file / 'run'} cannot be made: Not a directory"


def test_a_file_of_options_that_is_not_there_is_one_sentence(tmp_path):
    file = tmp_path / "options.yaml"
    ended = process("-options_file", file)
    assert (ended.code, ended.out) == (2, "")
    assert ended.complaint == f"-options_file {file}: there is no such file"


def test_a_broken_file_of_options_is_a_usage_error(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("problem: [poisson2d\n")
    ended = process("-options_file", file)
    assert ended.code == 2
    assert "YAML" in ended.err  # PETSc's own words
    assert ended.err.endswith("pescitrain: PETSc cannot read these options; what it says about them stands above\n")


# ---------------------------------------------------------------------------------------------------------- meshes


def square(path, name="hole"):
    """The unit square, its left side a named boundary."""
    return write_square(path, 2, {name: [LEFT]})


def test_a_mesh_that_is_not_there(tmp_path):
    assert refused("-mesh", tmp_path / "a.msh") == f"-mesh {tmp_path / 'a.msh'}: there is no such file"


def test_an_empty_mesh_file(tmp_path):
    (tmp_path / "a.msh").write_text("")
    sentence = refused("-mesh", tmp_path / "a.msh")
    assert sentence == f"Cannot use the mesh file '{tmp_path / 'a.msh'}': it is empty; write it again."


def test_a_mesh_file_that_was_cut_off(tmp_path):
    path = square(tmp_path / "a.msh")
    path.write_bytes(path.read_bytes()[:-200])
    assert refused("-mesh", path).startswith(f"Cannot use the mesh file '{path}': it is cut off")


def test_a_file_that_is_no_mesh(tmp_path):
    (tmp_path / "a.msh").write_text("hello\n")
    assert refused("-mesh", tmp_path / "a.msh").startswith(f"Cannot use the mesh file '{tmp_path / 'a.msh'}': ")


def test_a_boundary_that_the_mesh_does_not_have_is_named_with_the_nearest_one(tmp_path):
    path = square(tmp_path / "a.msh", "left_side")
    sentence = refused("-mesh", path, "-problem_dirichlet", "left_sid")
    assert sentence == (
        "There is no boundary of the mesh 'left_sid'; did you mean 'left_side'? the names are boundary, left_side."
    )


def test_a_mesh_of_the_wrong_dimension(tmp_path):
    file = tmp_path / "user.py"
    file.write_text(
        "from pescitrain import Dirichlet, Problem, Residual\n"
        "class Solid(Problem):\n"
        "    coordinates = ('x', 'y', 'z')\n"
        "    def terms(self):\n"
        "        return [Residual(lambda u: u.laplacian + 1), Dirichlet(0.0)]\n"
    )
    path = square(tmp_path / "a.msh")
    sentence = refused("-problem", file, "-mesh", path)
    assert sentence == f"-mesh {path} has 2 dimensions, problem Solid has the coordinates x, y, z"
    assert refused("-problem", file) == "problem Solid lives on a mesh: give one by -mesh file.msh"


@pytest.mark.parametrize(
    ("text", "sentence"), [(None, ": there is no such file"), ("<VTKFile>", "broken or not in the format")]
)
def test_a_reference_file_that_cannot_be_read(tmp_path, text, sentence):
    file = tmp_path / "ref.vtu"
    if text is not None:
        file.write_text(text)
    assert sentence in refused(*POISSON2D, "-ref_file", file)


@pytest.mark.parametrize(
    ("words", "note"),
    [
        (
            "-problem poisson -sample_points 300",
            "-sample_points has no effect with -sample_type quadrature; it is for points that are drawn, as of sobol",
        ),
        (
            "-problem poisson2d -sample_points 300 -sample_order 3",
            "-sample_order has no effect with -sample_type hammersley; it is for quadrature on a mesh",
        ),
    ],
)
def test_options_of_points_are_told_where_they_have_no_effect(tmp_path, words, note):
    quiet = "-net_width 4 -net_depth 1 -tao_max_it 1 -out_pictures false -out_model false".split()
    ended = command(*words.split(), *quiet, "-out_dir", tmp_path)
    assert [line for line in ended.out.splitlines() if line.startswith("note: ")] == [f"note: {note}"]
