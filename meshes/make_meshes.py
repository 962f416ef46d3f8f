"""Make the meshes of this folder from their .geo files: ``python meshes/make_meshes.py``; needs ``pip install gmsh``.

Where there is a circle, cells are of second order, and nodes on it are moved onto it to rounding. Run
``make_references.py`` afterwards: it holds the reference solutions at the vertices. Another gmsh may give other nodes.
"""

from __future__ import annotations

from pathlib import Path

import gmsh
import numpy as np

FOLDER = Path(__file__).parent
# name: centre and radius of the circle, where there is one, and the physical curve on it
CIRCLES = {
    "lshape": None,
    "plate_with_hole": (0.2, -0.15, 0.4, "hole"),
    "elastic_plate": (0.0, 0.0, 0.4, "hole"),
    "two_materials": (-0.1, 0.2, 0.45, "interface"),
}


def snap(center_x: float, center_y: float, radius: float, name: str) -> None:
    """Move the nodes of the physical curve ``name`` onto its circle, and leave those on the axes through its centre."""
    groups = {gmsh.model.getPhysicalName(dim, tag): tag for dim, tag in gmsh.model.getPhysicalGroups(1)}
    tags, flat = gmsh.model.mesh.getNodesForPhysicalGroup(1, groups[name])
    for tag, point in zip(tags, np.reshape(flat, (-1, 3)), strict=True):
        offset = point[:2] - (center_x, center_y)
        offset[np.abs(offset) < 1e-12] = 0.0
        offset *= radius / np.hypot(*offset)
        gmsh.model.mesh.setNode(tag, [center_x + offset[0], center_y + offset[1], 0.0], [])


def make(name: str) -> None:
    """Write ``name``.msh, format 4.1."""
    gmsh.open(str(FOLDER / f"{name}.geo"))
    gmsh.model.mesh.generate(2)
    circle = CIRCLES[name]
    if circle is not None:
        gmsh.model.mesh.setOrder(2)
        snap(*circle)
    gmsh.option.setNumber("Mesh.MshFileVersion", 4.1)
    gmsh.write(str(FOLDER / f"{name}.msh"))
    print(f"{name}: {gmsh.model.mesh.getNodes()[0].size} nodes")
    gmsh.clear()


def main() -> None:
    """Make all four."""
    gmsh.initialize()
    gmsh.option.setNumber("General.Terminal", 0)
    for name in CIRCLES:
        make(name)
    gmsh.finalize()


if __name__ == "__main__":
    main()
