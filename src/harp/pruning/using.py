"""What a forward pass does with the weights: which of them it uses, and whether it computes with others made of them.

A mask is on a stored weight. Where the forward pass standardises that weight first, what is multiplied is dense again.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harp.pruning.sharpness import restored

PRODUCTS = frozenset(
    {
        *("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "convolution", "linear"),
        *("_native_multi_head_attention", "_transformer_encoder_layer_fwd"),
        *(f"_scaled_dot_product_{kind}" for kind in ("flash_attention_for_cpu", "flash_attention", "attention_math")),
        *(f"_scaled_dot_product_{kind}" for kind in ("efficient_attention", "cudnn_attention")),
    }
)
"""Operations that multiply, by their names in ATen."""
_EVERY = 7
"""One in so many entries of a weight stays while it is looked at."""


@dataclass(frozen=True)
class _Origin:
    """What a tensor was made of: the images, weights, and whether a product has made it."""

    image: bool = False
    weights: frozenset[str] = frozenset()
    product: bool = False


@dataclass
class Uses:
    """``used`` weights, those ``remade`` by another operation than a mask, those that are ``factors`` of products with what
    comes from the image, and whether the pass reads numbers off images."""

    used: set[str] = field(default_factory=set)
    remade: set[str] = field(default_factory=set)
    factors: set[str] = field(default_factory=set)
    branches: bool = False


def uses(model: nn.Module, example: Tensor, weights: Mapping[str, nn.Parameter], *, training: bool = False) -> Uses:
    """Run the model on one image, in training mode on two, and see what it does with these weights.

    Raises ValueError when the model cannot run. It stays as it is, and so do random numbers.
    """
    example = as_example(model, example)
    image = images_for(example, training=training)
    with untouched(model, training=training, device=example.device), _thinned(model, weights) as thin:
        calls = _Products()
        watch = _Watch(thin, image, calls)
        with torch.no_grad(), watch, calls:
            run(model, image, example, training=training)
    return watch.found


def as_example(model: nn.Module, example: Tensor) -> Tensor:
    """The images in the type in which the model computes. Raises TypeError for what are none, and for compiled programs."""
    check_plain(model)
    if not isinstance(example, Tensor):
        raise TypeError(f"example is a {type(example).__name__}, expected a batch of images as a tensor (n, c, h, w)")
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), example.dtype)
    return example.to(dtype) if example.is_floating_point() else example


def check_plain(model: nn.Module) -> None:
    """Raises TypeError for a program of TorchScript, whose weights no mask can be put on."""
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            f"model is a {type(model).__name__}, a program of TorchScript, and cannot be pruned: give the module it was made from"
        )


def run(model: nn.Module, images: Tensor, example: Tensor, *, training: bool = False) -> Any:
    """The model's answer to ``images``, the first of ``example``. Raises ValueError when it has none."""
    try:
        return model(images)
    except (RuntimeError, TypeError, IndexError, AssertionError) as error:
        said, mode = str(error).partition("\n")[0], " in training mode" if training else ""
        raise ValueError(
            f"example={tuple(example.shape)}: the model cannot run on its first image{mode}: {said}"
        ) from error


def images_for(example: Tensor, *, training: bool) -> Tensor:
    """The first image; in training mode twice, since a batch norm needs more than one value."""
    return torch.cat([example[:1]] * 2) if training else example[:1]


@contextmanager
def untouched(model: nn.Module, *, training: bool, device: torch.device) -> Iterator[None]:
    """One mode for all modules inside the ``with``; afterwards modes, buffers and random numbers are what they were."""
    modes = {module: module.training for module in model.modules()}
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), restored(model, ()):
        try:
            for module in modes:  # not model.train(): a module's own may do more than that
                module.training = training
            yield
        finally:
            for module, was in modes.items():
                module.training = was


def patterns(names: Iterable[str], among: Iterable[str]) -> list[str]:
    """A few patterns for ``exclude`` that match these names and no others ``among`` all: ``["aux.*"]``."""
    wanted = sorted(set(names))
    others = [name for name in among if name not in set(wanted)]
    return list(dict.fromkeys(_pattern(name, wanted, others) for name in wanted))


