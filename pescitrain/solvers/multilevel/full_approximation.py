"""PETSc's own nonlinear multigrid, ``-snes_type fas``, on the networks of a hierarchy."""

from __future__ import annotations

from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout, System, decompose
from pescitrain.algebra.coarse_networks import coarse_evaluator
from pescitrain.algebra.hierarchy import Coarsening, coarsen, finest_level


class NetworkHierarchy:
    """The systems of ``count`` networks, and DMs that coarsen from one to the next. Construction is collective.

    P moves corrections, Pᵀ gradients, and Π = (PᵀP)⁻¹Pᵀ parameters.

    Raises
    ------
    OptionError     a network that is no MLP or ResNet; nothing is left to coarsen
    """

    def __init__(self, system: System, coarsening: Coarsening, count: int) -> None:
        self.systems, self._prolongations = [system], list[PETSc.Mat]()
        level, evaluator = finest_level(system.layout), system.evaluator
        for _ in range(count - 1):
            level, prolongation = coarsen(level, coarsening)
            evaluator = coarse_evaluator(evaluator, level)
            layout = ParameterLayout(evaluator.parameters, system.layout.comm, level.layout.starts)
            blocks = decompose(evaluator.parameters.layers, "layer", None, 0)
            self.systems.append(System(evaluator, layout, blocks, None))
            self._prolongations.append(prolongation)
        self.dm = self._create_dm(0)

    def system_of(self, dm: PETSc.DM) -> System:
        """The network that a DM of this hierarchy stands for."""
        place = dm.getAttr("level")
        assert isinstance(place, int)
        return self.systems[place]

    def prepare_smoothers(self, snes: PETSc.SNES) -> None:
        """Give each SNES of a cycle a Vec: PETSc restricts those of Newton types before they have any. Collective."""
        last = len(self.systems) - 1
        for place, system in enumerate(self.systems):
            snes.getFASSmoother(last - place).setSolution(system.layout.create_vec())

    def _create_dm(self, place: int) -> PETSc.DM:
        system = self.systems[place]
        dm = PETSc.DMShell().create(comm=system.layout.comm)
        dm.setGlobalVector(system.layout.template)
        dm.setAttr("level", place)
        dm.setCreateMatrix(lambda _: system.operator)
        dm.setCoarsen(lambda *_: self._create_dm(place + 1))
        dm.setCreateInterpolation(lambda *_: (self._prolongations[place - 1], self._scale(place - 1)))
        dm.setUp()
        return dm

    def _scale(self, place: int) -> PETSc.Vec:
        """(PᵀP)⁻¹, which is diagonal: a row of P has one entry."""
        prolongation = self._prolongations[place]
        values, squares = prolongation.createVecLeft(), prolongation.createVecRight()
        squares.set(1.0)
        prolongation.mult(squares, values)
        prolongation.multTranspose(values, squares)
        squares.reciprocal()
        values.destroy()
        return squares

    def destroy(self) -> None:
        """Collective."""
        self.dm.destroy()
        for prolongation in self._prolongations:
            prolongation.destroy()
        for system in self.systems[1:]:
            system.destroy()
