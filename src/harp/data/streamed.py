"""Images that stay in their files: worker processes decode them, batch by batch."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harp.data.images import Shape, as_float, as_int64, check_labels, chunks
from harp.data.listing import names_below

_MOST_WORKERS = 8


Reader = Callable[[str, int, int | None], Tensor]
"""(path, index, augment_seed) -> uint8 (3, h, w), always of the same shape.

`augment_seed` None reads the image plainly; otherwise its augmentation depends on (augment_seed, index) alone.
"""


@dataclass(frozen=True, eq=False)
class Streamed:
    """Images read from `paths` by worker processes; see `harp.data.source.Source` for `workers`.

    With a `root` they have names: their paths below it.
    """

    paths: tuple[str, ...]
    labels: Tensor
    shape: Shape
    reader: Reader
    workers: int | None = None
    root: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", as_int64(self.labels))
        check_labels(self.labels, len(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def names(self) -> tuple[str, ...] | None:
        """See `InMemory`."""
        return None if self.root is None else names_below(self.root, self.paths)

    def subset(self, indices: Tensor) -> "Streamed":
        return replace(self, paths=tuple(self.paths[i] for i in indices.tolist()), labels=self.labels[indices])

    def batches(
        self, order: Tensor, batch_size: int, *, augment_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`. A file that is no image raises ValueError naming its path."""
        batches = chunks(order, batch_size, len(self))
        loader = DataLoader(
            _Decoder(self.reader, augment_seed),
            sampler=([(self.paths[i], i) for i in batch.tolist()] for batch in batches),
            batch_size=None,
            num_workers=_workers(self.workers, len(batches)),
            # A loader draws a seed for its workers when it starts: from here, or the global stream would move on.
            generator=torch.Generator(),
        )
        for batch, images in zip(batches, loader, strict=True):
            if isinstance(images, Exception):
                raise images
            yield _ready(images), self.labels[batch]


class _Decoder(Dataset[Tensor | Exception]):
    """What a worker holds: no list of files, only how to read one. The paths come with every request."""

    def __init__(self, reader: Reader, augment_seed: int | None) -> None:
        self.reader = reader
        self.augment_seed = augment_seed

    def __getitem__(self, batch: list[tuple[str, int]]) -> Tensor | Exception:
        try:
            return torch.stack([self.reader(path, index, self.augment_seed) for path, index in batch])
        except ValueError as error:
            return error  # raised by the parent: across processes, a raised error arrives as a traceback's text


def _ready(images: Tensor) -> Tensor:
    """The batch in [0, 1]; where a GPU will copy it, in memory that the copy need not wait for."""
    if not torch.cuda.is_available():
        return as_float(images)
    return torch.empty(images.shape, pin_memory=True).copy_(images).div_(255)


def _workers(workers: int | None, batches: int) -> int:
    if workers is not None:
        return workers
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(cores, batches, _MOST_WORKERS)
