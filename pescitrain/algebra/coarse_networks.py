"""The networks of a hierarchy themselves, and their Gauss–Newton matrices: ``-pc_type mg -pc_mg_galerkin none``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from petsc4py import PETSc

from pescitrain.algebra.hierarchy import Coarsening, Level, coarsen, finest_level
from pescitrain.algebra.layout import Array, ParameterLayout
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.operators import AssembledGaussNewton, LinearizedGaussNewton
from pescitrain.errors import OptionError
from pescitrain.evaluation import Evaluator, Linearization
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


class _Entries:
    """J_cᵀJ_c + D as a dense matrix, D being diagonal."""

    def __init__(self, layout: ParameterLayout) -> None:
        self._gauss_newton = AssembledGaussNewton(layout, [], "dense", 0.0)
        self.mat = self._gauss_newton.mat

    def assemble(self, linearization: Linearization, shift: PETSc.Vec) -> None:
        """At another linearization, with another D. Collective."""
        self._gauss_newton.assemble(linearization)
        self.mat.setDiagonal(shift, addv=PETSc.InsertMode.ADD)
        self.mat.assemble()


class _Products:
    """The same by products with J_c, as a Python Mat context of its matrix."""

    def __init__(self, layout: ParameterLayout) -> None:
        self._gauss_newton = LinearizedGaussNewton(layout, np.zeros(0, dtype=int))
        self._diagonal = layout.create_vec()
        self.mat = PETSc.Mat().createPython(((layout.local_size, layout.size),) * 2, self, comm=layout.comm)
        self.mat.setOption(PETSc.Mat.Option.SPD, True)
        self.mat.setUp()

    def assemble(self, linearization: Linearization, shift: PETSc.Vec) -> None:
        """At another linearization, with another D. Collective."""
        self._gauss_newton.move_to(linearization, 0.0)
        shift.copy(self._diagonal)
        self.mat.assemble()

    def mult(self, mat: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """out = (J_cᵀJ_c + D) v. Collective."""
        self._gauss_newton.mult(mat, v, out)
        out.setArray(out.array_r + self._diagonal.array_r * v.array_r)

    def multTranspose(self, mat: PETSc.Mat, v: PETSc.Vec, out: PETSc.Vec) -> None:
        """The operator is symmetric."""
        self.mult(mat, v, out)

    def getDiagonal(self, mat: PETSc.Mat, out: PETSc.Vec) -> None:
        """diag(J_cᵀJ_c) + D. Collective."""
        self._gauss_newton.getDiagonal(mat, out)
        out.axpy(1.0, self._diagonal)

    def destroy(self, _: PETSc.Mat) -> None:
        """With the matrix. Collective."""
        self._diagonal.destroy()


@dataclass(frozen=True)
class _CoarseNetwork:
    evaluator: Evaluator
    prolongation: PETSc.Mat
    matrix: _Entries | _Products


class RediscretisedLevels:
    """J_cᵀJ_c + λ PᵀP of the coarser networks, each at the restricted parameters of the next finer one.

    Where P preserves the function of a network, J_c = J P, and the matrix is that of Galerkin; elsewhere it is the one
    of the coarser network, which costs its own linearization and no n × n matrix of the finer one. Of ``entries``
    levels, the coarsest, they are dense matrices, of the others products with J_c.

    Construction is collective.

    Raises
    ------
    OptionError     as :func:`coarse_evaluator` and :func:`~pescitrain.algebra.hierarchy.coarsen`; a dense matrix that
                    is too large
    """

    def __init__(
        self, evaluator: Evaluator, layout: ParameterLayout, coarsening: Coarsening, count: int, entries: int
    ) -> None:
        self._coarser: list[_CoarseNetwork] = []
        level = finest_level(layout)
        for number in range(1, count):
            level, prolongation = coarsen(level, coarsening)
            evaluator = coarse_evaluator(evaluator, level)
            coarse = ParameterLayout(evaluator.parameters, layout.comm, level.layout.starts)
            dense = number >= count - entries
            if dense:
                require_room(
                    coarse.size**2,
                    f"-pc_type mg: the matrix of {coarse.size} parameters on level {number} of {count}",
                    "raise -hier_levels",
                    layout.mpi_comm,
                )
            matrix = _Entries(coarse) if dense else _Products(coarse)
            self._coarser.append(_CoarseNetwork(evaluator, prolongation, matrix))

    @property
    def matrices(self) -> list[PETSc.Mat]:
        """From the finest of the coarser networks to the coarsest."""
        return [coarse.matrix.mat for coarse in self._coarser]

    def assemble(self, theta: Array, damping: float) -> None:
        """At the parameters (n,) of the finest network, with its λ. Collective."""
        weights = None
        for coarse in self._coarser:
            theta = restricted(coarse.prolongation, theta)
            weights = _squared_columns(coarse.prolongation, weights)
            shift = weights.copy()
            shift.scale(damping)
            coarse.matrix.assemble(coarse.evaluator.linearize(theta), shift)
            shift.destroy()

    def destroy(self) -> None:
        """Collective."""
        for coarse in self._coarser:
            coarse.matrix.mat.destroy()
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
