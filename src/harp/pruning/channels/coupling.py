"""Groups of channels that live and die together, where each tensor holds them, and what they cost."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

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
    ``products`` are those of two values, by the place of each part and what all of them cost; ``written`` are channels
    that a module reshapes, whose number it may remember.
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
    products: tuple[tuple[Tensor, int], ...] = ()
    written: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    only_trained: frozenset[str] = frozenset()

    def why_held(self, most: int = 3) -> str:
        """What keeps channels, in words."""
        more = f" and {len(self.stuck) - most} more" if len(self.stuck) > most else ""
        return f"{'; '.join(map(str, self.stuck[:most]))}{more}" if self.stuck else "no layer writes channels"

    def without(self, causes: Mapping[str, str]) -> "Coupling":
        """The same where these groups stay, each for its cause."""
        sizes = {name: size for name, size in self.sizes.items() if name not in causes}
        moved = torch.full((sum(self.sizes.values()) + 1,), -1)  # place -1 is the last
        moved[:-1][torch.cat([torch.full((n,), name in sizes) for name, n in self.sizes.items()])] = torch.arange(
            sum(sizes.values())
        )
        axes = [replace(axis, place=moved[axis.place]) for axis in self.axes]
        held = [
            Held(count, axis.tensor.rpartition(".")[0] or "the model itself", causes[name])
            for axis in self.axes
            if self.writers.get(axis.tensor) == axis.dim
            for name, count in self.held(axis).items()
            if name in causes
        ]
        return replace(
            self,
            sizes=sizes,
            axes=tuple(axis for axis in axes if bool((axis.place >= 0).any())),
            stuck=tuple(sorted([*self.stuck, *held], key=lambda each: -each.channels)),
            products=tuple((moved[place], cost) for place, cost in self.products),
            written={name: tuple(moved[place] for place in places) for name, places in self.written.items()},
        )

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
        return max((self._length(axis.place).get((group,), 1) for axis in written), default=1)

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
        if measure == "macs":
            for place, each in self._products():
                for names, times in self._length(place).items():
                    found[names] = found.get(names, 0) + each * times
            followed = sum(len(place) * each for place, each in self._products())
            followed += sum(self.shapes[t].numel() * n for t, n in counted.items())
            found[()] = found.get((), 0) + self.macs - followed  # layers left out
        return {names: coefficient for names, coefficient in found.items() if coefficient}

    def _entries(self, tensor: str) -> Polynomial:
        """How many entries a tensor has, as a polynomial in the channels kept."""
        axes = self.of(tensor)
        sizes = [size for dim, size in enumerate(self.shapes[tensor]) if dim not in {axis.dim for axis in axes}]
        found: Polynomial = {(): prod(sizes)}
        for axis in axes:
            factor = self._length(axis.place)
            product: Polynomial = {}
            for names, coefficient in found.items():
                for more, times in factor.items():
                    both = tuple(sorted((*names, *more)))
                    product[both] = product.get(both, 0) + coefficient * times
            found = product
        return found

    def _products(self) -> Iterator[tuple[Tensor, int]]:
        """Products whose cost is an even sum over channels of which each group has as many."""
        for place, cost in self.products:
            counts = self._held(place)
            if cost % len(place) == 0 and all(count % self.sizes[name] == 0 for name, count in counts.items()):
                yield place, cost // len(place)

    def _length(self, place: Tensor) -> Polynomial:
        counts = self._held(place)
        found: Polynomial = {(name,): count // self.sizes[name] for name, count in counts.items()}
        fixed = len(place) - sum(counts.values())
        return found | ({(): fixed} if fixed else {})

    def held(self, axis: Axis) -> dict[str, int]:
        """How many entries of an axis belong to each group that it holds."""
        return self._held(axis.place)

    def _held(self, place: Tensor) -> dict[str, int]:
        counts = torch.bincount(place[place >= 0], minlength=sum(self.sizes.values()))
        sums = (int(part.sum()) for part in counts.split(list(self.sizes.values())))
        return {name: held for name, held in zip(self.sizes, sums, strict=True) if held}
