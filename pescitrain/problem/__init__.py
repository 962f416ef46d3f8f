"""What is to be solved: terms on points, liftings, and the surrogate that they train."""

from pescitrain.problem.classification import ClassificationProblem as ClassificationProblem
from pescitrain.problem.classification import LabelledData as LabelledData
from pescitrain.problem.liftings import Lifting as Lifting
from pescitrain.problem.operator import Operator as Operator
from pescitrain.problem.operator import OperatorData as OperatorData
from pescitrain.problem.operator import OperatorProblem as OperatorProblem
from pescitrain.problem.operator import OperatorSets as OperatorSets
from pescitrain.problem.operator import OperatorSurrogate as OperatorSurrogate
from pescitrain.problem.problem import Problem as Problem
from pescitrain.problem.problem import Unknown as Unknown
from pescitrain.problem.regression import Quantities as Quantities
from pescitrain.problem.regression import RegressionData as RegressionData
from pescitrain.problem.regression import RegressionProblem as RegressionProblem
from pescitrain.problem.surrogate import Surrogate as Surrogate
from pescitrain.problem.terms import Classes as Classes
from pescitrain.problem.terms import Data as Data
from pescitrain.problem.terms import Dirichlet as Dirichlet
from pescitrain.problem.terms import Initial as Initial
from pescitrain.problem.terms import Neumann as Neumann
from pescitrain.problem.terms import Periodic as Periodic
from pescitrain.problem.terms import Residual as Residual
from pescitrain.problem.terms import Robin as Robin
from pescitrain.problem.terms import Term as Term
