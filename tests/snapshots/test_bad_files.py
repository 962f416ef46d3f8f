"""Every bad file has its sentence: what is wrong, where, what to do."""

import builtins
import json

import meshio
import numpy as np
import pytest
from mpi4py import MPI
from petsc4py import PETSc
from snapshots.sweeps import PARAMETERS, collected  # pyright: ignore[reportMissingImports]
from snapshots.test_snapshot_files_parallel import (  # pyright: ignore[reportMissingImports]
    foreign,
    mesh_of,
    write_series,
    write_xdmf,
)

from pescitrain.errors import SnapshotError
from pescitrain.snapshots.collection import Snapshots
from pescitrain.snapshots.files.petsc_binary import scan
from pescitrain.snapshots.files.text import read_table


def refused(path, sentence, **options):
    with pytest.raises(SnapshotError, match=sentence) as caught:
        Snapshots.read(path, MPI.COMM_SELF, **options)
    assert str(path).partition("*")[0] in str(caught.value) or "-data_" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def arrays(tmp_path):
    def write(**changed):
        own = {"inputs": np.ones((3, 2)), "locations": np.zeros((4, 1)), "values": np.ones((3, 4)), **changed}
        np.savez(tmp_path / "run.npz", **{name: array for name, array in own.items() if array is not None})
        return tmp_path / "run.npz"

    return write


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"values": np.ones((4, 3))}, r"'values' is \(4, 3\) and must be \(N, K\), for 3 inputs and 4 locations"),
        ({"inputs": None}, r"it has no 'inputs' \(but .*\); give them by -data_parameters"),
        ({"locations": None}, r"it has no 'locations' .*; give them by -data_coordinates"),
        ({"inputs": np.array([["x", "y"]] * 3)}, "its 'inputs' are no numbers"),
        ({"inputs": np.ones((3, 2, 2))}, r"its 'inputs' are \(3, 2, 2\); they must be \(N, s\)"),
        ({"inputs": np.full((3, 2), np.nan)}, "the parameters hold NaN or infinity"),
        ({"locations": np.full((4, 1), np.inf)}, "the locations hold NaN or infinity"),
        ({"values": np.full((3, 4), np.nan)}, r"snapshot 0 \(of 0 … 2\) holds NaN"),
        ({"values": np.zeros((0, 4)), "inputs": np.zeros((0, 2))}, "there are no good snapshots in it"),
        (
            {"values": None, "p": np.ones((3, 4)), "q": np.ones((3, 4))},
            r"say which array by -data_field \(there are p, q",
        ),
        ({"parameters": np.array(["a"])}, "1 names for 2 parameters"),
    ],
)
def test_archives_that_do_not_fit(arrays, changed, sentence):
    refused(arrays(**changed), sentence)


def test_an_archive_of_anyone_is_read_by_its_names(arrays):
    read = Snapshots.read(arrays(values=None, p=np.full((3, 4), 2.0), q=np.ones((3, 4))), MPI.COMM_SELF, field="p")
    assert (read.parameters, read.field, read.values[0, 0]) == (("p0", "p1"), "p", 2.0)
    refused(arrays(), r"it has no field 'r' \(there are values\)", field="r")
    assert Snapshots.read(arrays(inputs=np.ones(3), locations=np.zeros(4)), MPI.COMM_SELF).inputs.shape == (3, 1)


def test_nothing_of_a_broken_archive_can_be_used(arrays, tmp_path):
    path = arrays()
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "it is cut off or no .npz archive, and nothing of it can be used .*; write it again")
    np.save(tmp_path / "one.npy", np.ones(3))
    refused((tmp_path / "one.npy").rename(tmp_path / "one.npz"), "it is one array and no .npz archive")
    collected(MPI.COMM_SELF).write(tmp_path / "run.h5")
    path = tmp_path / "run.h5"
    path.write_bytes(path.read_bytes()[:1000])
    refused(path, "it is cut off or no HDF5 file, and nothing of it can be used .*; write it again")
    refused(tmp_path / "*.npz", "it stands for 2 files; give one .npz file")


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    snapshots = collected(MPI.COMM_SELF)
    snapshots.write(tmp_path / "run.h5")
    whole = builtins.__import__

    def lacking(name, *rest):
        if name == "h5py":
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    refused(tmp_path / "run.h5", r"HDF5 needs the package h5py, which is not installed; install pescitrain\[hdf5\]")
    with pytest.raises(SnapshotError, match="needs the package h5py"):
        snapshots.write(tmp_path / "other.h5")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.h5"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda header: header.pop("field"),
            "run.petsc.json: it is broken .KeyError: 'field'.; write the snapshots again",
        ),
        (lambda header: header.update(locations=7), "Vec 0 has 70 numbers where run.petsc.json says 14"),
        (lambda header: header.update(snapshots=4), "Vec 1 has 10 numbers where run.petsc.json says 8"),
    ],
)
def test_a_header_of_another_file(tmp_path, change, sentence):
    collected(MPI.COMM_SELF).write(tmp_path / "run.petsc")
    header = json.loads((tmp_path / "run.petsc.json").read_text())
    change(header)
    (tmp_path / "run.petsc.json").write_text(json.dumps(header))
    with pytest.raises(SnapshotError, match=sentence):
        Snapshots.read(tmp_path / "run.petsc", MPI.COMM_SELF)


