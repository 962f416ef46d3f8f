"""Sets of derivatives: which members they need, and their chain and product rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pescitrain.networks.components import VALUE, Components, Composition, Laplacian, Product, order

partials = st.lists(st.integers(0, 2), max_size=4).map(lambda axes: tuple(sorted(axes)))
laplacians = st.sets(st.integers(0, 2), min_size=1).map(lambda axes: Laplacian(tuple(sorted(axes))))
sets_of_components = st.lists(partials | laplacians, max_size=4)

BELL = (1, 1, 2, 5, 15)  # partitions of a set of k elements


def test_a_set_holds_the_value_and_all_that_its_chain_rule_needs():
    assert Components.closed([]).members == ((),)
    assert Components.closed([(0, 0, 1)]).members == ((), (0,), (1,), (0, 0), (0, 1), (0, 0, 1))
    assert Components.closed([Laplacian((0, 2))]).members == ((), (0,), (2,), Laplacian((0, 2)))


def test_members_are_ordered_by_order_with_laplacians_after_partials():
    wanted = [Laplacian((0, 1)), (1, 1), (0, 0, 0), (0, 1), Laplacian((0,))]
    expected = ((), (0,), (1,), (0, 0), (0, 1), (1, 1), Laplacian((0,)), Laplacian((0, 1)), (0, 0, 0))
    assert Components.closed(wanted).members == expected


def test_sets_with_the_same_members_are_equal_and_hash_alike():
    first, second = Components.closed([(0, 1), (0,)]), Components.closed([(0, 1)])
    assert first == second
    assert hash(first) == hash(second)
    assert first != Components.closed([(0, 0)])


def test_orders_are_those_of_differentiation():
    assert [order(c) for c in (VALUE, (1,), (0, 2), Laplacian((0, 1, 2)), (0, 0, 0, 1))] == [0, 1, 2, 2, 4]
    assert Components.closed([]).max_order == 0
    assert Components.closed([Laplacian((0,))]).max_order == 2
    assert Components.closed([(0, 0, 1), Laplacian((0,))]).max_order == 3


@given(sets_of_components)
def test_the_index_is_the_position_and_every_sub_derivative_is_a_member(wanted):
    components = Components.closed(wanted)
    assert set(wanted) <= set(components)
    assert len(components) == len(set(components)) == len(components.members)
    assert [components.index[c] for c in components] == list(range(len(components)))
    for component in components:
        if isinstance(component, tuple) and component:
            for leave_out in range(len(component)):
                assert component[:leave_out] + component[leave_out + 1 :] in components.index


@given(sets_of_components)
def test_the_tables_have_as_many_terms_as_the_rules(wanted):
    components = Components.closed(wanted)
    compositions, products = components.compositions, components.products
    for position, component in enumerate(components):
        if isinstance(component, Laplacian):
            assert sum(t.coefficient for t in compositions[position]) == len(component.axes)
            assert sum(t.coefficient for t in products[position]) == 2 + 2 * len(component.axes)
        else:
            k = len(component)
            # All set partitions but the one of a single block; all subsets.
            assert sum(t.coefficient for t in compositions[position]) == (BELL[k] - 1 if k else 0)
            assert sum(t.coefficient for t in products[position]) == 2**k
        assert all(len(t.factors) == t.order >= 2 for t in compositions[position])


def test_the_chain_rule_of_a_fourth_derivative_has_the_coefficients_of_faa_di_bruno():
    components = Components.closed([(0, 0, 0, 0)])
    first, second, third, fourth = (components.index[(0,) * k] for k in (1, 2, 3, 4))
    assert set(components.compositions[fourth]) == {
        Composition(4.0, 2, (first, third)),
        Composition(3.0, 2, (second, second)),
        Composition(6.0, 3, (first, first, second)),
        Composition(1.0, 4, (first, first, first, first)),
    }


def test_the_chain_rule_of_a_mixed_derivative_keeps_the_axes_apart():
    components = Components.closed([(0, 0, 1)])
    x, y, xx, xy = (components.index[c] for c in ((0,), (1,), (0, 0), (0, 1)))
    assert set(components.compositions[components.index[(0, 0, 1)]]) == {
        Composition(2.0, 2, (x, xy)),
        Composition(1.0, 2, (y, xx)),
        Composition(1.0, 3, (x, x, y)),
    }


def test_the_rules_of_a_laplacian_sum_over_its_axes():
    components = Components.closed([Laplacian((0, 1))])
    x, y, whole = (components.index[c] for c in ((0,), (1,), Laplacian((0, 1))))
    assert components.compositions[whole] == (Composition(1.0, 2, (x, x)), Composition(1.0, 2, (y, y)))
    assert set(components.products[whole]) == {
        Product(1.0, 0, whole),
        Product(1.0, whole, 0),
        Product(2.0, x, x),
        Product(2.0, y, y),
    }


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4])
def test_the_product_rule_of_a_pure_derivative_is_leibniz(k):
    components = Components.closed([(0,) * k])
    index = [components.index[(0,) * j] for j in range(k + 1)]
    expected = {Product(float(math.comb(k, j)), index[j], index[k - j]) for j in range(k + 1)}
    assert set(components.products[index[k]]) == expected
