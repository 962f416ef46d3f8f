"""Files of snapshots: what is written is read again, on any other number of ranks; files of other programs, too."""

import json

import meshio
import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from snapshots.sweeps import PARAMETERS, check, collected, exact, grid  # pyright: ignore[reportMissingImports]

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.collection import Snapshots

pytestmark = pytest.mark.parallel

OURS = ["run.petsc", "run.npz", "run.h5"]


def only_rank_0(comm, work):
    if comm.rank == 0:
        work()
    comm.barrier()


@pytest.mark.parametrize("name", OURS)
def test_what_is_written_is_read_on_as_many_ranks_and_on_one(comm, tmp_path, name):
    snapshots = collected(comm)
    snapshots.write(tmp_path / name)
    for ranks in (comm, MPI.COMM_SELF):
        again = Snapshots.read(tmp_path / name, ranks)
        assert (again.parameters, again.field, again.notice) == (("a", "b"), "p", "")
        check(again)
    assert not list(tmp_path.glob("*.new*"))
    more = Snapshots.read(tmp_path / name, comm)
    more.append((9.0, 9.0), exact((9.0, 9.0), more.locations))
    more.write(tmp_path / name)  # over the file that it came from
    check(Snapshots.read(tmp_path / name, comm), [*PARAMETERS, (9.0, 9.0)])


@pytest.mark.parametrize("name", OURS)
def test_what_one_rank_writes_is_read_on_all(comm, tmp_path, name):
    only_rank_0(comm, lambda: collected(MPI.COMM_SELF).write(tmp_path / name))
    again = Snapshots.read(tmp_path / name, comm, field="p")
    check(again)
    sizes = comm.allgather(len(again.locations))
    assert max(sizes) - min(sizes) <= 1


def test_a_binary_file_is_read_by_petsc(comm, tmp_path):
    collected(comm).write(tmp_path / "run.petsc")
    header = json.loads((tmp_path / "run.petsc.json").read_text())
    assert header["vecs"] == "locations (K, d), inputs (N, s), then N solutions (K)"
    assert (header["snapshots"], header["locations"], header["dimension"]) == (5, 35, 2)
    assert {"pescitrain", "petsc"} <= set(header["versions"])
    viewer = PETSc.Viewer().createBinary(str(tmp_path / "run.petsc"), "r", comm=PETSc.COMM_SELF)
    arrays = []
    for _ in range(2 + 5):
        vec = PETSc.Vec().load(viewer)
        arrays.append(vec.array_r.copy())
        vec.destroy()
    viewer.destroy()
    x = arrays[0].reshape(35, 2)
    np.testing.assert_array_equal(arrays[1].reshape(5, 2), PARAMETERS)
    np.testing.assert_allclose(arrays[4], exact(PARAMETERS[2], x), rtol=0.0, atol=1e-14)


def foreign(comm, folder, dof=1, components=(0,), name="run.bin", parameters=PARAMETERS):
    """What a C code does: VecView of its coordinates into one file and of each solution into another."""
    dm = grid(comm, dof=dof)
    viewer = PETSc.Viewer().createBinary(str(folder / "x.bin"), "w", comm=comm)
    dm.getCoordinates().view(viewer)
    viewer.destroy()
    x = dm.getCoordinates().array_r.reshape(-1, 2)
    vec = dm.createGlobalVec()
    viewer = PETSc.Viewer().createBinary(str(folder / name), "w", comm=comm)
    for row in parameters:
        for component in range(dof):
            vec.array[component::dof] = exact(row[:2], x) if component in components else -7.0
        vec.view(viewer)
    viewer.destroy()
    vec.destroy()
    dm.destroy()
    text = "a, b\n" + "\n".join(",".join(map(repr, row)) for row in parameters)
    only_rank_0(comm, lambda: (folder / "p.csv").write_text(text + "\n"))
    return folder / name


@pytest.mark.parametrize("info", [True, False])
@pytest.mark.parametrize("dof", [1, 2])
def test_vecs_of_another_code_are_read_with_their_parameters_and_coordinates(comm, tmp_path, dof, info):
    path = foreign(comm, tmp_path, dof, components=(dof - 1,))
    if not info:
        only_rank_0(comm, lambda: [file.unlink() for file in tmp_path.glob("*.info")])
    if dof == 2 and not info:  # 70 numbers of solution and of coordinates: nothing says how many locations
        only_rank_0(
            comm, lambda: np.save(tmp_path / "x.npy", grid(MPI.COMM_SELF).getCoordinates().array_r.reshape(-1, 2))
        )
    where = tmp_path / ("x.npy" if dof == 2 and not info else "x.bin")
    field = None if dof == 1 else "1"
    read = Snapshots.read(path, comm, parameters=tmp_path / "p.csv", coordinates=where, field=field)
    assert (read.parameters, read.field) == (("a", "b"), "u" if dof == 1 else "u1")
    check(read)


def test_a_file_for_each_simulation_takes_a_row_for_each_file(comm, tmp_path):
    for number, row in enumerate(PARAMETERS):
        foreign(comm, tmp_path, name=f"run{8 + number}.bin", parameters=[row])
    only_rank_0(comm, lambda: np.savetxt(tmp_path / "p.txt", PARAMETERS, header="a b"))
    read = Snapshots.read(tmp_path / "run*.bin", comm, parameters=tmp_path / "p.txt", coordinates=tmp_path / "x.bin")
    check(read)  # run8, run9, run10, …: by number
    assert read.parameters == ("a", "b")


