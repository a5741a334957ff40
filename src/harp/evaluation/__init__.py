"""Clean and robust accuracy with confidence intervals; resumable, and sceptical of what attacks and models say."""

from .measurement import BATCH_SIZE, collect_examples, evaluate
from .order import evaluation_order
from .ranks import Ranks
from .result import Evaluation, contradictions, wilson
from .timing import NO_TIME, UNTRAINED, Clock, Range, Standing

__all__ = [
    "BATCH_SIZE",
    "NO_TIME",
    "UNTRAINED",
    "Clock",
    "Evaluation",
    "Range",
    "Ranks",
    "Standing",
    "collect_examples",
    "contradictions",
    "evaluate",
    "evaluation_order",
    "wilson",
]
