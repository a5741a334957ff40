"""Clean and robust accuracy with confidence intervals; resumable, and sceptical of what attacks and models say."""

from harp.evaluation.evaluating import BATCH_SIZE, collect_examples, evaluate
from harp.evaluation.order import evaluation_order
from harp.evaluation.ranks import Ranks
from harp.evaluation.result import Evaluation, contradictions, wilson

__all__ = [
    "BATCH_SIZE",
    "Evaluation",
    "Ranks",
    "collect_examples",
    "contradictions",
    "evaluate",
    "evaluation_order",
    "wilson",
]
