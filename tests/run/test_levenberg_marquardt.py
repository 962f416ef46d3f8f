"""The command with -tao_type lm, to the digits that the README promises."""

from run.commands import command, summary  # pyright: ignore[reportMissingImports]


def test_poisson2d_to_six_digits(tmp_path):
    words = "-problem poisson2d -net_width 64 -net_depth 1 -sample_points 900 -sample_boundary_points 120 -tao_type lm"
    stop = "-tao_gatol 0 -tao_grtol 0 -tao_max_it 150 -out_pictures false -out_model false -out_error_interval 1000"
    assert command(*words.split(), *stop.split(), "-out_dir", tmp_path).code == 0
    assert summary(tmp_path)["rel_l2"] < 1e-6  # 3.2e-7 to 5.0e-7 after 120 for three seeds; round-off decides the path
    assert summary(tmp_path)["solver"] == "tao:lm"


def test_moving_points_make_the_error_follow_the_objective(tmp_path):
    """On fixed points the error of Burgers stalls: the network is wrong between them."""
    words = "-problem burgers -net_depth 2 -sample_points 1500 -bc_enforce hard -tao_type lm -tao_max_it 150"
    errors = {}
    for adapt in ("none", "rad"):
        ended = command(
            *words.split(), "-sample_adapt", adapt, "-out_pictures", "false", "-out_model", "false",
            "-out_error_interval", 1000, "-out_dir", tmp_path / adapt,
        )  # fmt: skip
        assert ended.code == 0
        errors[adapt] = summary(tmp_path / adapt)["rel_l2"]
    assert errors["rad"] < 0.5 * errors["none"], errors


def test_a_preconditioner_of_ours_that_it_does_not_take_is_said_to_have_no_effect(tmp_path):
    """PETSc, whose KSP reads the option anyhow, does not know the name."""
    words = "-problem poisson2d -tao_type lm -pc_type kfac -tao_max_it 1 -net_width 8 -net_depth 2 -sample_points 200"
    ended = command(*words.split(), "-out_pictures", "false", "-out_dir", tmp_path)
    assert ended.code == 0, ended.err
    assert "note: -pc_type kfac has no effect: lm takes no preconditioner" in ended.out
