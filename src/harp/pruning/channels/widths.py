"""The widths of a network: how many channels each module has, read off, written down and set again."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning.channels.written import remembered

Widths = dict[str, dict[str, Any]]
"""Module name → its sizes (``"in_channels"``, ``"groups"``, …) and the shapes of its own tensors. Plain JSON values."""

_SIZES: tuple[tuple[type[nn.Module], tuple[str, ...]], ...] = (
    (nn.modules.conv._ConvNd, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (nn.modules.batchnorm._NormBase, ("num_features",)),
    (nn.GroupNorm, ("num_groups", "num_channels")),
    (nn.LayerNorm, ("normalized_shape",)),
    (nn.PReLU, ("num_parameters",)),
)
"""What modules remember of their widths beside the shapes of their tensors."""


def widths(model: nn.Module) -> Widths:
    """What it takes, beside the architecture's code, to build the network: for :func:`resize`, as JSON."""
    found: Widths = {}
    for name, module in model.named_modules():
        entry: dict[str, Any] = {size: _plain(getattr(module, size)) for size in _sizes_of(module)}
        entry |= {tensor_name: list(tensor.shape) for tensor_name, tensor in own_tensors(module).items()}
        if entry:
            found[name] = entry
    return found


def resize(model: nn.Module, target: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Give a freshly built network the widths of a smaller one, in place; its weights are then to be loaded.

    Raises ValueError, before anything changes, when the widths are not those of this architecture made smaller.
    """
    own, modules = widths(model), dict(model.named_modules())
    # Widths that an earlier harp wrote say nothing of what modules of other libraries remember.
    unsaid = {name: {size: _plain(value) for size, value in remembered(m).items()} for name, m in modules.items()}
    target = {name: {**unsaid.get(name, {}), **target.get(name, {})} for name in {**own, **target}}
    for name in sorted(own.keys() | target.keys()):
        _check_entry(name, own.get(name, {}), target.get(name, {}))
    for name, module in model.named_modules():
        for tensor_name, tensor in own_tensors(module).items():
            shape = torch.Size(target[name][tensor_name])
            if shape != tensor.shape:
                set_tensor(module, tensor_name, tensor.detach().new_zeros(shape))
        for size in _sizes_of(module):
            set_size(module, size, target[name][size])
    return model


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module itself."""
    tensors = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def set_tensor(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor of another shape in the place of a parameter or buffer."""
    old = module._parameters.get(name)
    if old is None:
        module._buffers[name] = tensor
    else:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=old.requires_grad)


def set_size(module: nn.Module, name: str, value: Any) -> None:
    old = getattr(module, name)
    setattr(module, name, type(old)(value) if isinstance(value, list) else value)


def fit_sizes(module: nn.Module, was: Mapping[str, torch.Size], *, whole: bool) -> None:
    """Make a module remember the widths that its tensors have now; ``whole`` convolutions have lost whole groups."""
    now = {name: tensor.shape for name, tensor in own_tensors(module).items()}
    if isinstance(module, nn.modules.conv._ConvNd):
        if whole:
            module.groups = module.groups * now["weight"][0] // was["weight"][0]
        sides = [now["weight"][0], now["weight"][1] * module.groups]
        module.in_channels, module.out_channels = sides if module.transposed else reversed(sides)
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = now["weight"]
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        module.num_features = next((shape[0] for shape in now.values() if shape), module.num_features)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * now["weight"][0] // was["weight"][0]
        module.num_channels = now["weight"][0]
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = tuple(now["weight"])
    elif isinstance(module, nn.PReLU):
        module.num_parameters = now["weight"][0]


def snapshot(model: nn.Module) -> Callable[[], None]:
    """A function that gives every module back the tensors and sizes that it has now."""
    kept = [
        (m, dict(m._parameters), dict(m._buffers), {size: getattr(m, size) for size in _sizes_of(m)})
        for m in model.modules()
    ]

    def restore() -> None:
        for module, parameters, buffers, sizes in kept:
            module._parameters.update(parameters)
            module._buffers.update(buffers)
            vars(module).update(sizes)

    return restore


def _sizes_of(module: nn.Module) -> tuple[str, ...]:
    """What a module remembers of its widths: what all of its kind do, or whatever a stranger's may."""
    return next((sizes for kind, sizes in _SIZES if isinstance(module, kind)), tuple(remembered(module)))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_entry(name: str, own: Mapping[str, Any], target: Mapping[str, Any]) -> None:
    if own.keys() != target.keys():
        raise ValueError(f"the widths of {name!r} name {sorted(target)}, and the network has {sorted(own)} there")
    for size, value in own.items():
        mine, theirs = (v if isinstance(v, list) else [v] for v in (value, target[size]))
        ints = all(type(n) is int for n in theirs)
        if not ints or len(mine) != len(theirs) or not all(0 < n <= most for n, most in zip(theirs, mine, strict=True)):
            raise ValueError(
                f"the widths say {name}.{size}={target[size]!r}, expected at most the network's own {value}"
            )
