"""θ as a Vec, its decompositions, and the operators and preconditioners that act on it."""

from pescitrain.algebra.decomposition import Block as Block
from pescitrain.algebra.decomposition import decompose as decompose
from pescitrain.algebra.layout import ParameterLayout as ParameterLayout
from pescitrain.algebra.network_dm import create_network_dm as create_network_dm
from pescitrain.algebra.operators import AssembledGaussNewton as AssembledGaussNewton
from pescitrain.algebra.operators import MatrixFreeGaussNewton as MatrixFreeGaussNewton
from pescitrain.algebra.operators import create_gauss_newton as create_gauss_newton
from pescitrain.algebra.operators import create_jacobian as create_jacobian
from pescitrain.algebra.preconditioner import Preconditioner as Preconditioner
from pescitrain.algebra.system import System as System
