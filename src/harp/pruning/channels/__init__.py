"""Whole channels: which go together, budgets in multiply-accumulates or parameters, and networks that really shrink."""

from .budget import ChannelBudget, Measure, channel_budget
from .counts import Limit
from .coupling import Axis, Coupling, couple_channels
from .reader import Reader
from .shrinking import shrink
from .watching import evaluating, macs
from .widths import Widths, resize, widths

__all__ = [
    "Axis",
    "ChannelBudget",
    "Coupling",
    "Limit",
    "Measure",
    "Reader",
    "Widths",
    "channel_budget",
    "couple_channels",
    "evaluating",
    "macs",
    "resize",
    "shrink",
    "widths",
]
