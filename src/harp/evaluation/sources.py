"""Labelled images as people have them, tensors, data sets and loaders, as the images that an evaluation takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from harp.data import Images, InMemory
from harp.data.images import Shape, chunks
from harp.evaluation.order import evaluation_order

Data = Images | Dataset[Any] | DataLoader[Any] | Sequence[Any]
"""Our images, or what has them: a tuple (images, labels), a data set of such pairs, a loader of batches of them."""


def as_images(data: Data, images: int | None) -> Images:
    """The first ``images`` of `evaluation_order`, readable; the others may stay where they are.

    A data set is read once, into memory; a loader gives its data set and how items become batches, and neither its
    batch size, nor its order, nor ``drop_last`` changes a result. A loader with a sampler of its own, or of a stream, is
    read from beginning to end. Raises TypeError or ValueError for what does not hold pairs of images and labels.
    """
    if isinstance(data, Images):
        return data
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return _in_memory(*data)
    if isinstance(data, DataLoader):
        if isinstance(data.dataset, IterableDataset) or not isinstance(data.sampler, SequentialSampler | RandomSampler):
            return _joined(data)
        return _of_dataset(data.dataset, images, data.collate_fn, data.num_workers)
    if isinstance(data, IterableDataset):
        return _joined(DataLoader(data, batch_size=_BATCH))
    if isinstance(data, Dataset):
        return _of_dataset(data, images, None, 0)
    raise TypeError(
        f"data is a {type(data).__name__}: expected Images, a tuple (images, labels) of tensors, a Dataset or a DataLoader"
    )


_BATCH = 250


@dataclass(frozen=True, eq=False)
class _Some:
    """Images of a data set that were read, under the numbers that they have in the whole."""

    read: InMemory
    row: Tensor
    """By the number of an image, its place among those that were read; -1 for the others."""

    @property
    def labels(self) -> Tensor:
        return self.read.labels[self.row]

    @property
    def shape(self) -> Shape:
        return self.read.shape

    def __len__(self) -> int:
        return len(self.row)

    def subset(self, indices: Tensor) -> "_Some":
        return replace(self, row=self.row[indices])

    def batches(
        self, order: Tensor, batch_size: int, *, augment_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        for chunk in chunks(order, batch_size, len(self)):
            yield from self.read.batches(self.row[chunk], len(chunk), augment_seed=augment_seed)


def _of_dataset(dataset: Any, images: int | None, collate: Any, workers: int) -> Images:
    total = len(dataset)
    order = evaluation_order(total)[: None if images is None else max(images, 1)]
    loader = DataLoader(dataset, batch_sampler=order.split(_BATCH), collate_fn=collate, num_workers=workers)  # type: ignore[arg-type]
    read = _joined(loader)
    row = torch.full((total,), -1)
    row[order] = torch.arange(len(order))
    return _Some(read, row)


def _joined(loader: DataLoader[Any]) -> InMemory:
    parts: list[tuple[Tensor, Tensor]] = []
    for batch in loader:
        if not (
            isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        ):
            raise ValueError(
                f"the data gives batches of {_kinds(batch)}: expected two tensors, images in [0, 1] and labels; turn "
                "images into tensors with a transform, e.g. torchvision.transforms.ToTensor()"
            )
        parts.append((batch[0], batch[1]))
    if not parts:
        raise ValueError("data has no images")
    images, labels = zip(*parts, strict=True)
    return _in_memory(torch.cat(images), torch.cat(labels))


def _in_memory(images: Tensor, labels: Tensor) -> InMemory:
    return InMemory(images.detach().cpu(), labels.detach().cpu())


def _kinds(batch: Any) -> str:
    return ", ".join(type(part).__name__ for part in batch) if isinstance(batch, tuple | list) else type(batch).__name__
