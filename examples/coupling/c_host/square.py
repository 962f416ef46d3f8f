"""What `helmholtz` solves vanishes on the boundary of the unit square, and so do the functions of its network."""

from pescitrain.problems.deeponet import DeepONet


class Square(DeepONet):
    """The operator of ``-data_file`` with the condition built in."""

    def factor(self, x, y):
        return 16.0 * x * (1.0 - x) * y * (1.0 - y)
