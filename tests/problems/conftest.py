"""The exact solutions on the shipped meshes, as the tests of the references load them."""

from references.conftest import mesh_reference as mesh_reference
from references.conftest import meshes as meshes
