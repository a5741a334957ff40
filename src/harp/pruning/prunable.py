"""Which weights of a network can be pruned, and why some cannot."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from harp.pruning.mask import parametrizations

FOLLOWED_TYPES = (nn.modules.conv._ConvNd, nn.Linear, nn.MultiheadAttention)
"""Modules whose weights are counted and pruned, and whose channels are followed."""
PRUNED_TYPES = (*FOLLOWED_TYPES, nn.Bilinear, nn.RNNBase, nn.RNNCellBase)
"""Modules whose weights are counted and pruned. Biases and normalisation never are, embeddings only on demand."""
PRUNED_TENSORS = ("weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
NORMALISATION = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.instancenorm._InstanceNorm,
)
"""Modules whose parameters go on learning while the weights rest."""
Types = tuple[type[nn.Module], ...]


def prunable_weights(
    model: nn.Module, include: Iterable[str] = (), types: Types = PRUNED_TYPES
) -> dict[str, nn.Parameter]:
    """Weights that can be pruned, by name, each module once however often it is called.

    ``include`` are names of further parameters, in whose place a mask can sit as well.
    """
    found, wanted = {}, frozenset(include)
    for name, module, tensor_name in _places(model, wanted, types):
        weight = module._parameters.get(tensor_name)
        if isinstance(weight, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet; run one batch through the model first")
        if weight is not None and weight.numel() > 0:
            found[name] = weight
    return found


def prunable_shapes(
    model: nn.Module, include: Iterable[str] = (), types: Types = PRUNED_TYPES
) -> dict[str, torch.Size]:
    """The shape of each weight that can be pruned, or that has a mask already, by name."""
    found, wanted = {}, frozenset(include)
    for name, module, tensor_name in _places(model, wanted, types):
        chain = parametrizations(module).get(tensor_name)
        weight = module._parameters.get(tensor_name) if chain is None else chain.original
        if isinstance(weight, nn.Parameter) and weight.numel() > 0:
            found[name] = weight.shape
    return found


def other_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of two dimensions or more that are pruned only on demand, by name: embeddings, and those that a module of
    the user's own holds. Normalisation is not among them."""
    layers = (*PRUNED_TYPES, *NORMALISATION)
    known = {id(p) for module in model.modules() if isinstance(module, layers) for p in module._parameters.values()}
    masked = {id(p) for m in model.modules() for chain in parametrizations(m).values() for p in chain.parameters()}
    return {name: p for name, p in model.named_parameters() if _is_matrix(p) and id(p) not in known | masked}


def _is_matrix(parameter: nn.Parameter) -> bool:
    uninitialised = isinstance(parameter, nn.parameter.UninitializedParameter)
    return not uninitialised and sum(length > 1 for length in parameter.shape) > 1


def _places(model: nn.Module, include: frozenset[str], types: Types) -> Iterator[tuple[str, nn.Module, str]]:
    for prefix, module in model.named_modules():
        own = tensors_of(module) if isinstance(module, types) else ()
        held = [name for name in (*module._parameters, *parametrizations(module)) if name not in own] if include else ()
        for tensor_name in own:
            yield f"{prefix}.{tensor_name}" if prefix else tensor_name, module, tensor_name
        for tensor_name in held:
            if (name := f"{prefix}.{tensor_name}" if prefix else tensor_name) in include:
                yield name, module, tensor_name


def tensors_of(module: nn.Module) -> tuple[str, ...]:
    """The names that the weights of a module may have."""
    if isinstance(module, nn.RNNBase):
        return tuple(name for name in module._flat_weights_names if name.startswith("weight"))
    return ("weight_ih", "weight_hh") if isinstance(module, nn.RNNCellBase) else PRUNED_TENSORS


def alive(weight: Tensor) -> int:
    """How many entries can ever count: those that are not zero; all of a weight that is nothing but zeros, a fresh one."""
    return int(weight.detach().count_nonzero()) or weight.numel()


def computed_weights(model: nn.Module) -> list[str]:
    """Names of weights that are not parameters: a parametrization or a hook makes them anew, e.g. weight norm."""
    return [
        name
        for name, module, tensor_name in _places(model, frozenset(), PRUNED_TYPES)
        if tensor_name not in module._parameters and isinstance(getattr(module, tensor_name, None), Tensor)
    ]


def refuse_computed(names: list[str]) -> None:
    if names:
        raise ValueError(
            f"{names} are computed by a parametrization or a hook (weight norm, for instance), and a mask needs the "
            f"weight itself; remove it first, or leave them out: exclude={names}"
        )


def refuse_shared(model: nn.Module, names: list[str]) -> None:
    owners: dict[int, list[str]] = {}
    for prefix, module in model.named_modules():
        for tensor_name, parameter in module._parameters.items():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(f"{prefix}.{tensor_name}" if prefix else tensor_name)
    weights = prunable_weights(model, names)
    for name in names:
        sharing = owners[id(weights[name])]
        if len(sharing) > 1:
            raise ValueError(
                f"{' and '.join(sharing)} share one weight, which can have only one mask; leave it out: "
                f"exclude={[n for n in sharing if n in weights]}"
            )