def _pattern(name: str, wanted: list[str], others: list[str]) -> str:
    """The widest for a name: all of a module, or the same place in each of several."""
    parts = name.split(".")
    heads = [".".join(parts[:length]) + ".*" for length in range(1, len(parts))]
    for wide in (*heads, re.sub(r"\.\d+(?=\.)", ".*", name)):
        if sum(fnmatchcase(each, wide) for each in wanted) > 1 and not any(fnmatchcase(each, wide) for each in others):
            return wide
    return name


class _Products(TorchFunctionMode):
    """Notes what the program calls: a product does not tell which of its factors is a layer's weight."""

    name = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.name = getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


class _Watch(TorchDispatchMode):
    """Follows what the images, and each weight, become."""

    def __init__(self, weights: Mapping[str, Tensor], image: Tensor, calls: _Products):
        super().__init__()
        self.found, self.weights, self.calls = Uses(), weights, calls
        # The weak reference keeps the address from being given to another tensor, and lets go of the values.
        self._origins = {_key(weight): _Origin(weights=frozenset([name])) for name, weight in weights.items()}
        self._origins[_key(image)] = _Origin(image=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})
        tensors = [(name, t) for name, value in given.items() for t in tree_leaves(value) if isinstance(t, Tensor)]
        origins = [self._origins.get(_key(tensor), _Origin()) for _, tensor in tensors]
        self.found.used.update(*(origin.weights for origin in origins))
        name = func.overloadpacket.__name__
        image, weights = any(o.image for o in origins), frozenset[str]().union(*(o.weights for o in origins))
        made = _Origin(image, weights, any(o.product for o in origins))
        if name == "_local_scalar_dense" and image:
            self.found.branches = True
        if name in PRODUCTS:
            for (argument, tensor), origin in zip(tensors, origins, strict=True):
                self._look_at(argument, tensor, origin)
                if image and not (origin.image or origin.product or argument.startswith("attn_")):
                    self.found.factors.update(origin.weights)
            made = _Origin(image=True) if image else _Origin(weights=weights, product=True)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._origins[_key(tensor)] = made
        return out

    def _look_at(self, argument: str, factor: Tensor, origin: _Origin) -> None:
        """Is this factor of a product made of masked weights in a way that fills their zeros?"""
        is_weight = argument.endswith("weight") or (argument == "mat2" and self.calls.name == "linear")
        if not origin.weights or (not is_weight and (origin.image or origin.product)):
            return
        stored = [self.weights[name] for name in origin.weights]
        entries, kept = sum(weight.numel() for weight in stored), sum(int(weight.count_nonzero()) for weight in stored)
        denser = int(factor.count_nonzero()) * entries > 2 * kept * factor.numel()
        if origin.product or denser:
            self.found.remade.update(origin.weights)


@contextmanager
def _thinned(model: nn.Module, weights: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """Inside, other parameters stand in for the model's: most entries of these weights are zero, and nothing else is."""
    names = {id(weight): name for name, weight in weights.items()}
    held = [(module, name, p) for module in model.modules() for name, p in module._parameters.items() if p is not None]
    stand_ins = {id(p): _stand_in(p, thin=id(p) in names) for _, _, p in held}
    recurrent = [(module, module._flat_weights) for module in model.modules() if isinstance(module, nn.RNNBase)]
    for module, name, parameter in held:
        module._parameters[name] = stand_ins[id(parameter)]
    for module, _ in recurrent:  # they compute with a list of their own
        module._flat_weights = [module._parameters.get(name) for name in module._flat_weights_names]
    try:
        yield {name: stand_ins[key] for key, name in names.items()}
    finally:
        for module, name, parameter in held:
            module._parameters[name] = parameter
        for module, flat in recurrent:
            module._flat_weights = flat


def _stand_in(parameter: nn.Parameter, *, thin: bool) -> nn.Parameter:
    value = parameter.detach()
    if value.is_floating_point():  # a gain that starts at zero would hide what it multiplies
        value = torch.where(value == 0, 0.01, value)
    if thin:
        value = value * (torch.arange(value.numel(), device=value.device).view(value.shape) % _EVERY == 0)
    return nn.Parameter(value, requires_grad=False)


def _key(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())