def test_our_binary_file_says_which_field_it_has(tmp_path):
    path = tmp_path / "run.petsc"
    collected(MPI.COMM_SELF).write(path)
    refused(path, r"it has no field 'q' \(there is p\)", field="q")
    path.write_bytes(path.read_bytes()[:700])
    refused(path, "0 of 5 snapshots are good; write it again", recover=True)


@pytest.fixture
def vecs(tmp_path):
    path = foreign(MPI.COMM_SELF, tmp_path)
    return path, {"parameters": tmp_path / "p.csv", "coordinates": tmp_path / "x.bin"}


def test_vecs_need_parameters_and_coordinates(vecs, tmp_path):
    path, options = vecs
    refused(path, "it has no parameters; give a text or CSV file with a row for each of the 5 snapshots")
    refused(path, r"it has no coordinates; give \(K, d\)", parameters=options["parameters"])
    (tmp_path / "few.csv").write_text("1 2\n3 4\n")
    refused(
        path, "few.csv: it has 2 rows where there are 5 snapshots", **{**options, "parameters": tmp_path / "few.csv"}
    )
    (tmp_path / "one.csv").write_text("1 2\n")
    sentence = "a file has several snapshots and no times; give a row for each of the 5 snapshots"
    refused(path, sentence, **{**options, "parameters": tmp_path / "one.csv"})
    np.savetxt(tmp_path / "x.txt", np.zeros((34, 2)))
    refused(path, "no multiple of the 34 locations", **{**options, "coordinates": tmp_path / "x.txt"})
    refused(path, "-data_field p is no component of its Vecs; they are 0 … 0", **options, field="p")
    two = foreign(MPI.COMM_SELF, tmp_path, dof=2, name="two.bin")
    refused(two, "its Vecs have 2 numbers at a location; say which by -data_field 0 … 1", **options)


def test_a_vec_of_coordinates_that_does_not_say_how_many(vecs, tmp_path):
    path, options = vecs
    for file in tmp_path.glob("*.info"):
        file.unlink()
    viewer = PETSc.Viewer().createBinary(str(tmp_path / "y.bin"), "w", comm=PETSc.COMM_SELF)
    vec = PETSc.Vec().createSeq(36, comm=PETSc.COMM_SELF)
    vec.view(viewer)
    viewer.destroy()
    vec.destroy()
    sentence = "its Vec of 36 numbers does not say how many coordinates a location has, for solutions of 35"
    refused(path, sentence, **{**options, "coordinates": tmp_path / "y.bin"})


def test_other_objects_and_other_sizes_among_the_vecs(vecs, tmp_path):
    path, options = vecs
    good = path.read_bytes()
    path.write_bytes(b"")
    refused(path, "it is empty", **options)
    path.write_bytes(b"no Vec at all")
    refused(path, "it does not begin with a Vec", **options)
    path.write_bytes(good + np.array([1211216, 3], ">i4").tobytes())
    refused(
        path, r"object 5 is no Vec \(class 1211216\); 5 snapshots before it are good; write it again, or", **options
    )
    assert len(Snapshots.read(path, MPI.COMM_SELF, **options, recover=True)) == 5
    path.write_bytes(good + np.array([1211214, 1], ">i4").tobytes() + np.zeros(1, ">f8").tobytes())
    refused(path, "Vec 5 has 1 numbers where the first has 35; 5 snapshots before it are good", **options)
    path.write_bytes(good + b"\x00\x12")
    refused(path, "it is cut off in the head of Vec 5", **options)
    path.write_bytes(good[:100])
    refused(
        path,
        "it is cut off in Vec 0: 11 of 35 numbers are there; 0 snapshots before it are good",
        **options,
        recover=True,
    )


@pytest.mark.parametrize("index", [">i4", ">i8"])
@pytest.mark.parametrize("scalar", [">f4", ">f8"])
def test_vecs_of_other_widths_are_found(tmp_path, index, scalar):
    numbers = [np.arange(5.0) + k for k in range(3)]
    parts = [np.array([1211214, 5], index).tobytes() + row.astype(scalar).tobytes() for row in numbers]
    (tmp_path / "run.bin").write_bytes(b"".join(parts))
    found = scan(tmp_path / "run.bin")
    assert (len(found.records), found.trouble) == (3, "")
    for record, row in zip(found.records, numbers, strict=True):
        np.testing.assert_array_equal(found.read(record), row)
        np.testing.assert_array_equal(found.read(record, 1, 5, 2), row[1::2])


