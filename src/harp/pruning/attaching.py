"""Put a parametrization on a weight, and keep others from assigning to what it computes."""

from typing import Any

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from harp.pruning.mask import parametrizations

_ORDER = "_harp_parameter_order"


def attach(model: nn.Module, name: str, part: nn.Module) -> None:
    """Let ``part`` compute the weight ``name`` of the model from now on."""
    prefix, _, tensor_name = name.rpartition(".")
    module = model.get_submodule(prefix)
    order = parameter_order(module) if parametrizations(module) else tuple(module._parameters)
    register_parametrization(module, tensor_name, part, unsafe=True)
    setattr(type(module), _ORDER, order)
    if isinstance(module, nn.RNNBase):
        setattr(type(module), "_flat_weights", property(_flat_weights, _ignore))  # noqa: B010
    module.get_submodule("parametrizations").train(module.training)
    setattr(type(module), "__setattr__", _set)  # noqa: B010 - torch made this class for this module alone


def parameter_order(module: nn.Module) -> tuple[str, ...]:
    """The parameters of a module with masks, in the order of the plain one."""
    order = vars(type(module)).get(_ORDER)
    return tuple(module._parameters) if order is None else order


def _flat_weights(module: nn.RNNBase) -> list[Any]:
    """What a recurrent layer computes with, and otherwise keeps in a list that a mask would not reach."""
    return [getattr(module, name, None) for name in module._flat_weights_names]


def _ignore(module: nn.RNNBase, weights: list[Any]) -> None:
    """A move to another device makes the list anew."""


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
