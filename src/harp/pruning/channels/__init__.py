"""Whole channels: which go together, budgets in multiply-accumulates or parameters, and networks that really shrink."""

from harp.pruning.channels.budget import ChannelBudget, Measure, channel_budget
from harp.pruning.channels.counts import Limit
from harp.pruning.channels.coupling import Axis, Coupling
from harp.pruning.channels.following.watching import evaluating, every_product_seen, macs
from harp.pruning.channels.grouping import couple_channels
from harp.pruning.channels.reader import Reader
from harp.pruning.channels.shrinking import shrink
from harp.pruning.channels.widths import Widths, resize, widths

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
    "every_product_seen",
    "macs",
    "resize",
    "shrink",
    "widths",
]
