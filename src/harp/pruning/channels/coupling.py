"""Groups of channels that live and die together, where each tensor holds them, and what they cost."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from harp.pruning.channels.following.classes import squeezed
from harp.pruning.channels.following.tracing import Trace
from harp.pruning.channels.following.watching import macs, trace

Polynomial = dict[tuple[str, ...], int]
"""Group names → coefficient: Σ coefficient · Π channels kept of each group named."""


@dataclass(frozen=True, eq=False, repr=False)
class Axis:
    """Where one dimension of a tensor holds channels: ``place`` counts through all groups, and -1 never goes."""

    tensor: str
    dim: int
    place: Tensor

    def __repr__(self) -> str:
        return f"Axis({self.tensor!r}, dim={self.dim}, {len(self.place)} entries)"


@dataclass(frozen=True)
class Held:
    """So many channels of a module that have to stay, and why."""

    channels: int
    module: str
    cause: str

    def __str__(self) -> str:
        return f"{self.channels:,} channels of {self.module} ({self.cause})"


@dataclass(frozen=True, eq=False, repr=False)
class Coupling:
    """The channels of a network that can be removed. ``sizes`` counts those of each group, named after who writes it.

    ``stuck`` are those that cannot, most first, and ``only_trained`` the weights that inference does not use.
    """

    sizes: dict[str, int]
    axes: tuple[Axis, ...]
    readers: dict[str, int]
    writers: dict[str, int]
    whole: frozenset[str]
    positions: dict[str, int]
    shapes: dict[str, torch.Size]
    parameters: frozenset[str]
    macs: int
    stuck: tuple[Held, ...] = ()
    only_trained: frozenset[str] = frozenset()

    def why_held(self, most: int = 3) -> str:
        """What keeps channels, in words."""
        more = f" and {len(self.stuck) - most} more" if len(self.stuck) > most else ""
        return f"{'; '.join(map(str, self.stuck[:most]))}{more}" if self.stuck else "no layer writes channels"

    def __repr__(self) -> str:
        return f"Coupling({sum(self.sizes.values()):,} channels in {len(self.sizes)} groups, {len(self.axes)} axes)"

    @property
    def starts(self) -> dict[str, int]:
        """The place of each group's first channel."""
        ends = torch.tensor([0, *self.sizes.values()]).cumsum(0).tolist()
        return dict(zip(self.sizes, ends[:-1], strict=True))

    def of(self, tensor: str) -> list[Axis]:
        """The axes of one tensor."""
        return [axis for axis in self.axes if axis.tensor == tensor]

    def read(self) -> Iterator[Axis]:
        """The axes on which weights read channels: there the masks sit."""
        for axis in self.axes:
            if self.readers.get(axis.tensor) == axis.dim:
                yield axis

    def width(self, group: str) -> int:
        """How many output channels one entry of a group stands for: more than one only in grouped convolutions."""
        written = [axis for axis in self.axes if self.writers.get(axis.tensor) == axis.dim]
        return max((self._length(axis).get((group,), 1) for axis in written), default=1)

    def entries(self, tensor: str, counts: Mapping[str, int]) -> int:
        """How many entries of a tensor are left when so many channels of each group stay."""
        return sum(times * prod(counts[name] for name in names) for names, times in self._entries(tensor).items())

    def cost(self, measure: str) -> Polynomial:
        """Multiply-accumulates (``"macs"``) or parameters (``"parameters"``) as a polynomial in the channels kept."""
        counted = self.positions if measure == "macs" else dict.fromkeys(sorted(self.parameters), 1)
        found: Polynomial = {}
        for tensor, times in counted.items():
            for names, coefficient in self._entries(tensor).items():
                found[names] = found.get(names, 0) + times * coefficient
        if measure == "macs":  # products of activations, and layers left out
            found[()] = found.get((), 0) + self.macs - sum(self.shapes[t].numel() * n for t, n in counted.items())
        return {names: coefficient for names, coefficient in found.items() if coefficient}

    def _entries(self, tensor: str) -> Polynomial:
        """How many entries a tensor has, as a polynomial in the channels kept."""
        axes = self.of(tensor)
        sizes = [size for dim, size in enumerate(self.shapes[tensor]) if dim not in {axis.dim for axis in axes}]
        found: Polynomial = {(): prod(sizes)}
        for axis in axes:
            factor = self._length(axis)
            product: Polynomial = {}
            for names, coefficient in found.items():
                for more, times in factor.items():
                    both = tuple(sorted((*names, *more)))
                    product[both] = product.get(both, 0) + coefficient * times
            found = product
        return found

    def _length(self, axis: Axis) -> Polynomial:
        counts = self.held(axis)
        found: Polynomial = {(name,): count // self.sizes[name] for name, count in counts.items()}
        fixed = len(axis.place) - sum(counts.values())
        return found | ({(): fixed} if fixed else {})

    def held(self, axis: Axis) -> dict[str, int]:
        """How many entries of an axis belong to each group that it holds."""
        counts = torch.bincount(axis.place[axis.place >= 0], minlength=sum(self.sizes.values()))
        sums = (int(part.sum()) for part in counts.split(list(self.sizes.values())))
        return {name: held for name, held in zip(self.sizes, sums, strict=True) if held}


def couple_channels(model: nn.Module, example: Tensor, exclude: Sequence[str] = ()) -> Coupling:
    """Follow one image through the model and find which channels go together.

    Channels that meet in a sum, share an entry of a norm or pass a depth-wise convolution are one. A group has one
    pattern of coupling throughout: every one of its channels takes the same number of entries in the same tensors.
    """
    watch = trace(model, example, exclude)
    axes = _axes_of(watch)
    roots = {key: watch.classes.roots(numbers) for key, numbers in axes.items()}
    patterns = _patterns(watch, roots)
    names = _names_of(watch, patterns, roots)
    sizes = Counter(names[root] for root in patterns)
    order = {name: number for number, name in enumerate(sizes)}
    place = {root: n for n, root in enumerate(sorted(patterns, key=lambda root: order[names[root]]))}
    found = []
    for (tensor, dim), numbers in roots.items():
        where = torch.tensor([place.get(root, -1) for root in numbers.tolist()])
        if bool((where >= 0).any()):
            found.append(Axis(tensor, dim, where))
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    return Coupling(
        sizes=dict(sizes),
        axes=tuple(found),
        readers=dict(watch.readers),
        writers=dict(watch.writers),
        whole=frozenset(watch.whole),
        positions=dict(watch.positions),
        shapes={name: tensor.shape for name, tensor in tensors.items()},
        parameters=frozenset(name for name, _ in model.named_parameters()),
        macs=macs(model, example),
        stuck=_stuck(watch, place, roots),
        only_trained=watch.only_trained,
    )


def _stuck(watch: Trace, place: Mapping[int, int], roots: Mapping[tuple[str, int], Tensor]) -> tuple[Held, ...]:
    """The channels that are written and belong to no group."""
    found = Counter({(name, cause): count for name, (count, cause) in watch.unfollowed.items()})
    read = {root for name, dim in watch.readers.items() for root in roots[name, dim].unique().tolist()}
    for name, dim in watch.writers.items():
        for number, root in zip(watch.axes[name, dim].flatten().tolist(), roots[name, dim].tolist(), strict=True):
            if root not in place:
                other = "each is coupled in its own way" if root in read else "no weight reads them"
                found[name, watch.classes.cause(number) or other] += 1
    held = (Held(n, name.rpartition(".")[0] or "the model itself", cause) for (name, cause), n in found.items())
    return tuple(sorted(held, key=lambda each: -each.channels))


def _axes_of(watch: Trace) -> dict[tuple[str, int], Tensor]:
    """The axes of weights, and those of other parameters and buffers whose entries vary along one dimension."""
    axes = {key: numbers.flatten() for key, numbers in watch.axes.items()}
    for name, numbers in watch.vectors.items():
        classes = squeezed(watch.classes.roots(numbers))
        along = [dim for dim, size in enumerate(classes.shape) if size > 1]
        if len(along) == 1:
            axes[name, along[0]] = classes.flatten()
        else:
            watch.classes.pin(numbers)
    return axes


def _patterns(watch: Trace, roots: Mapping[tuple[str, int], Tensor]) -> dict[int, tuple[object, ...]]:
    """Every removable class, in the order in which they are written, and how often each axis holds it."""
    read = {root for name, dim in watch.readers.items() for root in roots[name, dim].unique().tolist()}
    holds: dict[int, list[object]] = {}
    for key, numbers in roots.items():
        for root, times in Counter(numbers.tolist()).items():
            holds.setdefault(root, []).append((key, times))
    found = {r: tuple(where) for r, where in holds.items() if r in read and not watch.classes.is_pinned(r)}
    alone = {pattern for pattern, times in Counter(found.values()).items() if times == 1}
    return {root: pattern for root, pattern in found.items() if pattern not in alone}


def _names_of(
    watch: Trace, patterns: Mapping[int, tuple[object, ...]], roots: Mapping[tuple[str, int], Tensor]
) -> dict[int, str]:
    """A name for the group of each class: the module that writes it first, and a number where it writes several."""
    writer: dict[int, str] = {}
    for name, dim in watch.writers.items():
        for root in roots[name, dim].unique().tolist():
            writer.setdefault(root, name.rpartition(".")[0] or name)
    taken: Counter[str] = Counter()
    groups: dict[tuple[object, ...], str] = {}
    for root, pattern in patterns.items():
        if pattern not in groups:
            base = writer.get(root, "channels")
            taken[base] += 1
            groups[pattern] = base if taken[base] == 1 else f"{base}#{taken[base]}"
    return {root: groups[pattern] for root, pattern in patterns.items()}
