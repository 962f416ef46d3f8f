"""Geometry: boxes and meshes with named parts, points with weights and normals, reference fields."""

from pescitrain.geometry.box import Box, axes_of, box_around
from pescitrain.geometry.cells import CELL_TYPES, CellType
from pescitrain.geometry.domain import SAMPLING_KINDS, Domain, Names, Sampling
from pescitrain.geometry.mesh import Mesh
from pescitrain.geometry.points import PointSequence, PointSet
from pescitrain.geometry.quadrature import quadrature_rule
from pescitrain.geometry.reference import ReferenceField
from pescitrain.geometry.topology import Facets

__all__ = [
    "CELL_TYPES",
    "SAMPLING_KINDS",
    "Box",
    "CellType",
    "Domain",
    "Facets",
    "Mesh",
    "Names",
    "PointSequence",
    "PointSet",
    "ReferenceField",
    "Sampling",
    "axes_of",
    "box_around",
    "quadrature_rule",
]
