"""Clean and robust accuracy with confidence intervals; resumable, and sceptical of what attacks and models say."""

from .measurement import collect_examples, evaluate
from .order import evaluation_order
from .ranks import Ranks
from .result import Evaluation, contradictions, wilson

__all__ = ["Evaluation", "Ranks", "collect_examples", "contradictions", "evaluate", "evaluation_order", "wilson"]
