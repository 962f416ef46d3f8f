"""Snapshots are collected where they lie: DMDA, DMPlex, plain Vecs, a TS; what is wrong is told on all ranks."""

import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from snapshots.sweeps import PARAMETERS, check, collected, exact, grid, plex, triangles  # pyright: ignore[reportMissingImports]

from pescitrain.errors import SnapshotError
from pescitrain.problem.pod import leading_modes
from pescitrain.snapshots.collection import Snapshots

pytestmark = pytest.mark.parallel


def test_a_grid_with_several_components_gives_one_of_them(comm):
    dm = grid(comm, dof=2)
    snapshots = Snapshots(dm, ("a", "b"), component=1)
    vec = dm.createGlobalVec()
    for parameters in PARAMETERS:
        vec.array[0::2], vec.array[1::2] = np.nan, exact(parameters, snapshots.locations)
        snapshots.append(parameters, vec)
    vec.destroy()
    dm.destroy()
    check(snapshots)
    assert snapshots.comm is MPI.COMM_WORLD


@pytest.mark.parametrize("sizes", [(9,), (4, 3), (3, 4, 2)])
def test_a_grid_knows_its_locations_in_any_dimension(comm, sizes):
    dm = grid(comm, sizes)
    snapshots = Snapshots(dm, ("a",))
    assert snapshots.locations.shape[1] == len(sizes)
    x = np.concatenate(comm.allgather(snapshots.locations))
    assert len(np.unique(x, axis=0)) == np.prod(sizes)
    assert (x.min(0) == 0.0).all()
    assert (x.max(0) == np.arange(1.0, len(sizes) + 1.0)).all()
    dm.destroy()


@pytest.mark.parametrize(("degree", "components"), [(1, 1), (2, 1), (1, 2), (0, 1)])
def test_a_plex_has_its_entries_in_the_middle_of_their_points(comm, degree, components):
    dm = plex(comm, components, degree)
    component = components - 1
    snapshots = Snapshots(dm, ("a", "b"), component)
    vec = dm.createGlobalVec()

    def function(x, which):
        return exact(PARAMETERS[0], x[None])[0] if which == component else -1.0

    # The host's own way to put a function into the Vec: point by point, through its sections.
    section, whole = dm.getLocalSection(), dm.getGlobalSection()
    first, last = dm.getDepthStratum(0)
    coordinates, places = dm.getCoordinatesLocal().array_r, dm.getCoordinateSection()
    for point in range(*section.getChart()):
        if whole.getOffset(point) < 0:
            continue
        corners = [p for p in dm.getTransitiveClosure(point)[0] if first <= p < last]
        x = np.mean([coordinates[places.getOffset(p) :][:2] for p in corners], axis=0)
        for which in range(section.getDof(point)):
            vec.setValue(whole.getOffset(point) + which, function(x, which))
    vec.assemble()
    snapshots.append(PARAMETERS[0], vec)
    vertices, edges, cells = 12, 23, 12
    check(snapshots, PARAMETERS[:1], {0: cells, 1: vertices, 2: vertices + edges}[degree])
    vec.destroy()
    dm.destroy()


