"""Names of methods, and the sentences about names that are none."""

import pytest
from petsc4py import PETSc

from pescitrain.errors import OptionError
from pescitrain.solvers.names import (
    OWN_TAO_TYPES,
    TAO_BOUNDED,
    TAO_NEWTON,
    TAO_REFUSED,
    TAO_SLOT,
    check_type,
    known_types,
)
from pescitrain.solvers.outcome import Outcome


@pytest.mark.parametrize("kind", ["tao", "snes"])
def test_every_known_type_is_accepted_and_exists(kind):
    exists = vars((PETSc.TAO if kind == "tao" else PETSc.SNES).Type).values()
    names = known_types(kind)
    assert names == sorted(set(names))
    for name in names:
        check_type(kind, name, "-option")
        assert name in exists or name in OWN_TAO_TYPES


@pytest.mark.parametrize("kind", ["tao", "snes"])
def test_every_other_type_of_petsc_is_refused(kind):
    types = {value for key, value in vars((PETSc.TAO if kind == "tao" else PETSc.SNES).Type).items() if key.isupper()}
    for name in types - set(known_types(kind)) - ({"python"} if kind == "tao" else set()):
        with pytest.raises(OptionError, match=f"^-option {name}"):
            check_type(kind, name, "-option")


@pytest.mark.parametrize("name", TAO_REFUSED)
def test_a_type_that_makes_no_sense_is_refused_with_what_to_use(name):
    with pytest.raises(OptionError, match=rf"^-warm_tao_type {name}: .*use "):
        check_type("tao", name, "-warm_tao_type")


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("tao", "blvmm", r"^-x blvmm is no method that is known; did you mean blmvm\? \(choose from adagrad, adam, "),
        ("snes", "newtonsl", r"newtonsl is no method that is known; did you mean newtonls\?"),
        ("snes", "ms", r"ms does not fit the training of networks \(choose from anderson, "),
        ("snes", "blmvm", r"blmvm is no method that is known"),
        ("tao", "zzz", r"zzz is no method that is known \(choose"),
    ],
)
def test_an_unknown_type_is_an_error_with_the_nearest_one(kind, name, sentence):
    with pytest.raises(OptionError, match=sentence):
        check_type(kind, name, "-x")


def test_newton_and_bounded_types_are_known_types():
    assert set(TAO_NEWTON) <= set(TAO_SLOT) <= set(known_types("tao"))
    assert set(TAO_BOUNDED) <= set(known_types("tao"))


@pytest.mark.parametrize(
    ("reason", "budget", "diverged"),
    [("CONVERGED_GATOL", False, False), ("DIVERGED_MAXITS", True, False), ("DIVERGED_LS_FAILURE", False, True)],
)
def test_the_end_of_a_budget_is_no_divergence(reason, budget, diverged):
    assert Outcome(reason, 3, budget).diverged is diverged
