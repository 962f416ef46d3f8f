"""A substance enters a plate through the rim of a hole, diffuses, and reacts away: −D Δc + k c² = 0.

c = 1 on the hole; the outer sides are tight. `hole` and `outer` are physical groups of the mesh; -mesh takes your own.

    mpiexec -n 2 python -m pescitrain -problem examples/reaction_diffusion.py -problem_rate 5 -tao_max_it 200
"""

from dataclasses import dataclass

from pescitrain import Dirichlet, Neumann, Problem, Residual


@dataclass
class ReactionDiffusion(Problem):
    diffusion: float = 1.0
    rate: float = 5.0

    fields = ("c",)
    mesh = "plate_with_hole.msh"

    def equation(self, c):
        return -self.diffusion * c.laplacian + self.rate * c**2

    def terms(self):
        return [Residual(self.equation), Dirichlet(1.0, on="hole"), Neumann(0.0, on="outer")]