def test_entries_that_conditions_hold_are_not_in_the_vec(comm):
    dm = triangles(comm)
    first, last = dm.getDepthStratum(0)
    section = PETSc.Section().create(comm)
    section.setChart(*dm.getChart())
    coordinates, places = dm.getCoordinatesLocal().array_r, dm.getCoordinateSection()
    left = [p for p in range(first, last) if coordinates[places.getOffset(p)] == 0.0]
    for point in range(first, last):
        section.setDof(point, 2)
    for point in left:
        section.setConstraintDof(point, 1)
    section.setUp()
    for point in left:
        section.setConstraintIndices(point, [0])
    dm.setLocalSection(section)
    vec = dm.createGlobalVec()
    held, free = Snapshots(dm, ("a", "b"), 0), Snapshots(dm, ("a", "b"), 1)
    assert comm.allreduce(len(held.locations)) == 12 - 3
    assert comm.allreduce(len(free.locations)) == 12
    local, indices = np.zeros(vec.getLocalSize()), free._entries.places
    local[indices] = exact(PARAMETERS[0], free.locations)
    local[held._entries.places] = exact(PARAMETERS[0], held.locations)
    vec.setArray(local)
    for snapshots in (held, free):
        snapshots.append(PARAMETERS[0], vec)
    check(held, PARAMETERS[:1], 9)
    check(free, PARAMETERS[:1], 12)
    assert set(indices) | set(held._entries.places) == set(range(len(local)))
    assert not set(indices) & set(held._entries.places)
    for thing in (vec, section, dm):
        thing.destroy()


def test_a_plain_vec_has_the_coordinates_that_are_said(comm):
    x = np.random.default_rng(comm.rank).uniform(size=(3 + comm.rank, 2))
    snapshots = Snapshots(x, ("a", "b"), component=1)
    vec = PETSc.Vec().create(comm)
    vec.setSizes((3 * len(x), None), 3)
    vec.setUp()
    for parameters in PARAMETERS:
        vec.array[1::3] = exact(parameters, x)
        snapshots.append({"b": parameters[1], "a": parameters[0]}, vec)
    vec.destroy()
    check(snapshots, locations=sum(3 + rank for rank in range(comm.size)))
    data = snapshots.data()
    np.testing.assert_array_equal(data.inputs, np.array(PARAMETERS))


def bad_values(row):
    row[0] = np.nan
    return row


@pytest.mark.parametrize(
    ("parameters", "change", "sentence"),
    [
        ((1.0,), None, r"there are 2 parameters \(a, b\), not 1"),
        ({"a": 1.0, "c": 2.0}, None, r"there are 2 parameters \(a, b\), not a, c"),
        ((1.0, np.inf), None, "the parameters a = 1, b = inf are not finite"),
        (("x", 1.0), None, "are no numbers"),
        ((1.0, 2.0), lambda row: row[:-1], r"the Vec has \d+ entries on this rank, the DM has \d+"),
        ((1.0, 2.0), bad_values, "the solution for a = 1, b = 2 holds NaN or infinity; not added"),
        ((1.0, 2.0), lambda row: row * 1j, "the Vec is complex"),
    ],
)
def test_what_is_wrong_on_the_last_rank_is_told_on_all_and_nothing_is_lost(comm, parameters, change, sentence):
    snapshots = collected(comm)
    row = exact(PARAMETERS[0], snapshots.locations)
    if comm.rank == comm.size - 1:
        row = row if change is None else change(row)
    else:
        parameters = parameters if change is None else (1.0, 2.0)
    with pytest.raises(SnapshotError, match=sentence):
        snapshots.append(parameters, row)
    check(snapshots)
    snapshots.append((9.0, 9.0), exact((9.0, 9.0), snapshots.locations))
    check(snapshots, [*PARAMETERS, (9.0, 9.0)])


@pytest.mark.parallel(2, 3)
def test_ranks_must_agree_on_parameters_and_columns(comm):
    snapshots = collected(comm)
    with pytest.raises(SnapshotError, match="the parameters differ between ranks"):
        snapshots.append((1.0, comm.rank), exact(PARAMETERS[0], snapshots.locations))
    with pytest.raises(SnapshotError, match="coordinates of 1 and 2 columns"):
        Snapshots(np.zeros((3, 1 if comm.rank else 2)), ("a",))


