"""The network as a DM: what lets PETSc's Schwarz methods and field splits see its layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.decomposition import Block
from pescitrain.algebra.layout import ParameterLayout


def index_set(indices: np.ndarray, comm: PETSc.Comm = PETSc.COMM_SELF) -> PETSc.IS:
    """An IS of PETSc's integer type."""
    return PETSc.IS().createGeneral(np.asarray(indices, dtype=PETSc.IntType), comm=comm)


def blocks_of_rank(layout: ParameterLayout, blocks: list[Block]) -> list[Block]:
    """The blocks whose first owned entry lives on this rank: the ones that it solves."""
    return [block for block in blocks if layout.owner(int(block.owned[0])) == layout.comm.rank]


def create_network_dm(
    layout: ParameterLayout, blocks: list[Block], create_matrix: Callable[[], PETSc.Mat]
) -> PETSc.DMShell:
    """A DMShell that offers global vectors, the Pmat, the layers as fields, and the blocks as subdomains. Collective.

    ``-pc_type fieldsplit`` takes the layers by their names; ``-pc_type asm`` takes the blocks of this rank. It holds no
    numerical state.
    """
    dm = PETSc.DMShell().create(comm=layout.comm)
    dm.setGlobalVector(layout.template)
    dm.setAttr("layout", layout)
    dm.setAttr("blocks", blocks)

    def matrix(_: PETSc.DM) -> PETSc.Mat:
        return create_matrix()

    def fields(_: PETSc.DM) -> tuple[list[str], list[PETSc.IS], None]:
        names, sets = [], []
        for layer in layout.layers:
            first, last = max(layer.start, layout.start), min(layer.stop, layout.stop)
            names.append(layer.name)
            sets.append(index_set(np.arange(first, max(first, last)), layout.comm))
        return names, sets, None

    def subdomains(_: PETSc.DM) -> tuple[list[str], list[PETSc.IS], list[PETSc.IS], None]:
        own = blocks_of_rank(layout, blocks)
        if not own:
            return ["empty"], [index_set(np.zeros(0))], [index_set(np.zeros(0))], None
        return [b.name for b in own], [index_set(b.owned) for b in own], [index_set(b.active) for b in own], None

    dm.setCreateMatrix(matrix)
    dm.setCreateFieldDecomposition(fields)
    dm.setCreateDomainDecomposition(subdomains)
    dm.setUp()
    return dm
