"""What may stand in the options database: bare words, misspelt names, stages, and what nobody used."""

import pytest
from petsc4py import PETSc
from run.commands import TINY, command, process, refused  # pyright: ignore[reportMissingImports]

from pescitrain.errors import OptionError
from pescitrain.run.database import check_names, fill_stages, find_bare_words, unused
from pescitrain.run.options import table


def names(text: str, stages: tuple[str, ...] = (), parameters: tuple[str, ...] = ("nu",)) -> None:
    PETSc.Options().insertString(text)
    check_names(stages, parameters)


@pytest.mark.parametrize("text", ["", "-a", "-a 1 -b", "-a -1 -b -.5", "-problem_source -1e-3 -c"])
def test_options_and_their_values_are_no_bare_words(text):
    find_bare_words(text.split())


@pytest.mark.parametrize(
    ("text", "word", "hint"),
    [
        ("poisson", "poisson", ""),
        ("-a 1 2", "2", ""),
        ("-a 1 net_width 8", "net_width", "did you mean -net_width?"),
        ("tao_typ=blmvm", "tao_typ=blmvm", "did you mean -tao_type?"),
    ],
)
def test_a_bare_word_is_refused(text, word, hint):
    with pytest.raises(OptionError, match=f"^'{word}' is neither an option nor the value of one") as caught:
        find_bare_words(text.split())
    assert ("did you mean" in str(caught.value)) == bool(hint)
    assert hint in str(caught.value)


def test_two_dashes_are_refused_before_anything_else_is_said():
    assert process("--net_width", 3).complaint == "--net_width: options start with one dash, as -net_width"


def test_all_our_names_are_known():
    names(" ".join(f"-{name} 1" for name in table()) + " -problem_nu 1")


def test_names_of_petsc_are_left_to_petsc():
    names("-tao_maxit 3 -ksp_typ cg -log_view -pc_asm_blocks 3 -mat_view -options_left")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-net_widht 10", "unknown option -net_widht; did you mean -net_width?"),
        ("-sample_pionts 10", "unknown option -sample_pionts; did you mean -sample_points?"),
        ("-ckpt_restrat x", "unknown option -ckpt_restrat; did you mean -ckpt_restart?"),
        ("-sed 3", "unknown option -sed; did you mean -seed?"),
        ("-torch_thread 2", "unknown option -torch_thread; did you mean -torch_threads?"),
        ("-check_derivative", "unknown option -check_derivative; did you mean -check_derivatives?"),
        ("-out_xyzzy 2", "unknown option -out_xyzzy (python -m pescitrain -help lists them)"),
        ("-problem_nuu 1", "unknown option -problem_nuu; did you mean -problem_nu?"),
        ("-problem_source 1", "unknown option -problem_source (parameters of this problem: -problem_nu)"),
    ],
)
def test_a_misspelt_name_of_ours_is_refused_with_the_nearest_one(text, sentence):
    with pytest.raises(OptionError) as caught:
        names(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "-warm_net_width 4",
            "-warm_net_width: net_width holds for all stages, write -net_width, or give the stage a new network by "
            "-warm_net_correction",
        ),
        ("-warm_gn_lg 4", "unknown option -warm_gn_lg; did you mean -gn_lag?"),
        ("-wram_tao_type adam", "unknown option -wram_tao_type; did you mean -warm_tao_type?"),
        ("-mian_max_time 3", "unknown option -mian_max_time; did you mean -main_max_time?"),
    ],
)
def test_a_misspelt_name_of_a_stage_is_refused(text, sentence):
    with pytest.raises(OptionError) as caught:
        names(text, ("warm", "main"))
    assert str(caught.value) == sentence


def test_names_of_stages_are_known():
    names("-warm_gn_lag 4 -warm_tao_type adam -main_max_time 3 -main_pc_type asm", ("warm", "main"))


def test_stages_get_bare_solver_options_but_keep_their_own():
    options = PETSc.Options()
    options.insertString("-tao_max_it 7 -main_tao_max_it 9 -net_width 5 -tao_monitor")
    copies = fill_stages(("warm", "main"))
    assert copies == {name: [f"warm_{name}", f"main_{name}"] for name in ("tao_max_it", "tao_monitor")}
    everything = options.getAll()
    assert everything["warm_tao_max_it"] == "7"
    assert everything["main_tao_max_it"] == "9"
    assert "warm_tao_monitor" in everything
    assert "warm_net_width" not in everything


def test_a_stage_with_a_method_of_its_own_gets_no_other():
    options = PETSc.Options()
    options.insertString("-tao_type adam -main_snes_type qn")
    fill_stages(("warm", "main"))
    assert {"warm_tao_type", "main_snes_type"} <= options.getAll().keys()
    assert "main_tao_type" not in options.getAll()


def test_an_option_is_told_as_unused_unless_it_or_its_copy_was_read():
    options = PETSc.Options()
    options.insertString("-tao_max_it 7 -tao_gatol 1e-3 -ksp_rtlo 0.1 -foo -tao_lm_momentum 0.9")
    user = list(options.getAll())
    copies = fill_stages(("warm",))
    options.getInt("warm_tao_max_it")
    assert unused(user, copies) == [
        "option -foo was not used by this run",
        "option -ksp_rtlo 0.1 was not used by this run; did you mean -ksp_rtol?",
        "option -tao_gatol 1e-3 was not used by this run",
        "option -tao_lm_momentum 0.9 was not used by this run",  # and -tao_lbfgs_momentum would not help
    ]


def test_a_misspelt_option_of_petsc_is_told_at_the_end_of_the_run(tmp_path):
    ended = command("-problem", "poisson2d", *TINY, "-tao_max_it", 1, "-tao_maxit", 5, "-out_dir", tmp_path / "run")
    assert ended.code == 0
    notes = [line for line in ended.out.splitlines() if line.startswith("note: ")]
    assert notes == ["note: option -tao_maxit 5 was not used by this run; did you mean -tao_max_it?"]


def test_an_option_of_the_solver_that_does_not_run_is_told_where_the_problem_has_a_default_of_it(tmp_path):
    words = ("-problem", "burgers", *TINY, *"-solver snes -snes_max_it 1 -tao_max_it 5".split())
    ended = command(*words, "-out_dir", tmp_path / "run")
    assert "note: option -tao_max_it 5 was not used by this run" in ended.out.splitlines()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("-problem burgers -net_widht 10", "unknown option -net_widht; did you mean -net_width?"),
        ("-problem burgers -problem_mu 0.1", "unknown option -problem_mu (parameters of this problem: -problem_nu)"),
        ("-problem burgers -problem_nu thick", "-problem_nu thick: give a number"),
        ("-problem poisson2d -problem_m 4.5", "-problem_m 4.5: give a whole number"),
        ("-problem poisson2d extra", "'extra' is neither an option nor the value of one (options start with a dash)"),
        ("-problem poisson2d -stages a,b -b_seed 1", "-b_seed: seed holds for all stages, write -seed"),
        ("-problem burgers -net_depth 0", "-net_depth 0: it must be at least 1"),
        ("-problem burgers -bc_enforce rigid", "-bc_enforce rigid: choose from soft, hard"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_before_any_work(tmp_path, words, sentence):
    folder = tmp_path / "run"
    assert refused(*words.split(), "-out_dir", folder) == sentence
    assert not folder.exists()


def test_an_unknown_problem_is_refused_with_the_nearest_one_and_all_of_them():
    sentence = refused("-problem", "burgrs")
    assert sentence.startswith("-problem burgrs: no such problem; did you mean 'burgers'? there are poisson, ")
    assert "path/to/file.py:Class" in sentence
