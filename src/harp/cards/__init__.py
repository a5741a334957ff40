"""What a card says, read and checked: the one parser of cards and evaluations. Nothing here imports torch."""

from harp.cards.card import CARD_FORMAT, Card, LayerCounts, read_card
from harp.cards.corruptions import Corruptions
from harp.cards.evaluation import Evaluation, bits_of, wilson
from harp.cards.fields import Fields, parse_object, read_text
from harp.cards.robustbench import robustbench_entry

__all__ = [
    "CARD_FORMAT",
    "Card",
    "Corruptions",
    "Evaluation",
    "Fields",
    "LayerCounts",
    "bits_of",
    "parse_object",
    "read_card",
    "read_text",
    "robustbench_entry",
    "wilson",
]