def test_places_that_are_not_known_are_refused(comm):
    bare = PETSc.DMDA().create(sizes=(4, 4), comm=comm)
    with pytest.raises(SnapshotError, match="the DMDA has no coordinates; call its setUniformCoordinates first"):
        Snapshots(bare, ("a",))
    dm = grid(comm)
    with pytest.raises(SnapshotError, match=r"there is no component 1, the DM has 1"):
        Snapshots(dm, ("a",), component=1)
    cubic = plex(comm, degree=3)
    with pytest.raises(SnapshotError, match="the DMPlex has 1 and 2 degrees of freedom at points for 1 components"):
        Snapshots(cubic, ("a",))
    none = triangles(comm)
    with pytest.raises(SnapshotError, match="the DMPlex has no section"):
        Snapshots(none, ("a",))
    shell = PETSc.DMShell().create(comm)
    with pytest.raises(SnapshotError, match="a DM of type 'shell' does not say where its entries are"):
        Snapshots(shell, ("a",))
    for thing in (bare, dm, cubic, none, shell):
        thing.destroy()
    with pytest.raises(SnapshotError, match=r"coordinates are an array \(K, d\) of this rank, not \(3,\)"):
        Snapshots(np.zeros(3), ("a",))
    with pytest.raises(SnapshotError, match="the coordinates hold NaN"):
        Snapshots(np.full((3, 2), np.nan), ("a",))
    with pytest.raises(SnapshotError, match="no locations on any rank"):
        Snapshots(np.zeros((0, 2)), ("a",))
    with pytest.raises(SnapshotError, match="two parameters have one name"):
        Snapshots(np.zeros((1, 2)), ("a", "a"))


def decay(comm, rate, steps=6):
    """A host: u' = −rate u by backward Euler on a grid; returns the TS and its Vec."""
    dm = grid(comm)
    ts = PETSc.TS().create(comm)
    ts.setDM(dm)
    ts.setType(PETSc.TS.Type.EULER)

    def function(ts, t, u, f):
        u.copy(f)
        f.scale(-rate)

    ts.setRHSFunction(function)
    ts.setTimeStep(0.1)
    ts.setMaxSteps(steps)
    ts.setExactFinalTime(PETSc.TS.ExactFinalTime.STEPOVER)
    u = dm.createGlobalVec()
    u.set(1.0)
    return dm, ts, u


