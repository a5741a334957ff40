"""The budget that a recipe names, on its network."""

from collections.abc import Collection

import torch
from torch import nn

from harp.data import ImageData
from harp.pruning import Budget, budget_of_sites, channel_budget, weight_budget
from harp.recipes import Pruning


def make_budget(
    model: nn.Module, settings: Pruning, data: ImageData, *, sites: Collection[str] | None = None
) -> Budget:
    """The budget that a stage's settings name, measured on the network itself.

    Without the ``sites`` of masks that were made already, a pass through it is looked at: it may make its weights anew.
    """
    example = torch.zeros(1, *data.shape)
    if settings.of_channels:
        measures = ("macs", "parameters") if settings.measure == "both" else (settings.measure,)
        keeps = dict.fromkeys(measures, settings.keep)
        return channel_budget(model, example, keep=keeps, exclude=settings.exclude, multiple_of=settings.multiple_of)
    if sites is not None:
        return budget_of_sites(model, keep=settings.keep, exclude=settings.exclude, sites=sites)
    return weight_budget(model, keep=settings.keep, exclude=settings.exclude, include=settings.include, example=example)
