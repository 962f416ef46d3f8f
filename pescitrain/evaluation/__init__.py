"""Residual, objective, gradient and linearization of a problem on distributed points."""

from pescitrain.evaluation.counters import Counters as Counters
from pescitrain.evaluation.evaluator import Evaluator as Evaluator
from pescitrain.evaluation.evaluator import Value as Value
from pescitrain.evaluation.linearization import Linearization as Linearization
from pescitrain.evaluation.samples import SamplingPlan as SamplingPlan
from pescitrain.evaluation.samples import sample_terms as sample_terms