def mesh_of(values, name="p"):
    x = np.stack(np.meshgrid(np.linspace(0, 1, 7), np.linspace(0, 2, 5), indexing="ij"), -1).reshape(-1, 2)
    number = np.arange(35).reshape(7, 5)
    quads = np.stack((number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]), -1).reshape(-1, 4)
    points = np.column_stack((x, np.zeros(35)))
    return meshio.Mesh(points, [("quad", quads)], point_data={name: values(x), "v": np.column_stack((x, values(x)))})


def write_series(folder, parameters=PARAMETERS):
    for number, row in enumerate(parameters):
        mesh_of(lambda x, row=row: exact(row, x)).write(folder / f"s{8 + number}.vtu")
    np.savetxt(folder / "p.csv", parameters, delimiter=";", header="a;b", comments="")


@pytest.mark.parametrize("field", ["p", "v:2"])
def test_a_series_of_vtu_is_read(comm, tmp_path, field):
    only_rank_0(comm, lambda: write_series(tmp_path))
    read = Snapshots.read(tmp_path / "s*.vtu", comm, parameters=tmp_path / "p.csv", field=field)
    assert (read.parameters, read.field, read.locations.shape[1]) == (("a", "b"), field, 2)
    check(read)


def write_xdmf(path, row, steps=3):
    mesh = mesh_of(lambda x: exact(row, x))
    with meshio.xdmf.TimeSeriesWriter(path, data_format="XML") as writer:
        writer.write_points_cells(mesh.points, mesh.cells)
        for step in range(steps):
            writer.write_data(0.5 * step, point_data={"p": mesh.point_data["p"]})


def test_an_xdmf_of_each_simulation_gives_its_steps(comm, tmp_path):
    def write():
        for number, row in enumerate(PARAMETERS):
            write_xdmf(tmp_path / f"run{number}.xdmf", row)
        np.savetxt(tmp_path / "p.csv", PARAMETERS, delimiter=",", header="a,b", comments="")

    only_rank_0(comm, write)
    read = Snapshots.read(tmp_path / "run*.xdmf", comm, parameters=tmp_path / "p.csv")
    assert read.parameters == ("a", "b", "t")
    check(read, [(*row, t) for row in PARAMETERS for t in (0.0, 0.5, 1.0)])
    assert len(set(read.simulations)) == 5
    one = Snapshots.read(tmp_path / "run0.xdmf", comm)
    assert one.parameters == ("t",)
    np.testing.assert_array_equal(one.inputs[:, 0], [0.0, 0.5, 1.0])


def test_a_file_that_is_cut_off_gives_its_good_rows_on_request(comm, tmp_path):
    collected(comm).write(tmp_path / "run.petsc")
    path = foreign(comm, tmp_path)

    def cut():
        for file in (tmp_path / "run.petsc", path):
            file.write_bytes(file.read_bytes()[:-300])

    only_rank_0(comm, cut)
    with pytest.raises(
        SnapshotError, match=r"run.petsc: it is cut off in Vec 5: 33 of 35.*; 3 of 5 snapshots are good"
    ):
        Snapshots.read(tmp_path / "run.petsc", comm)
    arguments = {"parameters": tmp_path / "p.csv", "coordinates": tmp_path / "x.bin"}
    with pytest.raises(SnapshotError, match=r"run.bin: it is cut off in Vec 3: 33 of 35.*-data_recover"):
        Snapshots.read(path, comm, **arguments)
    for good in (Snapshots.read(tmp_path / "run.petsc", comm, recover=True),
                 Snapshots.read(path, comm, **arguments, recover=True)):  # fmt: skip
        check(good, PARAMETERS[:3])
        assert "are good and used" in good.notice


def test_snapshots_with_nan_are_left_out_on_request(comm, tmp_path):
    snapshots = collected(comm)
    if comm.rank == comm.size - 1:
        snapshots._values[1][-1] = np.nan
    for name in OURS:
        snapshots.write(tmp_path / name)
        with pytest.raises(SnapshotError, match=rf"{name}: snapshot 1 \(of 0 … 4\) holds NaN or infinity"):
            Snapshots.read(tmp_path / name, comm)
        good = Snapshots.read(tmp_path / name, comm, recover=True)
        check(good, [PARAMETERS[0], *PARAMETERS[2:]])
        assert "1 of 5 snapshots hold NaN or infinity and are left out" in good.notice


@pytest.mark.parametrize(("name", "sentence"), [
    ("no/run.npz", "the system refuses .*no/run.npz.new .No such file or directory."),
    ("run.vtu", "snapshots are written as .npz, .h5 or a PETSc binary file, not as .vtu"),
])  # fmt: skip
def test_a_file_that_cannot_be_written_is_told_on_all_ranks(comm, tmp_path, name, sentence):
    snapshots = collected(comm)
    with pytest.raises(SnapshotError, match=sentence):
        snapshots.write(tmp_path / name)
    check(snapshots)


def test_what_is_no_file_is_told_on_all_ranks(comm, tmp_path):
    for name in ("none.npz", "none*.vtu", "none.bin"):
        with pytest.raises(SnapshotError, match="there is no such file"):
            Snapshots.read(tmp_path / name, comm)
    with pytest.raises(SnapshotError, match="it is a folder; give a file, or files by a pattern"):
        Snapshots.read(tmp_path, comm)
