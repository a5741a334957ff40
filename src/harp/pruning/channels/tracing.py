"""One forward pass, watched operation by operation: which channels each weight writes and reads.

Beside every tensor lies an array of the same shape that says to which channel each entry belongs. Operations that move
entries move the numbers, operations that combine entries merge their classes, and what mixes channels pins them. Views
and writes into views need nothing of their own: the numbers are kept by storage.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..budget import prunable_weights
from .classes import FREE, STUCK, Classes


class _Calls(TorchFunctionMode):
    """Notes what the program calls: once a chunk has become a split, nobody knows that its size was not written down."""

    def __init__(self, watch: "Trace"):
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch.calling = getattr(func, "__name__", "")
        return func(*args, **(kwargs or {}))


class Trace(TorchDispatchMode):
    """What a forward pass says about channels: ``axes`` numbers the entries of each tensor along each dimension.

    ``vectors`` numbers the entries of other parameters, ``written`` the channels that a grouped convolution writes.
    ``inside`` names the modules at work, ``calling`` the function that a program called. ``readers`` are the dimensions on which a weight reads, ``writers`` those on which it writes, ``positions`` how often
    it is applied to one image, and ``whole`` the grouped convolutions that lose whole groups.
    """

    def __init__(self, model: nn.Module, exclude: Sequence[str]):
        super().__init__()
        self.classes = Classes()
        self.axes: dict[tuple[str, int], Tensor] = {}
        self.vectors: dict[str, Tensor] = {}
        self.written: dict[str, Tensor] = {}
        self.readers: dict[str, int] = {}
        self.writers: dict[str, int] = {}
        self.positions: dict[str, int] = {}
        self.whole: set[str] = set()
        self.exclude = tuple(exclude)
        self.inside: list[str] = []
        self.calling = ""
        self._weights = prunable_weights(model)
        self._tensors = _by_storage(model)
        self._numbers: dict[int, Tensor] = {}
        self._alive: list[torch.UntypedStorage] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from .operations import follow

        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        follow(self, func, args, kwargs, out)
        return out

    def numbers(self, tensor: Tensor) -> Tensor:
        """The channel of each entry of a tensor, itself a view that can be written."""
        key = _key(tensor)
        if key not in self._numbers:
            self._keep(tensor, self._first_numbers(tensor))
        return self._numbers[key].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    def put(self, tensor: Tensor, numbers: Tensor) -> None:
        """Say to which channel each entry of a tensor belongs from now on."""
        if _key(tensor) not in self._numbers:
            self._keep(tensor, torch.zeros(_length(tensor), dtype=torch.int32))
        self.numbers(tensor).copy_(numbers.expand(tensor.shape))

    def weight_in(self, operand: Tensor, *, transposed: bool = False) -> str | None:
        """The name of the prunable weight that an operand is, or whose transpose; None when it is none or left out."""
        names, stored = self._tensors.get(_key(operand), ((), operand))
        looks = stored.t() if transposed and stored.dim() == 2 else stored
        same = (looks.shape, looks.stride(), looks.storage_offset()) == (
            operand.shape, operand.stride(), operand.storage_offset(),
        )  # fmt: skip
        if len(names) != 1 or names[0] not in self._weights or not same or self.left_out(names[0]):
            return None
        return names[0]

    def left_out(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.exclude)

    @property
    def in_excluded_part(self) -> bool:
        return any(self.left_out(name) or self.left_out(f"{name}.weight") for name in self.inside if name)

    def _keep(self, tensor: Tensor, numbers: Tensor) -> None:
        # The storage stays alive, or another one could come to lie where it was.
        self._alive.append(tensor.untyped_storage())
        self._numbers[_key(tensor)] = numbers

    def _first_numbers(self, tensor: Tensor) -> Tensor:
        """Of a tensor that no operation made: a parameter's entries are channels, a constant is free or stuck."""
        names, stored = self._tensors.get(_key(tensor), ((), tensor))
        length = _length(tensor)
        if not names:
            same = tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())
            return torch.full((length,), FREE if same else STUCK, dtype=torch.int32)
        if any(name in self._weights for name in names) or len(names) > 1 or length != stored.numel():
            # Not used as a layer's weight: it must stay as it is.
            for name in names:
                self._pin_axes_of(name)
            return torch.full((length,), STUCK, dtype=torch.int32)
        numbers = self.classes.fresh(length)
        self.vectors[names[0]] = numbers.as_strided(stored.size(), stored.stride(), stored.storage_offset())
        return numbers

    def _pin_axes_of(self, name: str) -> None:
        self.exclude += (name,)
        for (tensor_name, _), numbers in self.axes.items():
            if tensor_name == name:
                self.classes.pin(numbers)


def trace(model: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> tuple[Trace, int]:
    """Watch the model, in eval mode, on the first image of ``example``; the trace and all its multiply-accumulates.

    Raises ValueError naming an operation that is not understood and the module it happens in.
    """
    watch = Trace(model, exclude)
    image = example[:1]
    counter = FlopCounterMode(display=False)
    watch.put(image, torch.full(image.shape, STUCK, dtype=torch.int32))
    with evaluating(model), torch.no_grad(), _named_modules(model, watch.inside), counter, watch, _Calls(watch):
        out = model(image)
    for leaf in tree_leaves(out):
        if isinstance(leaf, Tensor):
            watch.classes.pin(watch.numbers(leaf))
    return watch, counter.get_total_flops() // 2


def macs(model: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions, linear layers and matrix products for the first image of ``example``."""
    counter = FlopCounterMode(display=False)
    with evaluating(model), torch.no_grad(), counter:
        model(example[:1])
    return counter.get_total_flops() // 2


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


def _by_storage(model: nn.Module) -> dict[int, tuple[tuple[str, ...], Tensor]]:
    """Parameters and buffers by where they lie, with all their names."""
    found: dict[int, tuple[tuple[str, ...], Tensor]] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    modules = {id(m): name for name, m in reversed(list(model.named_modules(remove_duplicate=False)))}
    for name, tensor in tensors:
        prefix, _, last = name.rpartition(".")
        first = modules[id(model.get_submodule(prefix))]  # a module with two names counts once
        name = f"{first}.{last}" if first else last
        names, _ = found.get(_key(tensor), ((), tensor))
        if name not in names:
            found[_key(tensor)] = ((*names, name), tensor)
    return found


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _length(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()
