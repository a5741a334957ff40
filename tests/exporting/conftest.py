"""Networks to export, with statistics in their batch norms and zeros in their weights as pruned ones have."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import harp


def prune(model: nn.Module, keep: float) -> nn.Module:
    """Bake random masks of an Erdős–Rényi split into the model, and give its batch norms something to do."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5),
                    (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.5, 2.0),
                ):
                    if isinstance(tensor, Tensor):
                        tensor.uniform_(low, high, generator=generator)
    if keep < 1:
        harp.attach_masks(model, harp.weight_budget(model, keep=keep), harp.methods.ERK)
        harp.bake_masks(harp.freeze_masks(model))
    return model


@pytest.fixture
def pruned() -> Callable[[nn.Module, float], nn.Module]:
    return prune
