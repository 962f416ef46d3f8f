"""A mesh as a domain: cells, facets and the names of their groups."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import numpy as np
from mpi4py import MPI
from numpy.typing import ArrayLike

from pescitrain.errors import MeshError, ProblemError
from pescitrain.geometry.bends import Bends
from pescitrain.geometry.cells import CELL_TYPES, facet_type
from pescitrain.geometry.conversion import MeshFile
from pescitrain.geometry.domain import Names, Sampling, split_names
from pescitrain.geometry.integration import quadrature_points, sampled_points, signed_measures
from pescitrain.geometry.locate import Locator
from pescitrain.geometry.maps import Block
from pescitrain.geometry.points import Floats, Integers, PointSequence, PointSet
from pescitrain.geometry.reading import FilePath, on_root, read_mesh_file
from pescitrain.geometry.shaping import flatten, orient
from pescitrain.geometry.topology import Facets, build_facets, fit_width, reversed_rows, same_side

DEFAULT_SAMPLING = Sampling()


class Mesh:
    """A conforming mesh of lines, triangles, quadrilaterals, tetrahedra or hexahedra, straight or of second order.

    Every rank holds the whole mesh. Cells are numbered type after type, in the order of ``cells``; nodes that no cell
    has as a vertex (midside nodes, centres of circles) are dropped, the others keep their order.

    Names of regions and of boundaries are separate: the same name may stand for both. ``"interior"`` is all cells and
    ``"boundary"`` all outer facets, unless the mesh itself has a group of that name; None is always the whole.

    A group of facets inside the mesh is an interface. Its normals point out of the region whose name comes first in
    the alphabet (a cell without a region comes last); where both sides lie in the same region, they follow the order
    of the vertices that the group gives to each facet, by the right-hand rule (in 2-D: to the right of the line).

    Parameters
    ----------
    nodes : (n, c) float        coordinates; constant ones are dropped until c is the dimension of the cells
    cells : {type: (M, k) int}  vertices by type: ``line``, ``triangle``, ``quad``, ``tetra``, ``hexahedron``, all of
                                one dimension, numbered as in VTK; a negative orientation is repaired
    regions : {name: (m,) int}  cells of each named region
    boundaries : {name: (m, k)} vertices of the facets of each named boundary or interface, padded with -1
    middles : {type: (M, E) int} the nodes in the middles of the edges, in VTK's order, of types of second order; -1:
                                none. Edges are bent as they say; in one dimension they say nothing
    source : str                what to call the mesh in messages

    Raises
    ------
    MeshError                   no cells, or of several dimensions; cells without measure, folded or overlapping;
                                nodes outside a coordinate plane

    Attributes
    ----------
    dimension : int             of the cells
    nodes : (n, d) float64      the vertices of cells
    cells : {type: (M, k) int64}
    bends : Bends               the edges that are not straight
    facets : Facets             all facets, with the cells on both sides
    columns : tuple[int, ...]   which coordinates of the given nodes were kept
    node_numbers : (n,) int64   the place of each node among the given nodes
    region_names : list[str]    in alphabetical order
    region_of_cell : (C,) int64 place in ``region_names`` of the first region of each cell; -1: none
    """

    def __init__(
        self,
        nodes: ArrayLike,
        cells: Mapping[str, ArrayLike],
        regions: Mapping[str, ArrayLike] | None = None,
        boundaries: Mapping[str, ArrayLike] | None = None,
        source: str = "the mesh",
        middles: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        self.source = source
        given = np.asarray(nodes, dtype=np.float64)
        vertices = {name: np.asarray(rows, dtype=np.int64) for name, rows in cells.items()}
        dimensions = {CELL_TYPES[name].dimension if name in CELL_TYPES else 0 for name in vertices}
        if len(dimensions) != 1 or 0 in dimensions:
            raise MeshError(
                f"Cannot use {source}: its cells are of the types {', '.join(vertices) or '(none)'}; give cells of "
                "one dimension, out of line, triangle, quad, tetra and hexahedron."
            )
        self.dimension = dimensions.pop()
        self.node_numbers = np.unique(np.concatenate([rows.ravel() for rows in vertices.values()]))
        renumber = np.full(len(given) + 1, -2)  # the last entry serves the padding, -1
        renumber[self.node_numbers] = np.arange(len(self.node_numbers))
        renumber[-1] = -1
        try:
            self.nodes, self.columns = flatten(given[self.node_numbers], self.dimension)
            renumbered = {name: renumber[rows] for name, rows in vertices.items()}
            known = {name: np.asarray(rows, dtype=np.int64) for name, rows in (middles or {}).items()}
            asked = known if self.dimension > 1 else {}
            self.bends = Bends(self.nodes, renumbered, asked, given[:, self.columns])
            self.cells = orient(self.nodes, renumbered, self.bends)
            self.facets: Facets = build_facets(self.cells)
        except MeshError as error:
            raise MeshError(f"Cannot use {source}: {error}.") from None
        self._regions = {name: np.asarray(rows, dtype=np.int64) for name, rows in sorted((regions or {}).items())}
        self._boundaries = {
            name: fit_width(renumber[np.asarray(rows, dtype=np.int64)], self.facets.vertices.shape[1])
            for name, rows in sorted((boundaries or {}).items())
        }
        self.region_names = list(self._regions)
        self.region_of_cell = np.full(self.cell_count, -1)
        for number, members in reversed(list(enumerate(self._regions.values()))):
            self.region_of_cell[members] = number

    @classmethod
    def read(cls, path: FilePath, comm: MPI.Comm = MPI.COMM_WORLD) -> Mesh:
        """Read a mesh file of any format of meshio, once, and give it to all ranks of ``comm``.

        Collective. Named physical groups and cell sets become the names of regions and boundaries; groups that only
        have a number are called by it. Cells of second order are curved as in the file (the middles of faces of
        hexahedra aside), those of higher order are used by their vertices.

        Raises
        ------
        MeshError : the same sentence on all ranks, for whatever is wrong with the file or its mesh

        Cost: one read, one broadcast, and the facets once on each rank.
        """
        return cls.from_file(on_root(comm, lambda: read_mesh_file(path)), os.fspath(path))

    @classmethod
    def from_file(cls, file: MeshFile, path: str) -> Mesh:
        """The mesh of a file that has been read. Not collective."""
        source = f"the mesh file '{path}'"
        return cls(file.points, file.cells, file.regions, file.boundaries, source, file.middles)

    @property
    def cell_count(self) -> int:
        """Number C of cells."""
        return sum(len(rows) for rows in self.cells.values())

    @functools.cached_property
    def cell_measures(self) -> Floats:
        """Length, area or volume (C,) of each cell."""
        return np.concatenate([signed_measures(self.nodes, block) for block in self._cell_blocks(None)])

    @property
    def size(self) -> float:
        """The mesh size h: the largest diameter of a cell."""
        return float(self.locator.sizes.max())

    @functools.cached_property
    def locator(self) -> Locator:
        """Finds points among the cells; built at first use."""
        return Locator(self.nodes, self.cells, self.bends)

    @property
    def box(self) -> tuple[Floats, Floats]:
        """Lower and upper corner (d,) of a box around the domain, the smallest where the outer edges are straight."""
        return self.bends.box(self.nodes)

    def names(self) -> dict[str, list[str]]:
        """The names of the regions and of the boundaries and interfaces."""
        return {
            "interior": ["interior", *(name for name in self._regions if name != "interior")],
            "boundary": ["boundary", *(name for name in self._boundaries if name != "boundary")],
        }

    def interior(self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0) -> PointSet:
        """Points (N, d) in a region, in several (``"a+b"`` or a tuple), or in all cells.

        Not collective. ``quadrature`` takes its points in every cell; the other kinds spread ``count`` points.

        Raises MeshError for an unknown name, ProblemError for ``grid``.
        """
        return self.interior_sequence(name, sampling, seed).whole()

    def interior_sequence(
        self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0
    ) -> PointSequence:
        """The points of :meth:`interior`, to be drawn in parts. Not collective; raises as that does."""
        blocks = self._cell_blocks(self.region_cells(name))
        return self._points(blocks, sampling, seed, f"interior:{_label(name, 'interior')}")

    def boundary(self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0) -> PointSet:
        """Points (N, d) with unit normals on a boundary or an interface, on several, or on all outer facets.

        Not collective. On outer facets the normals point outward; on interfaces as the class says. ``cells`` is the
        cell that the normal leaves. In one dimension a facet is a point, taken once whatever the count.

        Raises MeshError for an unknown name and for a group that is not on facets of cells, ProblemError for ``grid``.
        """
        return self.boundary_sequence(name, sampling, seed).whole()

    def boundary_sequence(
        self, name: Names = None, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0
    ) -> PointSequence:
        """The points of :meth:`boundary`, to be drawn in parts. Not collective; raises as that does."""
        if self.dimension == 1:
            vertices, owners = self._oriented_facets(name)
            centres = self.nodes[self.cells["line"]].mean(axis=1)
            x = self.nodes[vertices[:, 0]]
            return PointSequence.of(PointSet(x, np.ones(len(x)), np.sign(x - centres[owners]), owners))
        blocks = self._facet_blocks(name)
        return self._points(blocks, sampling, seed, f"boundary:{_label(name, 'boundary')}")

    def interface(self, name: Names, sampling: Sampling = DEFAULT_SAMPLING, seed: int = 0) -> PointSet:
        """What :meth:`boundary` gives, for groups that must lie inside the mesh. Not collective.

        Raises MeshError where some facet of the group has no cell on one of its sides.
        """
        outside = self.facets.cells[self.facet_indices(name), 1] < 0
        if outside.any():
            raise MeshError(
                f"'{_label(name, 'boundary')}' of {self.source} is not an interface: {np.count_nonzero(outside)} of "
                "its facets lie on the outer boundary; use boundary() instead."
            )
        return self.boundary(name, sampling, seed)

    def region_cells(self, name: Names = None) -> Integers:
        """The cells (m,) of a region, of several, or of the whole; each once, in order."""
        if name is None:
            return np.arange(self.cell_count)
        members = self._regions if "interior" in self._regions else {**self._regions, "interior": self.region_cells()}
        parts = split_names(name, self.names()["interior"], f"region in {self.source} called", MeshError)
        return np.unique(np.concatenate([members[part] for part in parts]))

    def facet_indices(self, name: Names = None) -> Integers:
        """Indices (m,) in ``facets`` of a boundary or interface, of several, or of all outer facets; each once."""
        return np.unique(self._named_facets(name)[0])

    def boundary_facets(self, name: Names = None) -> Integers:
        """Vertices (m, w) of the facets of a boundary or interface, in the order that belongs to the normal.

        w is the largest number of vertices of a facet of the mesh; shorter ones are padded with -1.
        """
        return self._oriented_facets(name)[0]

    def is_curved(self, name: Names = None) -> bool:
        """Whether an edge of a boundary or interface, of several, or of the outer boundary is bent."""
        return any(block.offsets is not None for block in self._facet_blocks(name))

    def boundary_nodes(self, name: Names = None) -> Integers:
        """The nodes (m,) on a boundary or interface, each once, in order."""
        vertices = np.unique(self.facets.vertices[self.facet_indices(name)])
        return vertices[vertices >= 0]

    def measure(self, name: Names = None) -> float:
        """Length, area or volume of a region, of several, or of the whole."""
        return float(self.cell_measures[self.region_cells(name)].sum())

    def boundary_measure(self, name: Names = None) -> float:
        """Length or area of a boundary or interface; in one dimension the number of points."""
        return self.boundary(name, Sampling(order=3)).measure

    def nodal_weights(self) -> Floats:
        """The lumped first-order mass (n,): each cell gives an equal share of its measure to each of its vertices."""
        weights = np.zeros(len(self.nodes))
        start = 0
        for rows in self.cells.values():
            share = self.cell_measures[start : start + len(rows)] / rows.shape[1]
            weights += np.bincount(rows.ravel(), np.repeat(share, rows.shape[1]), len(weights))
            start += len(rows)
        return weights

    def locate(self, x: ArrayLike) -> Integers:
        """The cell (N,) that holds each point (N, d), -1 outside. Not collective.

        A point on a shared facet lies in the cell with the nearest centre; round-off never puts it outside.
        """
        return self.locator.find(np.asarray(x, dtype=np.float64)).cells

    def _cell_blocks(self, which: Integers | None) -> list[Block]:
        """The cells of each type, with their numbers; only those in ``which`` (sorted) if given."""
        blocks: list[Block] = []
        start = 0
        for name, rows in self.cells.items():
            numbers = np.arange(start, start + len(rows))
            if which is not None:
                numbers = which[(which >= start) & (which < start + len(rows))]
            if len(numbers):
                blocks.append(Block(CELL_TYPES[name], rows[numbers - start], numbers, self.bends))
            start += len(rows)
        return blocks

    def _facet_blocks(self, name: Names) -> list[Block]:
        """The facets of a name, oriented, with the cells that their normals leave."""
        vertices, owners = self._oriented_facets(name)
        lengths = (vertices >= 0).sum(axis=1)
        blocks: list[Block] = []
        for length in np.unique(lengths).tolist():
            mine = lengths == length
            cell = facet_type(self.dimension - 1, length)
            blocks.append(Block(cell, vertices[mine, :length], owners[mine], self.bends))
        return blocks

    def _points(self, blocks: list[Block], sampling: Sampling, seed: int, label: str) -> PointSequence:
        if not blocks:
            raise MeshError(f"'{label.partition(':')[2]}' has no cells in {self.source}.")
        if sampling.kind == "grid":
            raise ProblemError("grid sampling needs a box; on a mesh use quadrature, uniform, sobol, hammersley, …")
        if sampling.kind == "quadrature":
            return quadrature_points(self.nodes, blocks, sampling.order)
        return sampled_points(self.nodes, blocks, sampling, seed, label)

    @functools.cached_property
    def _facets_of_group(self) -> dict[str, Integers]:
        """The facets (m,) of each group, in its order; -1 where the mesh has no such facet."""
        if not self._boundaries:
            return {}
        found = self.facets.find(np.concatenate(list(self._boundaries.values())))
        ends = np.cumsum([len(rows) for rows in self._boundaries.values()])
        return dict(zip(self._boundaries, np.split(found, ends[:-1]), strict=True))

    def _named_facets(self, name: Names) -> tuple[Integers, Integers]:
        """Facets (m,) of a name, possibly repeated, and their vertices (m, w) as the group gives them."""
        if name is None or (name == "boundary" and "boundary" not in self._boundaries):
            return self.facets.outer, self.facets.vertices[self.facets.outer]
        indices, given = [], []
        for part in split_names(name, self.names()["boundary"], f"boundary in {self.source} called", MeshError):
            if part not in self._boundaries:
                found, rows = self._named_facets("boundary")
            else:
                rows = self._boundaries[part]
                found = self._facets_of_group[part]
            if (found < 0).any():
                raise MeshError(
                    f"{np.count_nonzero(found < 0)} of the {len(found)} facets of '{part}' in {self.source} belong to "
                    "no cell; mesh the group together with the domain."
                )
            indices.append(found)
            given.append(rows)
        return np.concatenate(indices), np.concatenate(given)

    def _oriented_facets(self, name: Names) -> tuple[Integers, Integers]:
        """Vertices (m, w) of the facets of a name in the order of their normal, and the cell (m,) the normal leaves."""
        found, rows = self._named_facets(name)
        indices, first = np.unique(found, return_index=True)
        given = rows[first]
        vertices, sides = self.facets.vertices[indices], self.facets.cells[indices]
        regions = self.region_of_cell[sides]
        regions[regions < 0] = len(self.region_names)
        against = (regions[:, 1] < regions[:, 0]) | ((regions[:, 1] == regions[:, 0]) & ~same_side(vertices, given))
        flip = (sides[:, 1] >= 0) & against
        return (
            np.where(flip[:, None], reversed_rows(vertices), vertices),
            sides[np.arange(len(sides)), flip.astype(np.int64)],
        )


def _label(name: Names, whole: str) -> str:
    return whole if name is None else name if isinstance(name, str) else "+".join(name)