def test_a_monitor_collects_the_steps_of_a_time_integration(comm):
    snapshots = None
    for rate in (1.0, 2.0, 3.0):
        dm, ts, u = decay(comm, rate)
        snapshots = snapshots or Snapshots(dm, ("rate",))
        ts.setMonitor(snapshots.monitor({"rate": rate}, every=2, first=2))
        ts.solve(u)
        for thing in (ts, u, dm):
            thing.destroy()
    assert snapshots is not None
    assert snapshots.parameters == ("rate", "t")
    expected = [(rate, 0.1 * step) for rate in (1.0, 2.0, 3.0) for step in (2, 4, 6)]
    np.testing.assert_allclose(snapshots.inputs, expected, rtol=1e-14)
    for (rate, t), row in zip(snapshots.inputs, snapshots.values, strict=True):
        np.testing.assert_allclose(row, (1.0 - 0.1 * rate) ** round(t / 0.1), rtol=1e-13)
    np.testing.assert_array_equal(snapshots.simulations, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    train, other = snapshots.split((2 / 3, 1 / 3), seed=4)
    assert (len(train), len(other)) == (6, 3)
    assert set(train.inputs[:, 0]) | set(other.inputs[:, 0]) == {1.0, 2.0, 3.0}
    assert not set(train.inputs[:, 0]) & set(other.inputs[:, 0])
    assert len(set(comm.allgather(train.inputs.tobytes()))) == 1


def test_a_time_cannot_come_in_later(comm):
    snapshots = collected(comm)
    with pytest.raises(SnapshotError, match="a monitor adds the parameter 't', and there are snapshots without it"):
        snapshots.monitor((1.0, 2.0))
    fresh = Snapshots(snapshots.locations, ("a", "t"), comm=comm)
    with pytest.raises(SnapshotError, match="every 0 steps"):
        fresh.monitor((1.0,), every=0)
    with pytest.raises(SnapshotError, match=r"there are 1 parameters \(a\), not 2"):
        fresh.monitor((1.0, 2.0))


def test_a_step_that_blows_up_is_left_out_and_the_host_goes_on(comm, capsys):
    dm, ts, u = decay(comm, 1.0)
    snapshots = Snapshots(dm, ("rate",))
    collect = snapshots.monitor((1.0,))
    wrong = dm.createGlobalVec()
    if comm.rank == 0:
        wrong.array[0] = np.nan
    ts.setMonitor(lambda ts, step, time, vec: collect(ts, step, time, wrong if step == 3 else vec))
    ts.solve(u)
    u.set(1.0)  # not locked
    np.testing.assert_allclose(snapshots.inputs[:, 1], [0.0, 0.1, 0.2, 0.4, 0.5, 0.6], rtol=1e-14)
    sentence = "snapshots: the solution for rate = 1, t = 0.3 holds NaN or infinity; not added"
    assert snapshots.notice == sentence
    assert capsys.readouterr().err == (f"pescitrain: {sentence}\n" if comm.rank == 0 else "")
    for thing in (ts, u, wrong, dm):
        thing.destroy()


def test_splits_are_of_simulations_and_refuse_what_is_senseless(comm):
    snapshots = collected(comm)
    parts = snapshots.split((0.5, 0.2, 0.2), seed=1)
    assert [len(part) for part in parts] == [2, 2, 1] or sum(map(len, parts)) <= 5
    assert all(len(part) for part in parts)
    seen = [tuple(row) for part in parts for row in part.inputs]
    assert len(set(seen)) == len(seen)
    for part in parts:
        check(part, [tuple(row) for row in part.inputs])
    tiny = snapshots.split((0.98, 0.01, 0.01))
    assert [len(part) for part in tiny] == [3, 1, 1]
    for fractions in ((0.8, 0.3), (0.5, 0.0), ()):
        with pytest.raises(SnapshotError, match="must be positive fractions of at most 1"):
            snapshots.split(fractions)
    with pytest.raises(SnapshotError, match="5 simulations cannot be split into 6 parts"):
        snapshots.split([0.1] * 6)
    with pytest.raises(SnapshotError, match="there are none yet"):
        Snapshots(snapshots.locations, ("a",), comm=comm).data()


def test_data_know_their_mean_and_their_box_on_any_ranks(comm):
    snapshots = collected(comm)
    data, whole = snapshots.data(), np.concatenate(comm.allgather(snapshots.values), axis=1)
    assert data.total_locations == 35
    assert data.mean_and_deviation() == pytest.approx((whole.mean(), whole.std()), rel=1e-13)
    box = data.box(("x", "y"))
    assert (box.lower, box.upper) == ((0.0, 0.0), (1.0, 2.0))


def test_modes_are_the_same_on_any_ranks(comm):
    _, whole = leading_modes(collected(MPI.COMM_SELF).data(), 2)[0::2]
    locations, mean, modes = leading_modes(collected(comm).data(), 2)
    assert mean.shape == (35,)
    serial = collected(MPI.COMM_SELF)
    order, own = np.lexsort(locations.T), np.lexsort(serial.locations.T)
    np.testing.assert_allclose(np.abs(modes[order]), np.abs(whole[own]), rtol=0.0, atol=1e-10)


@pytest.mark.parallel(1)
def test_collecting_keeps_no_object_of_the_host(comm):
    dm = grid(comm)
    before = dm.getRefCount()
    snapshots = Snapshots(dm, ("a", "b"))
    vec = dm.createGlobalVec()
    vec.set(1.0)
    count = dm.getRefCount()
    for k in range(100):
        snapshots.append((float(k), 1.0), vec)
    assert vec.getRefCount() == 1
    assert dm.getRefCount() == count
    vec.destroy()
    assert dm.getRefCount() == before
    dm.destroy()
    assert len(snapshots) == 100
