"""Which channels live and die together: numbered classes that are merged, and pinned when they cannot go."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

FREE = 0
"""The number of what is the same whatever channels there are: scalars, zeros of a padding."""
STUCK = 1
"""The number of what has a fixed place: the image, the classes, whatever an operation makes of all channels at once."""


class Classes:
    """A union-find over channel numbers. FREE belongs to nothing; a pinned class can never be removed.

    ``why`` is the cause of whatever is pinned from now on.
    """

    def __init__(self) -> None:
        self._count = 2
        self._parent, self._parents = _numbers(1024)  # one memory: number by number, and all at once
        self._pinned = {STUCK}
        self._members: dict[int, list[int]] = {}  # of classes of several, until they are pinned
        self._causes: dict[int, str] = {}
        self.why = ""

    def fresh(self, count: int) -> Tensor:
        """That many new channels, each a class of its own."""
        first, self._count = self._count, self._count + count
        if self._count > len(self._parents):
            known = self._parents
            self._parent, self._parents = _numbers(2 * self._count)
            self._parents[: len(known)] = known
        return torch.arange(first, self._count, dtype=torch.int32)

    def roots(self, numbers: Tensor) -> Tensor:
        """The number that stands for the class of each."""
        found = self._parents[numbers.long()]
        while not torch.equal(further := self._parents[found.long()], found):
            found = further
        return found

    def _roots_of(self, numbers: Iterable[int]) -> list[int]:
        parent, found = self._parent, []
        for number in numbers:
            while (above := parent[number]) != number:
                parent[number] = number = parent[above]
            found.append(number)
        return found

    def merge(self, together: Iterable[Sequence[int]]) -> None:
        """Make one class of all the numbers in each of these."""
        for numbers in together:
            roots = sorted({*self._roots_of([number for number in numbers if number != FREE])})
            fixed = [root for root in roots if root in self._pinned]
            if fixed:
                why = next((self._causes[root] for root in fixed if root in self._causes), self.why)
                for root in roots:
                    self._pin(root, why)
            for root in roots[1:]:  # the smallest stands for all
                self._parent[root] = roots[0]
                if not fixed:
                    self._members.setdefault(roots[0], [roots[0]]).extend(self._members.pop(root, [root]))

    def pin(self, numbers: Tensor) -> None:
        """Let these classes stay for good."""
        for root in self._roots_of(n for n in numbers.unique().tolist() if n != FREE):
            self._pin(root, self.why)

    def _pin(self, root: int, why: str) -> None:
        if root not in self._pinned:
            self._pinned.add(root)
            self._causes.update(dict.fromkeys(self._members.pop(root, [root]), why))

    def cause(self, number: int) -> str:
        """Why the class of this number was pinned, when it was."""
        return self._causes.get(number, "")

    def is_pinned(self, root: int) -> bool:
        return root == FREE or root in self._pinned

    def couple(self, a: Tensor, b: Tensor) -> Tensor:
        """What comes of combining two arrays of channels entry by entry, as adding does, with broadcasting.

        Entries that meet belong together. One value that is spread over many channels does not tie them to each other:
        it stays for good.
        """
        full_a, full_b = torch.broadcast_tensors(a, b)
        shape, narrow_a, narrow_b = full_a.shape, squeezed(full_a), squeezed(full_b)
        spread = [_is_spread(a, narrow_b), _is_spread(b, narrow_a)]
        narrow_a, narrow_b = torch.broadcast_tensors(narrow_a, narrow_b)
        roots_a, roots_b = self.roots(narrow_a), self.roots(narrow_b)
        both = (roots_a.flatten().long() << 32 | roots_b.flatten().long()).unique()
        pairs = torch.stack([both >> 32, both & 0xFFFFFFFF])
        pairs = pairs[:, (pairs != FREE).all(0)]
        gone = roots_a == FREE  # where the result is b's: a is nothing, or one value beside many of b
        for side in (0, 1):
            if spread[side]:
                values, partners = pairs[side].unique(return_counts=True)
                many = values[partners > 1]
                self.pin(many)
                pairs = pairs[:, ~torch.isin(pairs[side], many)]
                if side == 0:
                    gone = gone | (torch.isin(roots_a, many) & (roots_b != FREE))
        self.merge(pairs[:, pairs[0] != pairs[1]].T.tolist())
        return torch.where(gone, narrow_b, narrow_a).expand(shape)

    def blend(self, numbers: Tensor, dims: Iterable[int]) -> Tensor:
        """What comes of mixing along ``dims``, which become 1: the channel where it is one, else all of them stay."""
        dims = [dim % numbers.dim() for dim in dims] if numbers.dim() else []
        if not dims or numbers.numel() == 0:
            return numbers
        first = numbers.amax(dims, keepdim=True)
        if self._agree(numbers, first):
            return first
        self.pin(numbers)
        return torch.full_like(first, STUCK)

    def _agree(self, numbers: Tensor, first: Tensor) -> bool:
        if bool(((numbers == first) | (numbers == FREE)).all()):
            return True
        return bool(((self.roots(squeezed(numbers)) == self.roots(first)) | (squeezed(numbers) == FREE)).all())

    def varying(self, numbers: Tensor) -> list[int]:
        """The dimensions along which there is more than one channel."""
        classes = squeezed(self.roots(squeezed(numbers)))
        return [dim for dim, size in enumerate(classes.shape) if size > 1]


def _numbers(count: int) -> tuple[memoryview, Tensor]:
    """0, 1, 2, … in one memory, as Python's numbers and as a tensor."""
    memory = bytearray(4 * count)
    numbers = torch.frombuffer(memory, dtype=torch.int32)
    numbers.copy_(torch.arange(count))
    return memoryview(memory).cast("i"), numbers


def _is_spread(numbers: Tensor, beside: Tensor) -> bool:
    """Whether there is one entry beside several different ones."""
    sizes = (1,) * (beside.dim() - numbers.dim()) + tuple(numbers.shape)
    return any(size == 1 < other for size, other in zip(sizes, beside.shape, strict=True))


def squeezed(numbers: Tensor) -> Tensor:
    """The same numbers with every dimension of size 1 along which they do not vary."""
    for dim in range(numbers.dim()):
        if numbers.size(dim) > 1 and bool((numbers == (first := numbers.narrow(dim, 0, 1))).all()):
            numbers = first
    return numbers
