"""Clean and robust accuracy with confidence intervals; resumable, and sceptical of what attacks and models say."""

from .measurement import collect_examples, evaluate, evaluation_order
from .result import Evaluation, contradictions, wilson

__all__ = ["Evaluation", "collect_examples", "contradictions", "evaluate", "evaluation_order", "wilson"]
