"""The network as a DM: what lets PETSc's Schwarz methods and field splits see its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.decomposition import Block, decompose
from pescitrain.algebra.hierarchy import Coarsening, Level, coarsen, finest_level
from pescitrain.algebra.layout import Layout, ParameterLayout


def index_set(indices: np.ndarray, comm: PETSc.Comm = PETSc.COMM_SELF) -> PETSc.IS:
    """An IS of PETSc's integer type."""
    return PETSc.IS().createGeneral(np.asarray(indices, dtype=PETSc.IntType), comm=comm)


def blocks_of_rank(layout: Layout, blocks: list[Block]) -> list[Block]:
    """The blocks whose first owned entry lives on this rank: the ones that it solves."""
    return [block for block in blocks if layout.owner(int(block.owned[0])) == layout.comm.rank]


def create_network_dm(
    layout: ParameterLayout,
    blocks: list[Block],
    create_matrix: Callable[[], PETSc.Mat],
    coarsening: Coarsening = "both",
    coarser: Sequence[PETSc.Mat] = (),
) -> PETSc.DMShell:
    """A DMShell with global vectors, the Pmat, layers as fields, blocks as subdomains and coarser networks. Collective.

    ``-pc_type fieldsplit`` takes the layers by their names; ``-pc_type asm`` takes the blocks of this rank;
    ``-pc_type mg`` coarsens as ``coarsening`` says. ``coarser``: the matrices of the coarser networks, finest first,
    where PETSc does not form them from the finest one. It holds no numerical state.
    """
    return _create_dm(finest_level(layout), blocks, create_matrix, coarsening, coarser)


def _create_dm(
    level: Level,
    blocks: list[Block],
    create_matrix: Callable[[], PETSc.Mat],
    coarsening: Coarsening,
    coarser: Sequence[PETSc.Mat],
) -> PETSc.DMShell:
    layout = level.layout
    dm = PETSc.DMShell().create(comm=layout.comm)
    dm.setGlobalVector(layout.template)
    dm.setAttr("layout", layout)
    dm.setAttr("blocks", blocks)

    def coarsened(fine: PETSc.DM, _: PETSc.Comm) -> PETSc.DM:
        coarse, prolongation = coarsen(level, coarsening)
        count = min(len(blocks), len(coarse.layout.layers))
        own = decompose(coarse.layout.layers, "layer", count, 0)
        create = (lambda: coarser[0]) if coarser else create_matrix
        dm = _create_dm(coarse, own, create, coarsening, coarser[1:])
        if coarser:
            dm.setKSPComputeOperators(lambda *_: None)  # whoever moves the networks has done it
        dm.setAttr("prolongation", prolongation)
        return dm

    def interpolation(coarse: PETSc.DM, _: PETSc.DM) -> tuple[PETSc.Mat, None]:
        prolongation = coarse.getAttr("prolongation")
        assert isinstance(prolongation, PETSc.Mat)
        return prolongation, None

    dm.setCoarsen(coarsened)
    dm.setCreateInterpolation(interpolation)

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
