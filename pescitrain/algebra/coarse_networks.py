"""The networks of a hierarchy themselves, and their Gauss–Newton matrices: ``-pc_type mg -pc_mg_galerkin none``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.hierarchy import Coarsening, Level, coarsen, finest_level
from pescitrain.algebra.layout import Array, ParameterLayout
from pescitrain.algebra.operators import AssembledGaussNewton
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator
from pescitrain.networks import Network
from pescitrain.networks.parameters import FlatParameters


def coarse_evaluator(fine: Evaluator, level: Level) -> Evaluator:
    """φ of the networks of a coarser level, on the samples of the finer one, which they share. Not collective.

    A closure costs the share of its parameters in those of the finest network.

    Raises
    ------
    OptionError     a network that is no MLP or ResNet
    """
    networks = {}
    for name, network in fine.surrogate.networks.items():
        shapes = [
            shape for layer, shape in zip(level.layout.layers, level.shapes, strict=True) if layer.network == name
        ]
        if not isinstance(network, Network):
            raise OptionError(
                f"there is no coarser network of {name!r}: -net_type mlp and resnet alone have one (-pc_type mg needs "
                "none with -pc_mg_galerkin both)"
            )
        networks[name] = network.resized(shapes[0][0][0], len(shapes) - 1)
    surrogate = fine.surrogate.with_networks(networks).to(fine.parameters.device)
    unknowns = [(name, float(unknown.detach()[0])) for name, unknown in fine.parameters.unknowns.items()]
    coarse = Evaluator(fine.problem, surrogate, FlatParameters(surrogate.networks, unknowns), fine.samples, fine.comm)
    coarse.counters, coarse.arithmetic, coarse.batches = fine.counters, fine.arithmetic, fine.batches
    coarse.cost = fine.cost * coarse.parameters.size / fine.parameters.size
    return coarse


def restricted(prolongation: PETSc.Mat, theta: Array) -> Array:
    """Π θ with Π = (PᵀP)⁻¹Pᵀ, so that ΠP = I; θ (n_fine,) and Πθ (n_coarse,) on all ranks. Collective.

    The columns of P are orthogonal: every row has one entry.
    """
    fine, ones = prolongation.createVecLeft(), prolongation.createVecRight()
    coarse, squares = ones.duplicate(), ones.duplicate()
    first, last = fine.getOwnershipRange()
    ones.set(1.0)
    prolongation.mult(ones, fine)
    prolongation.multTranspose(fine, squares)
    fine.setArray(theta[first:last])
    prolongation.multTranspose(fine, coarse)
    coarse.pointwiseDivide(coarse, squares)
    result = np.concatenate(prolongation.getComm().tompi4py().allgather(coarse.array_r.copy()))
    for vec in (fine, ones, coarse, squares):
        vec.destroy()
    return result


@dataclass(frozen=True)
class _CoarseMatrix:
    evaluator: Evaluator
    prolongation: PETSc.Mat
    matrix: AssembledGaussNewton


class RediscretisedLevels:
    """J_cᵀJ_c + λ PᵀP of the coarser networks, each at the restricted parameters of the next finer one.

    Where P preserves the function of a network, J_c = J P, and the matrix is that of Galerkin; elsewhere it is the one
    of the coarser network, which costs its own linearization and no n × n matrix of the finer one.

    Construction is collective.

    Raises
    ------
    OptionError     as :func:`coarse_evaluator` and :func:`~pescitrain.algebra.hierarchy.coarsen`
    """

    def __init__(self, evaluator: Evaluator, layout: ParameterLayout, coarsening: Coarsening, count: int) -> None:
        self._coarser: list[_CoarseMatrix] = []
        level = finest_level(layout)
        for _ in range(count - 1):
            level, prolongation = coarsen(level, coarsening)
            evaluator = coarse_evaluator(evaluator, level)
            matrix = AssembledGaussNewton(level.layout, [], "dense", 0.0)
            self._coarser.append(_CoarseMatrix(evaluator, prolongation, matrix))

    @property
    def matrices(self) -> list[PETSc.Mat]:
        """From the finest of the coarser networks to the coarsest."""
        return [coarse.matrix.mat for coarse in self._coarser]

    def assemble(self, theta: Array, damping: float) -> None:
        """At the parameters (n,) of the finest network, with its λ. Collective."""
        weights = None
        for coarse in self._coarser:
            theta = restricted(coarse.prolongation, theta)
            coarse.matrix.assemble(coarse.evaluator.linearize(theta))
            weights = _squared_columns(coarse.prolongation, weights)
            shift = weights.copy()
            shift.scale(damping)
            coarse.matrix.mat.setDiagonal(shift, addv=PETSc.InsertMode.ADD)
            coarse.matrix.mat.assemble()
            shift.destroy()

    def destroy(self) -> None:
        """Collective."""
        for coarse in self._coarser:
            coarse.matrix.destroy()
            coarse.prolongation.destroy()


def _squared_columns(prolongation: PETSc.Mat, weights: PETSc.Vec | None) -> PETSc.Vec:
    """diag(Pᵀ D P) for a diagonal D, by default I: the entries are the only ones of their rows."""
    values, squares = prolongation.createVecLeft(), prolongation.createVecRight()
    squares.set(1.0)
    prolongation.mult(squares, values)
    if weights is not None:
        values.pointwiseMult(values, weights)
        weights.destroy()
    prolongation.multTranspose(values, squares)
    values.destroy()
    return squares
