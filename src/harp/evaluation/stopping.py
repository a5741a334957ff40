"""A request to stop is heard before every forward pass of the model, in the middle of any attack."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks import dtype_of


class Stopped(KeyboardInterrupt):
    """A request to stop was heard between two passes of the model."""


@contextmanager
def asked_before_each_pass(model: nn.Module, should_stop: Callable[[], bool]) -> Iterator[None]:
    """Raise `Stopped` in place of the next forward pass once ``should_stop()``; whatever attack makes it.

    Images of another type than the model computes in are turned into it, for attacks of the user's too.
    """
    dtype = dtype_of(model)

    def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if should_stop():
            raise Stopped("stopped in an evaluation")
        return tuple(_as(dtype, argument) for argument in arguments)

    # The method of nn.Module: a scripted module calls such hooks, though its own method refuses to take one.
    handle = nn.Module.register_forward_pre_hook(model, torch.compiler.disable(before))  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def _as(dtype: torch.dtype | None, argument: Any) -> Any:
    floats = isinstance(argument, Tensor) and argument.is_floating_point()
    return argument.to(dtype) if floats and dtype is not None else argument
