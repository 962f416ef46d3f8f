"""The self-scaled Broyden family with a dense inverse Hessian as a TAO type: ``-tao_type ssbroyden``."""

from __future__ import annotations

import numpy as np
import torch
from petsc4py import PETSc

from pescitrain.algebra import ParameterLayout
from pescitrain.algebra.memory import require_room
from pescitrain.algebra.options import get_choice
from pescitrain.solvers.descent import descend
from pescitrain.solvers.outcome import Array, Memory

UPDATES = ("broyden", "bfgs")


class SelfScaledBroyden:
    """Quasi-Newton steps with the whole inverse Hessian H (n, n), rescaled at every update.

    The step is −α H ∇φ with α from the strong Wolfe search of TAO (``-tao_ls_*``; Moré–Thuente by default). Each pair
    s, y updates H to (H − H y yᵀH / yᵀH y + φ yᵀH y v vᵀ)/τ + s sᵀ/yᵀs, v = s/yᵀs − H y/yᵀH y, with τ and φ of Al-Baali
    (Comput. Optim. Appl. 9, 1998) as in Urbán, Stefanou & Pons (J. Comput. Phys. 523, 2025, 113656, eqs. 10–23). The
    rows of H are distributed like θ: an update costs O(n²) on all ranks together and a few gathers of n numbers.
    Where the points move H is kept, and no pair spans the move. Bounds are ignored.

    Options (with the prefix of the Tao)
    ------------------------------------
    -tao_ssbroyden_update broyden   τ and φ of the Broyden family; bfgs: φ = 1 and τ = min(1, yᵀs/sᵀH⁻¹s)
    """

    def __init__(self) -> None:
        self.update = "broyden"
        self._inverse: PETSc.Mat | None = None
        self._scatter: tuple[PETSc.Scatter, PETSc.Vec] | None = None
        self._fresh = True

    def setFromOptions(self, tao: PETSc.TAO) -> None:
        """Read ``-tao_ssbroyden_*``.

        Raises
        ------
        OptionError
        """
        prefix = tao.getOptionsPrefix() or ""
        self.update = get_choice(f"{prefix}tao_ssbroyden_update", self.update, UPDATES)

    def setUp(self, tao: PETSc.TAO) -> None:
        """H = I. Collective."""
        x = tao.getSolution()
        size = int(x.getSize())
        require_room(
            int(x.getLocalSize()) * size,
            f"-tao_type ssbroyden: the inverse Hessian of {size} parameters",
            "use -tao_type lbfgs, which keeps a few vectors",
            x.comm.tompi4py(),
        )
        self._inverse = PETSc.Mat().createDense((x.getSizes(), x.getSizes()), comm=x.comm)
        self._inverse.setUp()
        self._scatter = PETSc.Scatter.toAll(x)
        self._reset()

    def destroy(self, _: PETSc.TAO) -> None:
        """Free H. Collective."""
        for thing in (self._inverse, *(self._scatter or ())):
            if thing is not None:
                thing.destroy()
        self._inverse = self._scatter = None

    def solve(self, tao: PETSc.TAO) -> None:
        """Iterate until a test of TAO ends it. Collective."""
        descend(tao, self)

    def aim(self, gradient: PETSc.Vec, direction: PETSc.Vec) -> float:
        """−H ∇φ, of length one at most where H = I, which knows no length; returns the factor. Collective."""
        self._matrix.mult(gradient, direction)
        unit = 1.0 / max(1.0, float(gradient.norm())) if self._fresh else 1.0
        direction.scale(-unit)
        return unit

    def learn(self, step: PETSc.Vec, change: PETSc.Vec, before: PETSc.Vec, length: float) -> None:
        """Update H by s and y. Collective."""
        curvature = -length * float(step.dot(before))  # sᵀH⁻¹s, as s = −α H ∇φ
        product = float(step.dot(change))  # yᵀs
        if product <= 0.0 or curvature <= 0.0:  # after a search that ended without Wolfe's conditions, or by rounding
            return
        image = change.duplicate()  # H y
        self._matrix.mult(change, image)
        width = float(change.dot(image))  # yᵀH y
        if width <= 0.0:  # by rounding
            image.destroy()
            return self._reset()
        self._fresh = False
        tau, phi = self._factors(curvature / product, width / product, step.getSize())
        s, hy = self._whole(step), self._whole(image)
        image.destroy()
        v = np.sqrt(width) * (s / product - hy / width)
        factors = np.stack([s, hy, v])
        weights = np.array([1.0 / product, -1.0 / (tau * width), phi / tau])
        own = slice(*step.getOwnershipRange())
        local = torch.from_numpy(self._matrix.getDenseArray())
        local.addmm_(
            torch.from_numpy((weights[:, None] * factors[:, own]).T), torch.from_numpy(factors), beta=1.0 / tau
        )

    def _factors(self, b: float, h: float, size: int) -> tuple[float, float]:
        """τ and φ from b = sᵀH⁻¹s/yᵀs and h = yᵀH y/yᵀs."""
        if self.update == "bfgs":
            return min(1.0, 1.0 / b), 1.0
        a = max(b * h - 1.0, np.finfo(float).eps)  # 0 where s and H y are parallel
        c = np.sqrt(a / (1.0 + a))
        lowest = min(1.0, 1.0 / (b * (1.0 + c)))  # h (1 − c) without cancellation
        theta = max((lowest - 1.0) / a, min(1.0 / lowest, (1.0 - b) / b))
        sigma = 1.0 + a * theta
        spread = sigma ** (-1.0 / max(size - 1, 1))
        tau = min(1.0, 1.0 / b)
        tau = tau * min(spread, 1.0 / theta) if theta > 0.0 else min(tau * spread, sigma)
        return tau, (1.0 - theta) / sigma

    @property
    def _matrix(self) -> PETSc.Mat:
        assert self._inverse is not None
        return self._inverse

    def forget(self) -> bool:
        """H = I; returns whether it was another matrix."""
        known = not self._fresh
        self._reset()
        return known

    def _reset(self) -> None:
        self._matrix.zeroEntries()
        self._matrix.shift(1.0)
        self._fresh = True

    def _whole(self, vec: PETSc.Vec) -> Array:
        """All entries of a Vec. Collective."""
        assert self._scatter is not None
        scatter, sequential = self._scatter
        scatter.scatter(vec, sequential, addv=PETSc.InsertMode.INSERT, mode=PETSc.ScatterMode.FORWARD)
        return sequential.array_r.copy()

    def save(self, layout: ParameterLayout) -> Memory:
        """H, row by row in one vector (n²,), on all ranks. Collective."""
        if self._fresh:
            return {}
        rows = np.ascontiguousarray(self._matrix.getDenseArray(readonly=True))
        whole = np.empty((layout.size, layout.size))
        counts = np.diff(layout.starts) * layout.size
        layout.mpi_comm.Allgatherv(rows, [whole, counts.tolist()])
        return {"inverse": [whole.reshape(-1)]}

    def restore(self, layout: ParameterLayout, memory: Memory) -> None:
        """Continue from :meth:`save`. Not collective."""
        whole = memory["inverse"][0].reshape(layout.size, layout.size)
        self._matrix.getDenseArray()[:] = whole[layout.start : layout.stop]
        self._fresh = False

    def view(self, _: PETSc.TAO, viewer: PETSc.Viewer) -> None:
        """The settings."""
        viewer.printfASCII(f"  Self-scaled Broyden: update={self.update}\n")
