"""Sums that go to one rank each."""

import numpy as np
import pytest

from pescitrain.evaluation.owner_sums import sum_on_owners

pytestmark = pytest.mark.parallel

SHAPES = [(2, 3), (4,), (1, 1), (3, 3), (2,)]


def part_of(rank, number):
    shape = SHAPES[number]
    return np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape) * (rank + 1) * 10.0**number


@pytest.mark.parametrize(
    "seen", [lambda *_: True, lambda rank, number: (rank + number) % 2 == 0, lambda rank, number: number == 3]
)
def test_owners_have_the_sums_and_nobody_else(comm, seen):
    owners = [number % comm.size for number in range(len(SHAPES))]
    parts = [part_of(comm.rank, n) if seen(comm.rank, n) else None for n in range(len(SHAPES))]
    result = sum_on_owners(comm, parts, SHAPES, owners)
    for number, (found, owner) in enumerate(zip(result, owners, strict=True)):
        assert (found is None) == (owner != comm.rank)
        if found is not None:
            expected = sum((part_of(r, number) for r in range(comm.size) if seen(r, number)), np.zeros(SHAPES[number]))
            np.testing.assert_array_equal(found, expected)
