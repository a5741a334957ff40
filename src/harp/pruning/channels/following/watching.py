"""One forward pass from its first image to its last operation, under watch."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harp.pruning.channels.following.classes import STUCK
from harp.pruning.channels.following.combining import floats_in
from harp.pruning.channels.following.operations import follow, read_off
from harp.pruning.channels.following.tracing import Call, Trace
from harp.pruning.prunable import FOLLOWED_TYPES, prunable_weights
from harp.pruning.using import as_example, images_for, patterns, run, untouched, uses

log = logging.getLogger(__name__)


class _Calls(TorchFunctionMode):
    """Notes what the program calls: once a chunk has become a split, nobody knows that its size was not written down."""

    def __init__(self, watch: Trace):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch.calling = getattr(func, "__name__", "")
        if self.watch.calling in ("numpy", "tolist", "__array__") and self.watch.comes_from_image(args):
            read_off(self.watch)
        return func(*args, **(kwargs or {}))


def trace(model: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> Trace:
    """Watch the model, in eval mode, on the first image of ``example``; also in training mode, where that uses more.

    Raises ValueError naming an operation that is not understood, or a number that is read off the image, and the module
    where that happens.
    """
    example = as_example(model, example)
    only_trained, branches = _only_trained(model, example)
    watch = Trace(model, exclude, follow)
    while True:  # products tell which splits made heads, and then these are followed as such
        _pass(watch, model, example)
        if only_trained or branches:
            watch.training, watch.only_trained = True, only_trained
            _pass(watch, model, example)
        if watch.whole_dims == watch.known_whole_dims:
            return watch
        watch = Trace(model, exclude, follow, watch.whole_dims)


def _pass(watch: Trace, model: nn.Module, example: Tensor) -> None:
    image = images_for(example, training=watch.training)
    watch.put(image, torch.full(image.shape, STUCK, dtype=torch.int32))
    watch.mark_image(image)
    with (
        untouched(model, training=watch.training, device=image.device),
        torch.no_grad(),
        _named_modules(model, watch),
        watch,
        _Calls(watch),
    ):
        out = run(model, image, example, training=watch.training)
    watch.classes.why = "what the model answers"
    for leaf in tree_leaves(out):
        if isinstance(leaf, Tensor):
            watch.classes.pin(watch.numbers(leaf))


def _only_trained(model: nn.Module, example: Tensor) -> tuple[frozenset[str], bool]:
    """The weights that the model uses in training and not in eval mode, and whether training may go several ways.

    Logs a warning of those that neither uses.
    """
    weights = prunable_weights(model, types=FOLLOWED_TYPES)
    first = {id(weight): name for name, weight in reversed(weights.items())}
    weights = {name: weight for name, weight in weights.items() if first[id(weight)] == name}
    used = uses(model, example, weights).used
    try:
        trained = uses(model, example, weights, training=True)
    except ValueError as error:
        log.warning("what only training uses cannot be followed, and will not fit a smaller network: %s", error)
        return frozenset(), False
    if unseen := [name for name in weights if name not in used | trained.used]:
        log.warning(
            "no pass reaches %s, neither in eval nor in training mode: if something else calls it, it will not fit a smaller "
            "network",
            patterns(unseen, weights),
        )
    return frozenset(trained.used - used), trained.branches


def macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions, linear layers and matrix products for the first image of ``example``."""
    example, counter = as_example(model, example), FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), every_product_seen(), _resting(model), counter:
        model(example[:1])
    return counter.get_total_flops() // 2


@contextmanager
def every_product_seen() -> Iterator[None]:
    """Attention, transformer layers and recurrent ones take their steps one by one: the counter does not know the fused
    ones, nor oneDNN's."""
    fused, onednn = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch._C._set_mkldnn_enabled(onednn)


@contextmanager
def _resting(model: nn.Module) -> Iterator[None]:
    """No parameter asks for gradients: the counter cannot look at one that a module hands to another (a class token)."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the ``with``; afterwards each module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def _named_modules(model: nn.Module, watch: Trace) -> Iterator[None]:
    """Keep the trace informed of the modules whose forward is running, outermost first."""

    def enter(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs: watch.inside.append(Call(name, (args, kwargs)))

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        call = watch.inside.pop()
        if call.branched:
            watch.classes.why = f"a choice by the image in {call.name}"
            for tensor in floats_in(out):
                watch.classes.pin(watch.numbers(tensor))

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name), prepend=True, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield
