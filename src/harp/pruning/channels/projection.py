"""Weights with whole channels at zero: what an unmasked network is pulled to before it is cut."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harp.pruning.channels.budget import ChannelBudget
from harp.pruning.channels.starts import saliences, spending
from harp.pruning.methods import Method
from harp.pruning.selection import top


class ChannelProjection:
    """On the weights that read channels: keeps those that the method's masks would keep, and zeroes what reads others."""

    def __init__(self, model: nn.Module, budget: ChannelBudget, method: Method):
        self.model, self.coupling, self.method = model, budget.coupling, method
        self.weights = {axis.tensor: model.get_parameter(axis.tensor) for axis in budget.coupling.read()}
        self.counts = budget.counts(spending(budget, method.keeps, saliences(model, budget.coupling)))

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The same weights with zeros; importance is that of the values, and of the model's other weights."""
        found = saliences(self.model, self.coupling, values)
        kept = [top(self.method.scores(part), self.counts[name]).flatten() for name, part in found.items()]
        stays = torch.cat([*kept, torch.ones(1, dtype=torch.bool)])  # place -1 always
        projected = {}
        for axis in self.coupling.read():
            value = values[axis.tensor]
            along = [-1 if dim == axis.dim else 1 for dim in range(value.dim())]
            projected[axis.tensor] = value * stays[axis.place].to(value.device).view(along)
        return projected
