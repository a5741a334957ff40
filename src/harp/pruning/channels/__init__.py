"""Whole channels: which go together, budgets in multiply-accumulates or parameters, and networks that really shrink."""

from .budget import ChannelBudget, Measure, channel_budget
from .coupling import Axis, Coupling, couple_channels
from .reader import Reader, readers
from .shrinking import shrink
from .tracing import macs
from .widths import Widths, resize, widths

__all__ = [
    "Axis",
    "ChannelBudget",
    "Coupling",
    "Measure",
    "Reader",
    "Widths",
    "channel_budget",
    "couple_channels",
    "macs",
    "readers",
    "resize",
    "shrink",
    "widths",
]
