"""Write <name>_ref.vtu, the exact solution at the nodes of each mesh here: ``python meshes/make_references.py``.

Prints how well each reference meets its boundary conditions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import meshio
import numpy as np
from numpy.typing import ArrayLike

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER / "references"))  # where they find harmonic_basis

from references import elastic_plate, lshape, plate_with_hole, two_materials  # noqa: E402


def fields(name: str, x: np.ndarray) -> dict[str, ArrayLike]:
    """The point data of ``name`` at the nodes x (N, 2): scalars (N,), displacement and stress (N, 3)."""
    if name == "elastic_plate":
        displacement = np.column_stack([elastic_plate.solution(x), np.zeros(len(x))])
        return {"displacement": displacement, "stress": elastic_plate.stress(x)}
    module = {"lshape": lshape, "plate_with_hole": plate_with_hole, "two_materials": two_materials}[name]
    return {module.NAMES[0]: module.solution(x)[:, 0]}


def write(name: str) -> None:
    """Write ``name``_ref.vtu: all triangles of ``name``.msh by their vertices, the number of their region as ``group``,
    the fields.
    """
    mesh = meshio.read(FOLDER / f"{name}.msh")
    kinds = ("triangle", "triangle6")
    vertices, triangles = np.unique(
        np.vstack([block.data[:, :3] for block in mesh.cells if block.type in kinds]), return_inverse=True
    )
    groups = [
        group for block, group in zip(mesh.cells, mesh.cell_data["gmsh:physical"], strict=True) if block.type in kinds
    ]
    points = mesh.points[vertices]
    meshio.write(
        FOLDER / f"{name}_ref.vtu",
        meshio.Mesh(
            points,
            [("triangle", triangles.reshape(-1, 3))],
            point_data=fields(name, points[:, :2]),
            cell_data={"group": [np.concatenate(groups).astype(np.int64)]},
        ),
    )


def main() -> None:
    """Write all four."""
    for name in ("lshape", "plate_with_hole", "elastic_plate", "two_materials"):
        write(name)
    print(f"lshape: largest |u| on the boundary {lshape.boundary_error():.1e}")
    on_hole, outside = plate_with_hole.boundary_error()
    print(f"plate_with_hole: largest |u| on the hole {on_hole:.1e}, |flux| outside {outside:.1e}")
    print(f"elastic_plate: largest error of a traction {elastic_plate.boundary_error():.1e}")
    of_values, of_fluxes = two_materials.boundary_error()
    print(f"two_materials: largest error of a value {of_values:.1e}, of a flux {of_fluxes:.1e}")


if __name__ == "__main__":
    main()
