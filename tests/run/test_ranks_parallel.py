"""The command on several ranks takes the path that it takes on one, and an error on one rank ends all."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from run.commands import TINY, column, command, summary  # pyright: ignore[reportMissingImports]

from pescitrain.snapshots.collection import Snapshots

HEAT = ("-problem", "heat1d", *TINY, "-tao_type", "lm", "-tao_max_it", 8)
BURGERS = ("-problem", "burgers", *TINY, "-tao_type", "lm", "-tao_max_it", 8)
BOXES = (
    *"-problem poisson2d -problem_m 4 -bc_enforce hard -net_type subdomain -net_subdomains 3 -net_depth 1".split(),
    *"-net_width 16 -sample_points 1000 -net_start random -tao_max_it 3 -snes_max_it 3".split(),
    *"-out_pictures false -out_model false".split(),
)
PARTS = (
    *"-problem poisson_lshape -net_type subdomain -net_partition mesh -net_subdomains 6 -net_width 6".split(),
    *"-net_depth 1 -sample_order 1 -tao_type lm -tao_max_it 4 -out_pictures false -out_model false".split(),
)
BOREHOLE = (
    *"-problem borehole -net_width 10 -net_depth 2 -problem_samples 300 -tao_max_it 5".split(),
    *"-out_pictures false -out_model false".split(),
)

PATHS: dict[str, tuple[object, ...]] = {
    "subdomains, lm": (*BOXES, *"-tao_type lm".split()),
    "subdomains, asm": (
        *BOXES,
        *"-tao_type lm -tao_lm_space krylov -pc_type asm -part_overlap 1 -ksp_rtol 1e-8".split(),
    ),
    "subdomains, two levels": (
        *BOXES,
        *"-tao_type lm -tao_lm_space krylov -pc_type two_level -two_level_coarse_group_size 2 -ksp_max_it 5".split(),
    ),
    "subdomains, newtontr": (*BOXES, *"-snes_type newtontr -pc_type asm -ksp_rtol 1e-8".split()),
    "subdomains, spqn": (*BOXES, *"-tao_type spqn".split()),
    "random features": (
        *BOXES,
        *"-net_overlap 0.3 -net_train output -tao_type lm -tao_lm_space krylov -ksp_type lsqr".split(),
        *"-tao_lm_damping 1e-16 -pc_type filter -part_overlap 1 -tao_max_it 1".split(),  # it is linear: one step
    ),
    "parts of a mesh": PARTS,
    "parts of a mesh, two levels": (*PARTS, *"-net_overlap_cells 3 -net_subdomains 1,5".split()),
    "regression, blmvm": (*BOREHOLE, "-tao_type", "blmvm"),
    "regression, lm": (*BOREHOLE, "-tao_type", "lm"),
    "regression, trlsr1": (*BOREHOLE, "-tao_type", "trlsr1"),
    "classification, batches": (
        *"-problem spirals -net_depth 9 -problem_samples 120 -sample_batch 17 -tao_type adam -tao_adam_lr 0.02".split(),
        *"-tao_max_it 20 -out_pictures false -out_model false".split(),
    ),
    "points that are added, residual weights": (
        *HEAT,
        *"-sample_adapt rar -sample_adapt_interval 3 -sample_adapt_add 9 -loss_sample_weights residual".split(),
    ),
    "fresh points, causal weights": (
        *HEAT,
        *"-sample_adapt fresh -sample_adapt_interval 1 -loss_sample_weights causal".split(),
    ),
    "time windows": (
        *HEAT,
        *"-sample_time_windows 3 -sample_time_window_interval 2 -sample_adapt rad -sample_adapt_interval 3".split(),
    ),
    "continuation": (
        *BURGERS,
        *"-problem_continuation nu=0.5 -problem_continuation_steps 3 -problem_continuation_interval 2".split(),
    ),
    "a correction": (
        *("-problem", "poisson2d", *TINY, "-stages", "main,polish", "-polish_net_correction", "-tao_max_it", 6),
        *"-tao_type lm -tao_gatol 0 -tao_grtol 0 -sample_adapt rad -sample_adapt_interval 4".split(),
    ),
    "an operator, branch and trunk as blocks": (
        *"-problem advection_operator -problem_family grf -problem_samples 20 -problem_tests 5 -net_width 6".split(),
        *"-net_depth 1 -net_basis 4 -tao_type spqn -tao_spqn_preset aspqn -part_type network -part_blocks 2".split(),
        *"-sub_tao_max_it 4 -tao_max_it 3 -out_pictures false -out_model false".split(),
    ),
    "nested networks": (
        *("-problem", "poisson2d", *TINY, "-net_type", "resnet", "-net_depth", 5, "-net_final_time", 4),
        *"-hier_nested -hier_levels 3 -hier_type width -tao_type lbfgs -tao_max_it 6".split(),
    ),
}

ROUNDING = 1e-6
"""Sums over ranks are added in another order, and every step magnifies what they round."""

LESS_ROUNDING = {
    "classification, batches": 1e-9,
    "an operator, branch and trunk as blocks": 1e-9,
    "nested networks": 1e-8,
    "regression, blmvm": 1e-7,
    "regression, lm": 1e-7,
    "regression, trlsr1": 1e-7,
}
"""Where few steps, or steps of a fixed length, magnify it less."""


def compare(words, folder, comm, rounding):
    """Train on all ranks together, and on each alone; returns what they come to."""
    together, alone = folder / "together", folder / f"alone{comm.rank}"
    ended = command(*words, "-out_error_interval", 1, "-out_dir", together)
    assert ended.code == 0, ended.err
    ended = command(*words, "-out_error_interval", 1, "-out_dir", alone, comm=MPI.COMM_SELF)
    assert ended.code == 0, ended.err
    comm.barrier()  # rank 0 has written
    for name in ("objective", "rel_l2"):
        np.testing.assert_allclose(column(together, name), column(alone, name), rtol=rounding)
    first, *_, last = column(alone, "objective")
    assert last < first
    both = summary(together), summary(alone)
    assert [found["ranks"] for found in both] == [comm.size, 1]
    return both


@pytest.mark.parallel(2, 3)
@pytest.mark.parametrize("name", PATHS)
def test_several_ranks_take_the_path_of_one(comm, tmp_path, name):
    compare(PATHS[name], tmp_path, comm, LESS_ROUNDING.get(name, ROUNDING))


@pytest.fixture
def snapshots(comm, tmp_path):
    """A file of twenty fields."""
    path = tmp_path / "run.petsc"
    if comm.rank == 0:
        random = np.random.default_rng(3)
        result = Snapshots(random.uniform(0.0, [2.0, 1.0], (30, 2)), ("a", "b"), field="p", comm=MPI.COMM_SELF)
        for a, b in random.uniform(0.5, 1.5, (20, 2)):
            result.append((a, b), 1e5 + 10.0 * a * np.sin(3.0 * result.locations[:, 0] + b))
        result.write(path)
    comm.barrier()
    return path


@pytest.mark.parallel(2, 3)
@pytest.mark.parametrize("trunk", ["-data_patience 3", "-net_trunk pod -net_basis 6"])
def test_several_ranks_learn_an_operator_from_snapshots_alike(comm, tmp_path, snapshots, trunk):
    words = "-problem deeponet -net_width 8 -net_depth 1 -tao_max_it 15 -out_pictures false -out_model false".split()
    together, alone = compare((*words, *trunk.split(), "-data_file", snapshots), tmp_path, comm, 1e-7)
    assert together["test_rel_l2"] == pytest.approx(alone["test_rel_l2"], rel=1e-5)


@pytest.mark.parallel(2, 3)
def test_points_that_moved_on_several_ranks_go_on_on_one(comm, tmp_path):
    """Each rank writes its share of them."""
    words = ("-problem", "poisson2d", *TINY, *"-tao_type lm -sample_adapt rar -sample_adapt_interval 4".split())
    words = (*words, "-sample_adapt_add", 7)
    together, rest, alone = tmp_path / "together", tmp_path / f"rest{comm.rank}", tmp_path / f"alone{comm.rank}"
    assert command(*words, "-tao_max_it", 10, "-out_dir", together).code == 0
    comm.barrier()  # the checkpoint is whole
    for more, folder in ((("-ckpt_restart", together / "checkpoint"), rest), ((), alone)):
        assert command(*words, "-tao_max_it", 14, *more, "-out_dir", folder, comm=MPI.COMM_SELF).code == 0
    for name in ("objective", "gradient_norm"):
        np.testing.assert_allclose(column(rest, name), column(alone, name), rtol=1e-7)


FAILS = """from mpi4py import MPI
from pescitrain import Box, Dirichlet, Lifting, Problem, Residual