@pytest.mark.parametrize(
    ("text", "names", "numbers"),
    [
        ("1 2\n3 4", (), [[1, 2], [3, 4]]),
        ("a,b\n1,2\n\n3,4\n", ("a", "b"), [[1, 2], [3, 4]]),
        ('"a"; "b"\n1; 2\n', ("a", "b"), [[1, 2]]),
        ("# a b\n1 2 # first\n", ("a", "b"), [[1, 2]]),
        ("# written by a sweep of 3\n1 2\n", (), [[1, 2]]),
        ("kappa\n1e-3\n", ("kappa",), [[1e-3]]),
    ],
)
def test_tables_as_people_write_them(tmp_path, text, names, numbers):
    (tmp_path / "p.txt").write_text(text)
    table = read_table(str(tmp_path / "p.txt"), "-data_parameters")
    assert table.names == names
    np.testing.assert_array_equal(table.numbers, numbers)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 2\n3\n", "line 2: 1 columns where the lines before have 2"),
        ("1 2\n3 x\n", "line 2: 'x' is no finite number"),
        ("1 2\n3 nan\n", "line 2: 'nan' is no finite number"),
        ("a b c\n1 2\n", r"3 names \(a, b, c\) for 2 columns"),
        ("a b\n", "it has no numbers"),
        ("", "it has no numbers"),
    ],
)
def test_tables_that_make_no_sense(tmp_path, text, sentence):
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(SnapshotError, match=f"-data_parameters .*p.txt.*{sentence}"):
        read_table(str(tmp_path / "p.txt"), "-data_parameters")


def test_tables_that_are_no_text(tmp_path):
    with pytest.raises(SnapshotError, match=r"-data_coordinates no.txt: there is no such file"):
        read_table("no.txt", "-data_coordinates")
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SnapshotError, match=r"it is no text; give text, CSV or \.npy"):
        read_table(str(tmp_path / "x.txt"), "-data_coordinates")
    (tmp_path / "x.npy").write_bytes(b"broken")
    with pytest.raises(SnapshotError, match="it is broken or holds no numbers"):
        read_table(str(tmp_path / "x.npy"), "-data_coordinates")
    np.save(tmp_path / "x.npy", np.zeros((2, 2, 2)))
    with pytest.raises(SnapshotError, match=r"it must hold finite numbers \(N, s\), not \(2, 2, 2\)"):
        read_table(str(tmp_path / "x.npy"), "-data_coordinates")


def test_series_that_do_not_fit(tmp_path):
    write_series(tmp_path)
    options = {"parameters": tmp_path / "p.csv", "field": "p"}
    refused(
        tmp_path / "s*.vtu",
        "say which of its point data by -data_field .there are p, v.",
        parameters=tmp_path / "p.csv",
    )
    refused(tmp_path / "s*.vtu", "it has no point data 'q' .there are p, v.", parameters=tmp_path / "p.csv", field="q")
    refused(
        tmp_path / "s*.vtu",
        "'v' has 3 components; say which by -data_field v:0",
        parameters=tmp_path / "p.csv",
        field="v",
    )
    refused(tmp_path / "s*.vtu", "'v' has no component 3; it has 0 … 2", parameters=tmp_path / "p.csv", field="v:3")
    refused(tmp_path / "s*.vtu", "it has no parameters", field="p")
    good = (tmp_path / "s10.vtu").read_bytes()
    (tmp_path / "s10.vtu").write_bytes(good[:200])
    refused(tmp_path / "s*.vtu", r"s10.vtu.*; 2 snapshots before it are good; write it again, or", **options)
    read = Snapshots.read(tmp_path / "s*.vtu", MPI.COMM_SELF, **options, recover=True)
    np.testing.assert_array_equal(read.inputs, PARAMETERS[:2])
    mesh = mesh_of(lambda x: x[:, 0])
    meshio.Mesh(2.0 * mesh.points, mesh.cells, point_data=mesh.point_data).write(tmp_path / "s10.vtu")
    refused(tmp_path / "s*.vtu", "s10.vtu: it has other points than the files before; write all on one mesh", **options)


def test_an_xdmf_that_is_cut_off(tmp_path):
    path = tmp_path / "run.xdmf"
    write_xdmf(path, PARAMETERS[0])
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    refused(path, r"run.xdmf.*broken or not in the format of its extension")
    values = text.rindex('Name="p"')
    path.write_text(text[:values] + text[values:].replace(".", "x", 3))
    refused(path, "its step 2 is broken .*; 2 snapshots before it are good; write it again, or")
    assert len(Snapshots.read(path, MPI.COMM_SELF, recover=True)) == 2
