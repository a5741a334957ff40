"""One forward pass from its first image to its last operation, under watch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .classes import STUCK
from .operations import follow
from .tracing import Trace


class _Calls(TorchFunctionMode):
    """Notes what the program calls: once a chunk has become a split, nobody knows that its size was not written down."""

    def __init__(self, watch: Trace):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch.calling = getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


def trace(model: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> Trace:
    """Watch the model, in eval mode, on the first image of ``example``.

    Raises ValueError naming an operation that is not understood and the module it happens in.
    """
    watch = Trace(model, exclude, follow)
    image = example[:1]
    watch.put(image, torch.full(image.shape, STUCK, dtype=torch.int32))
    with evaluating(model), torch.no_grad(), _named_modules(model, watch.inside), watch, _Calls(watch):
        try:
            out = model(image)
        except (RuntimeError, TypeError, IndexError) as error:
            said = str(error).partition("\n")[0]
            raise ValueError(
                f"example={tuple(example.shape)}: the model cannot run on its first image: {said}"
            ) from error
    for leaf in tree_leaves(out):
        if isinstance(leaf, Tensor):
            watch.classes.pin(watch.numbers(leaf))
    return watch


def macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions, linear layers and matrix products for the first image of ``example``."""
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), _every_product_seen(), counter:
        model(example[:1])
    return counter.get_total_flops() // 2


@contextmanager
def _every_product_seen() -> Iterator[None]:
    """Attention and transformer layers take their steps one by one: the counter does not know the fused ones."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


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
def _named_modules(model: nn.Module, inside: list[str]) -> Iterator[None]:
    """Keep ``inside`` the names of the modules whose forward is running, outermost first."""

    def enter(name: str) -> Callable[..., None]:
        return lambda module, args: inside.append(name)

    def leave(module: nn.Module, args: Any, out: Any) -> None:
        inside.pop()

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        yield