class Square(Problem):
    def domain(self):
        return Box(("x", "y"), (0, 0), (1, 1))
    def terms(self):
        return [Residual(self.equation), Dirichlet(0.0)]
    def equation(self, u, x):
        if MPI.COMM_WORLD.rank == 1 and len(x) >= LEAST:
            raise ValueError("only here")
        return u.laplacian
"""

LIFTING = """
    def lifting(self):
        return Lifting(self.base, lambda x, y: x * y, ())
    def base(self, x):
        if MPI.COMM_WORLD.rank == 1 and len(x) >= 4:
            raise ValueError("only here")
        return 0 * x
"""


@pytest.mark.parallel(2, 3)
@pytest.mark.parametrize(
    ("text", "enforce", "code", "begin"),
    [
        (FAILS.replace("LEAST", "4"), "soft", 1, "the residual failed on rank 1: "),
        (FAILS.replace("LEAST", "0"), "soft", 2, "-problem "),
        (FAILS.replace("LEAST", "10**9") + LIFTING, "hard", 2, "-problem "),
    ],
    ids=["in a residual at its points", "at the three on which it is tried", "in a lifting"],
)
def test_an_error_on_one_rank_is_an_error_on_all_said_once(comm, tmp_path, text, enforce, code, begin):
    file = tmp_path / "user.py"
    if comm.rank == 0:
        file.write_text(text)
    comm.barrier()
    ended = command("-problem", file, *TINY, "-bc_enforce", enforce, "-out_dir", tmp_path / "run")
    assert ended.code == code
    if comm.rank == 0:
        assert ended.complaint.startswith(begin)
        assert f"ValueError: only here ({file}:" in ended.complaint
    else:
        assert ended.err == ""


@pytest.mark.parallel(2, 3)
def test_a_broken_file_ends_all_ranks_with_one_sentence(comm, tmp_path):
    if comm.rank == 0:
        (tmp_path / "run.npz").write_bytes(b"PK no archive")
    comm.barrier()
    ended = command("-problem", "deeponet", "-data_file", tmp_path / "run.npz", "-out_dir", tmp_path / "run")
    assert ended.code == 2
    if comm.rank == 0:
        assert "it is cut off or no .npz archive" in ended.complaint
