"""Put a parametrization on a weight, and keep others from assigning to what it computes."""

from typing import Any

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from harp.pruning.mask import parametrizations


def attach(model: nn.Module, name: str, part: nn.Module) -> None:
    """Let ``part`` compute the weight ``name`` of the model from now on."""
    prefix, _, tensor_name = name.rpartition(".")
    module = model.get_submodule(prefix)
    register_parametrization(module, tensor_name, part, unsafe=True)
    module.get_submodule("parametrizations").train(module.training)
    setattr(type(module), "__setattr__", _set)  # noqa: B010 - torch made this class for this module alone


def _set(module: nn.Module, name: str, value: Any) -> None:
    """torch would say that the attribute exists already, or that a Mask has no inverse."""
    if "_modules" in vars(module) and name in parametrizations(module):  # a copy in the making has none yet
        kind = type(module).__bases__[0].__name__
        raise TypeError(
            f"the {name} of this {kind} is computed as weight · mask and cannot be assigned. Write to the weight under "
            f"the mask: `with torch.no_grad(): module.parametrizations.{name}.original.copy_(value)`; or call "
            "bake_masks(model) first"
        )
    nn.Module.__setattr__(module, name, value)
