"""One forward pass, watched operation by operation: which channels each weight writes and reads.

Beside every tensor lies an array of the same shape that says to which channel each entry belongs. Operations that move
entries move the numbers, operations that combine entries merge their classes, and what mixes channels pins them. Views
and writes into views need nothing of their own: the numbers are kept by storage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harp.pruning.channels.following.classes import FREE, STUCK, Classes, squeezed
from harp.pruning.prunable import FOLLOWED_TYPES, prunable_weights


@dataclass
class Call:
    """A module at work, and what went into it; ``branched`` when it read a number off the images."""

    name: str
    given: Any
    branched: bool = False


class Trace(TorchDispatchMode):
    """What forward passes say about channels: ``axes`` numbers the entries of each tensor along each dimension.

    ``vectors`` numbers the entries of other parameters, ``written`` the channels that a grouped convolution writes.
    ``inside`` are the modules at work, ``calling`` is the function that a program called. ``readers`` are the dimensions
    on which a weight reads, ``writers`` those on which it writes, ``positions`` how often it is applied to one image
    (zero when only training uses it), and ``whole`` the grouped convolutions that lose whole groups. ``unfollowed`` are
    weights that are not used as a layer's, how many channels they write and the cause; ``only_trained`` those that eval mode does not use.
    """

    def __init__(
        self,
        model: nn.Module,
        exclude: Sequence[str],
        follow: Callable[..., None],
        whole_dims: Mapping[int, int] = MappingProxyType({}),
    ):
        super().__init__()
        self.known_whole_dims, self.whole_dims = whole_dims, dict(whole_dims)
        self.sizes: list[tuple[str, Tensor]] = []
        self.products: list[tuple[Tensor, int]] = []
        self.follow = follow
        self.classes = Classes()
        self.axes: dict[tuple[str, int], Tensor] = {}
        self.vectors: dict[str, Tensor] = {}
        self.written: dict[str, Tensor] = {}
        self.readers: dict[str, int] = {}
        self.writers: dict[str, int] = {}
        self.positions: dict[str, int] = {}
        self.whole: set[str] = set()
        self.unfollowed: dict[str, tuple[int, str]] = {}
        self.exclude = tuple(exclude)
        self.inside: list[Call] = []
        self.calling = ""
        self.training = False
        self.only_trained = frozenset[str]()
        self._splits: list[Tensor | None] = []
        self._weights = prunable_weights(model, types=FOLLOWED_TYPES)
        self._tensors = _by_storage(model)
        self._numbers: dict[int, Tensor] = {}
        self._alive: list[torch.UntypedStorage] = []
        self._of_image: set[StorageWeakRef] = set()
        self._made_by: dict[StorageWeakRef, str] = {}  # what was last done to parameters

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if self.comes_from_image((args, kwargs)):
            self.mark_image(out)
        elif not func.is_view and isinstance(first := next(iter(tree_leaves(out)), None), Tensor):
            self._made_by[StorageWeakRef(first.untyped_storage())] = plain(func.overloadpacket.__name__)
        self.follow(self, func, args, kwargs, out)
        return out

    def mark_image(self, tensors: Any) -> None:
        """Remember that these depend on the images."""
        self._of_image.update(
            StorageWeakRef(t.untyped_storage()) for t in tree_leaves(tensors) if isinstance(t, Tensor)
        )

    def comes_from_image(self, tensors: Any) -> bool:
        """Whether any of these depends on the images, and not on parameters alone."""
        found = (t for t in tree_leaves(tensors) if isinstance(t, Tensor))
        return any(StorageWeakRef(tensor.untyped_storage()) in self._of_image for tensor in found)

    def apply(self, name: str, positions: int) -> None:
        """Note on how many positions a weight is applied to an image."""
        self.positions[name] = self.positions.get(name, 0) + (0 if self.training else positions)

    def multiply(self, numbers: Tensor, macs: int) -> None:
        """Note what a product of two values costs, spread evenly over its channels."""
        if not self.training and macs:
            self.products.append((squeezed(numbers).flatten(), macs))

    def split(self, numbers: Tensor | None) -> int | None:
        """Note a reshape, and its result where a dimension became several; which of them is heads or channels, as a
        former trace has found."""
        self._splits.append(numbers)
        return self.known_whole_dims.get(len(self._splits) - 1)

    def find_heads(self, numbers: Tensor) -> None:
        """Of what a product multiplies batch by batch: find the split that made the batches."""
        if numbers.numel():
            self._find_split(squeezed(numbers.flatten(0, -3))[:, 0, 0])

    def find_channels(self, numbers: Tensor) -> None:
        """Of the maps that a convolution reads: find the split that made their channels, places apart."""
        if numbers.numel() and max(squeezed(numbers).shape[2:], default=1) > 1:
            self._find_split(numbers.flatten(2)[0, :, 0])

    def _find_split(self, one_each: Tensor) -> None:
        one_each = one_each.unique()
        first, second = (*one_each[one_each > STUCK].tolist(), 0, 0)[:2]
        for index, split in reversed([*enumerate(self._splits)]):
            if split is None or not second:
                continue
            places = [(split == number).nonzero() for number in (first, second)]
            if all(len(place) for place in places):
                differ = (places[0][0] != places[1][0]).nonzero().flatten().tolist()
                if len(differ) == 1:
                    self.whole_dims.setdefault(index, differ[0])
                return

    def size(self, *found: Tensor) -> None:
        """Note channels that a module cuts or reshapes: it may remember how many they are."""
        known = {(name, tuple(numbers.shape), int(numbers.flatten()[0])) for name, numbers in self.sizes[-8:]}
        for numbers in map(squeezed, found):
            if numbers.numel() > 1 and (self.module, tuple(numbers.shape), int(numbers.flatten()[0])) not in known:
                self.sizes.append((self.module, numbers.clone()))

    def stays(self, numbers: Tensor) -> bool:
        """Whether none of these channels can go."""
        return all(map(self.classes.is_pinned, self.classes.roots(numbers).unique().tolist()))

    @property
    def module(self) -> str:
        """The name of the module at work; empty in the model itself."""
        return next((call.name for call in reversed(self.inside) if call.name), "")

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
        if _key(operand) not in self._tensors:
            return None
        names, stored = self._tensors[_key(operand)]
        looks = stored.t() if transposed and stored.dim() == 2 else stored
        same = (looks.shape, looks.stride(), looks.storage_offset()) == (
            operand.shape, operand.stride(), operand.storage_offset(),
        )  # fmt: skip
        if len(names) != 1 or names[0] not in self._weights or not same or self.left_out(names[0]):
            return None
        return names[0]

    def left_out(self, name: str) -> bool:
        """Whether a pattern names this weight, or a module that it is in."""
        parts = name.split(".")
        names = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        return any(fnmatchcase(each, pattern) for each in names for pattern in self.exclude)

    def give_up(self, operand: Tensor, channels: int) -> None:
        """Note why an operand cannot be followed as a layer's weight."""
        names = self._tensors[_key(operand)][0] if _key(operand) in self._tensors else ()
        if len(names) > 1:
            why = f"{' and '.join(names)} share one weight"
        elif names and self.left_out(names[0]):
            why = "it is left out"
        else:
            maker = self._made_by.get(StorageWeakRef(operand.untyped_storage()))
            why = f"its weight is remade{f' by {maker}' if maker else ''} before it is used"
        self.classes.why = f"{self.module or 'the model itself'} reads them: {why}"
        for name in names or [f"{self.module}.weight"]:
            self.unfollowed[name] = channels, why

    @property
    def excluded_calls(self) -> list["Call"]:
        """The modules at work that are left out."""
        return [call for call in self.inside if call.name and self.left_out(f"{call.name}.weight")]

    def _keep(self, tensor: Tensor, numbers: Tensor) -> None:
        # The storage stays alive, or another one could come to lie where it was.
        self._alive.append(tensor.untyped_storage())
        self._numbers[_key(tensor)] = numbers

    def _first_numbers(self, tensor: Tensor) -> Tensor:
        """Of a tensor that no operation made: a parameter's entries are channels, a constant is free or stuck."""
        length = _length(tensor)
        if _key(tensor) not in self._tensors:
            same = tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())
            return torch.full((length,), FREE if same else STUCK, dtype=torch.int32)
        names, stored = self._tensors[_key(tensor)]
        if any(name in self._weights for name in names) or len(names) > 1 or length != stored.numel():
            # Not used as a layer's weight: it must stay as it is.
            for name in names:
                self._pin_axes_of(name)
            return torch.full((length,), STUCK, dtype=torch.int32)
        numbers = self.classes.fresh(length)
        self.vectors[next(iter(names))] = numbers.as_strided(stored.size(), stored.stride(), stored.storage_offset())
        return numbers

    def _pin_axes_of(self, name: str) -> None:
        self.exclude += (name,)
        for (tensor_name, _), numbers in self.axes.items():
            if tensor_name == name:
                self.classes.pin(numbers)


def _by_storage(model: nn.Module) -> dict[int, tuple[tuple[str, ...], Tensor]]:
    """Parameters and buffers by where they lie, with all their names."""
    found: dict[int, tuple[tuple[str, ...], Tensor]] = {}
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    modules = {id(m): name for name, m in reversed(list(model.named_modules(remove_duplicate=False)))}
    for name, tensor in tensors:
        prefix, _, last = name.rpartition(".")
        first = modules[id(model.get_submodule(prefix))]  # a module with two names counts once
        name = f"{first}.{last}" if first else last
        if _key(tensor) not in found:
            found[_key(tensor)] = ((name,), tensor)
        elif name not in found[_key(tensor)][0]:
            found[_key(tensor)] = ((*found[_key(tensor)][0], name), tensor)
    return found


def plain(name: str) -> str:
    """The name of an operation as people know it."""
    return name.strip("_").removeprefix("native_").partition("_legit")[0]


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _length(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()
