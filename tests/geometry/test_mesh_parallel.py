"""All ranks see the same mesh, and the same error; nobody waits."""

import meshio
import numpy as np
import pytest
from geometry.shapes import as_meshio, unit_grid  # pyright: ignore[reportMissingImports]

from pescitrain.errors import MeshError
from pescitrain.geometry import Mesh, PointSet, ReferenceField, Sampling
from pescitrain.geometry.reading import on_root

pytestmark = pytest.mark.parallel


def written(comm, path, write):
    """Rank 0 writes; the others wait until the file is there."""
    if comm.rank == 0:
        write(path)
    comm.barrier()
    return path


def refused_everywhere(comm, call) -> str:
    """The text of the MeshError that every rank must raise, the same on all."""
    try:
        call()
        text = "no error"
    except MeshError as error:
        text = str(error)
    texts = comm.allgather(text)
    assert len(set(texts)) == 1
    assert texts[0] != "no error"
    return texts[0]


def write_reference(path):
    nodes, cells = unit_grid("triangle")
    meshio.Mesh(np.insert(nodes, 2, 0.0, axis=1), cells, point_data={"u": nodes @ [1.0, 2.0]}).write(path)


@pytest.mark.parametrize("kind", ["mixed", "tetra"])
def test_all_ranks_see_the_same_mesh_and_the_same_points(comm, tmp_path, kind):
    path = tmp_path / "mesh.msh"
    written(comm, path, lambda p: as_meshio(kind).write(p, file_format="gmsh22", binary=False))
    mesh = Mesh.read(path, comm)
    inside = mesh.interior("east", Sampling(37, "sobol"), seed=4)
    surface = mesh.boundary("middle+x_min", Sampling(order=3))
    seen = (mesh.nodes, *mesh.cells.values(), mesh.facets.vertices, inside.x, inside.cells, surface.x, surface.normals)
    for other in comm.allgather(seen):
        assert len(other) == len(seen)
        assert all(np.array_equal(a, b) for a, b in zip(seen, other, strict=True))
    assert comm.allgather(mesh.names()) == [mesh.names()] * comm.size
    shares = comm.allgather(inside.slice(comm.rank, comm.size))
    assert np.array_equal(PointSet.concatenate(shares).x, inside.x)


def test_the_file_is_read_on_one_rank_only(comm, tmp_path, monkeypatch):
    path = written(comm, tmp_path / "u.vtu", write_reference)
    reads = []
    original = meshio.read
    monkeypatch.setattr(meshio, "read", lambda *arguments: (reads.append(1), original(*arguments))[1])
    Mesh.read(path, comm)
    ReferenceField.read(path, None, ("u",), comm)
    assert comm.allgather(len(reads)) == [2] + [0] * (comm.size - 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.msh", None, "no such file"),
        ("empty.msh", b"", "empty"),
        ("noise.msh", b"$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\n$EndNodes\n", "broken"),
        ("cut.msh", b"$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\n1 5", "cut off"),
        ("noise.vtu", b"<VTKFile", "broken"),
        ("mesh.abc", b"x", "unknown"),
    ],
)
def test_a_broken_file_is_the_same_error_on_all_ranks(comm, tmp_path, name, content, message):
    if content is not None:
        written(comm, tmp_path / name, lambda path: path.write_bytes(content))
    assert message in refused_everywhere(comm, lambda: Mesh.read(tmp_path / name, comm))


def test_a_mesh_that_cannot_be_used_is_the_same_error_on_all_ranks(comm, tmp_path):
    flat = meshio.Mesh(np.array([[0.0, 0, 0], [1, 1, 0], [2, 2, 0], [0, 1, 0]]), {"triangle": [[0, 1, 2], [0, 1, 3]]})
    path = written(comm, tmp_path / "flat.vtu", flat.write)
    assert "zero measure" in refused_everywhere(comm, lambda: Mesh.read(path, comm))


def test_a_reference_without_the_field_is_the_same_error_on_all_ranks(comm, tmp_path):
    path = written(comm, tmp_path / "u.vtu", write_reference)
    assert "its arrays are u" in refused_everywhere(comm, lambda: ReferenceField.read(path, None, ("a", "b"), comm))


def test_reference_values_are_the_same_on_all_ranks(comm, tmp_path):
    field = ReferenceField.read(written(comm, tmp_path / "u.vtu", write_reference), None, ("u",), comm)
    x = np.array([[0.1, 0.2], [0.5, 0.5]])
    for values in comm.allgather(field(x)):
        assert values[:, 0] == pytest.approx([0.5, 1.5], rel=1e-14)  # round-off of a linear function


def test_any_exception_of_rank_0_reaches_all_ranks(comm):
    def fail():
        raise ZeroDivisionError("by chance")

    assert "ZeroDivisionError" in refused_everywhere(comm, lambda: on_root(comm, fail))
