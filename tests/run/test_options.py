"""The table of our options: what is read, what is refused, and what is printed of it."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from petsc4py import PETSc

from pescitrain.errors import OptionError
from pescitrain.run.options import (
    TOPICS,
    ProblemOptions,
    Settings,
    StageOptions,
    describe,
    help_text,
    option,
    read,
    reference_page,
    table,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "options.md"


@dataclass(frozen=True)
class Kinds:
    """One option of each kind."""

    x_switch: bool = option(False, "a switch")
    x_count: int = option(4, "a count", minimum=1)
    x_optional: int | None = option(None, "a count", minimum=1, note="as many as there are")
    x_length: float = option(0.5, "a length", minimum=0, unit="m")
    x_scale: float = option(1.0, "a scale", above=0)
    x_names: tuple[str, ...] = option((), "names")
    x_kind: str = option("red", "a colour", choices=("red", "green"))
    x_file: str | None = option(None, "a file")


def given(text: str, prefix: str = "", **defaults: object) -> Kinds:
    PETSc.Options().insertString(text)
    return read(Kinds, prefix, defaults)


def test_defaults_of_the_table():
    assert given("") == Kinds()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        *[(f"-x_switch {word}", "x_switch", True) for word in ("", "1", "true", "Yes", "on")],
        *[(f"-x_switch {word}", "x_switch", False) for word in ("0", "false", "No", "off")],
        ("-x_count 1", "x_count", 1),
        ("-x_optional 7", "x_optional", 7),
        ("-x_length 0", "x_length", 0.0),
        ("-x_length 1e-3", "x_length", 1e-3),
        ("-x_names a,b", "x_names", ("a", "b")),
        ("-x_names a", "x_names", ("a",)),
        ("-x_kind green", "x_kind", "green"),
        ("-x_file int/float.msh", "x_file", "int/float.msh"),
    ],
)
def test_values(text, name, value):
    found = getattr(given(text), name)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-x_switch maybe", "-x_switch maybe: it is a switch, give true or false"),
        ("-x_count 1.5", "-x_count 1.5: give a whole number (a count)"),
        ("-x_count many", "-x_count many: give a whole number (a count)"),
        ("-x_count 0", "-x_count 0: it must be at least 1"),
        ("-x_optional -3", "-x_optional -3: it must be at least 1"),
        ("-x_length long", "-x_length long: give a number (a length)"),
        ("-x_length -1e-9", "-x_length -1e-9: it must be at least 0"),
        ("-x_length nan", "-x_length nan: give a finite number"),
        ("-x_length inf", "-x_length inf: give a finite number"),
        ("-x_scale 0", "-x_scale 0: it must be above 0"),
        ("-x_names a,", "-x_names a,: there is a comma with nothing beside it"),
        ("-x_kind blue", "-x_kind blue: choose from red, green"),
        ("-x_count", "-x_count needs a value (a count)"),
        ("-x_names", "-x_names needs a value (names)"),
        ("-x_kind", "-x_kind needs a value (a colour)"),
    ],
)
def test_refused_values(text, sentence):
    with pytest.raises(OptionError) as caught:
        given(text)
    assert str(caught.value) == sentence


def test_a_prefixed_name_comes_before_the_bare_one_and_that_before_defaults():
    assert given("", "warm_", x_count=9).x_count == 9
    assert given("-x_count 5", "warm_", x_count=9).x_count == 5
    assert given("-warm_x_count 6", "warm_", x_count=9).x_count == 6
    assert read(Kinds, "main_").x_count == 5


def test_a_bad_prefixed_value_is_named_with_its_prefix():
    with pytest.raises(OptionError, match=r"^-warm_x_count 0: "):
        given("-x_count 5 -warm_x_count 0", "warm_")


def test_names_are_unique_and_the_settings_hold_all_but_those_of_stages():
    every = [field.name for topic in TOPICS for field in fields(topic)]
    assert len(every) == len(set(every))
    assert list(table()) == every
    assert {f.name for f in fields(Settings)} == set(every) - {f.name for f in fields(StageOptions)}


def test_rows_of_the_table():
    rows = {name: (default, text) for name, default, text in describe(Kinds)}
    assert rows["x_switch"] == ("false", "a switch")
    assert rows["x_optional"] == ("as many as there are", "a count")
    assert rows["x_length"] == ("0.5", "a length [m]")
    assert rows["x_kind"] == ("red", "a colour (one of red, green)")


def test_help_and_reference_have_every_option_with_its_default():
    text, page = help_text(), reference_page()
    for topic in TOPICS:
        assert f"pescitrain: {topic.__doc__}" in text
        assert f"## {topic.__doc__}" in page
        for name, default, explanation in describe(topic):
            assert f"  -{name}: <default {default}> {explanation}" in text
            assert f"| `-{name}` | {default} | {explanation} |" in page
            assert "|" not in default + explanation  # it would end a cell of the table
            assert default, f"-{name} does not say its default"


def test_the_reference_page_is_current():
    """``python -m pescitrain.run.options > docs/options.md`` writes it."""
    assert REFERENCE.read_text() == reference_page()


def test_the_default_problem_is_the_one_that_the_page_names():
    assert read(ProblemOptions).problem == "poisson"
