"""Points that are drawn in parts: the same ones, bit for bit, without the rest."""

from itertools import pairwise

import numpy as np
import pytest
from geometry.shapes import KINDS, unit_grid  # pyright: ignore[reportMissingImports]
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pescitrain.geometry import Box, Mesh, PointSequence, PointSet, Sampling
from pescitrain.geometry.points import share
from pescitrain.geometry.sampling import generator, hammersley, uniform, unit_points

SAMPLED = ("uniform", "sobol", "hammersley", "halton", "latin")
UNEQUAL = Box(("x", "y", "z"), (-1.0, 2.0, 0.0), (1.0, 5.0, 0.5))
MESHES = {}
for shape in KINDS:
    nodes, cells = unit_grid(shape, 3)
    MESHES[shape] = Mesh(nodes**2 + 0.1 * nodes * nodes[:, ::-1], cells)  # bent, so that no two cells are alike


def assert_parts_are_the_whole(sequence: PointSequence, cuts: list[int]):
    whole = sequence.whole()
    assert len(whole) == len(sequence)
    assert sequence.measure == pytest.approx(whole.measure, rel=1e-14)  # another order of a few hundred terms
    ends = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    joined = PointSet.concatenate([sequence.draw(*part) for part in pairwise(ends)])
    for name in ("x", "weights", "normals", "cells"):
        part, expected = getattr(joined, name), getattr(whole, name)
        assert (part is None) == (expected is None)
        if expected is not None:
            assert_array_equal(part, expected)


counts, seeds = st.integers(6, 200), st.integers(0, 2**31)
cuts = st.lists(st.integers(0, 400), max_size=4)


@given(st.sampled_from((*SAMPLED, "grid")), st.integers(1, 3), counts, seeds, cuts)
def test_parts_of_a_box_and_of_its_faces(kind, dimension, count, seed, cuts):
    box = Box("xyz"[:dimension], UNEQUAL.lower[:dimension], UNEQUAL.upper[:dimension])
    sampling = Sampling(count, kind)
    assert_parts_are_the_whole(box.interior_sequence(None, sampling, seed), cuts)
    assert_parts_are_the_whole(box.boundary_sequence(None, sampling, seed), cuts)


@given(st.sampled_from(KINDS), st.sampled_from(SAMPLED), counts, seeds, cuts)
def test_parts_of_the_points_in_a_mesh_and_on_its_facets(shape, kind, count, seed, cuts):
    mesh, sampling = MESHES[shape], Sampling(count, kind)
    assert_parts_are_the_whole(mesh.interior_sequence(None, sampling, seed), cuts)
    assert_parts_are_the_whole(mesh.boundary_sequence(None, sampling, seed), cuts)


@given(st.sampled_from(KINDS), st.integers(0, 5), cuts)
def test_parts_of_quadrature_points(shape, order, cuts):
    mesh, sampling = MESHES[shape], Sampling(order=order)
    assert_parts_are_the_whole(mesh.interior_sequence(None, sampling), cuts)
    assert_parts_are_the_whole(mesh.boundary_sequence(None, sampling), cuts)


@pytest.mark.parametrize("kind", SAMPLED)
@pytest.mark.parametrize("dimension", [1, 3])
def test_only_a_part_is_drawn(kind, dimension):
    part = unit_points(1000, dimension, kind, 4, "name", 300, 310)
    assert part.shape == (10, dimension)
    assert part.base is None or part.base.size == part.size  # no view that keeps the rest
    assert_array_equal(part, unit_points(1000, dimension, kind, 4, "name")[300:310])
    assert unit_points(1000, dimension, kind, 4, "name", 7, 7).shape == (0, dimension)


def test_sequences_are_those_of_the_libraries():
    """A part begins where a generator that has given all before it goes on."""
    whole = generator(3, "name").random((50, 2))
    assert_array_equal(uniform(generator(3, "name"), 20, 50, 2), whole[20:])
    assert_array_equal(unit_points(50, 2, "uniform", 3, "name"), whole)
    assert_array_equal(hammersley(50, 3, 20, 30), hammersley(50, 3)[20:30])


def test_the_share_of_a_rank_is_drawn_alone():
    asked = []

    def draw(begin: int, end: int) -> PointSet:
        asked.append((begin, end))
        return PointSet(np.zeros((end - begin, 1)), np.ones(end - begin))

    sequence = PointSequence.weighing(1.0, 10, draw)
    assert [len(sequence.slice(rank, 3)) for rank in range(3)] == [3, 3, 4]
    assert asked == [share(10, rank, 3) for rank in range(3)] == [(0, 3), (3, 6), (6, 10)]
    asked.clear()
    pair = PointSequence.concatenate([sequence, sequence])
    assert (pair.count, pair.measure, len(pair.draw(8, 13))) == (20, 20.0, 5)
    assert asked == [(8, 10), (0, 3)]


def test_points_at_hand_are_a_sequence():
    points = PointSet(np.arange(8.0).reshape(4, 2), np.array([0.1, 0.2, 0.3, 0.4]))
    sequence = PointSequence.of(points)
    assert (len(sequence), sequence.measure) == (4, points.measure)
    assert_array_equal(sequence.draw(1, 3).x, points.x[1:3])
