"""What a data set is: splits of labelled images that hand out batches in a given order."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from harp.data.augment import Augment
from harp.data.listing import Listing
from harp.runtime.preprocessing import Preprocessing

Shape = tuple[int, int, int]
"""Channels, height, width."""


@runtime_checkable
class Images(Protocol):
    """One split of a data set, in memory or streamed from files."""

    @property
    def labels(self) -> Tensor:
        """The class of every image: int64, shape (n,)."""
        ...

    @property
    def shape(self) -> Shape: ...

    def __len__(self) -> int: ...

    def subset(self, indices: Tensor) -> "Images":
        """The images at `indices`, numbered afresh from 0."""
        ...

    def batches(
        self, order: Tensor, batch_size: int, *, augment_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (x, y) for `order[:batch_size]`, the next `batch_size` of `order`, and so on.

        x is float32 in [0, 1], NCHW, and y int64, both on the CPU. With `augment_seed`, image i is augmented by a draw
        that depends on (augment_seed, i) alone; None leaves the images as they are.
        """
        ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images as one tensor, uint8 or float32 in [0, 1], NCHW. uint8 becomes float32 batch by batch.

    `names`, one per image, decide which part of a split an image belongs to; without them, its position does.
    """

    images: Tensor
    labels: Tensor
    augment: Augment = field(default_factory=Augment)
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", as_int64(self.labels))
        images = self.images
        if not isinstance(images, Tensor):
            raise TypeError(f"images is a {type(images).__name__}: expected a tensor, torch.as_tensor(images)")
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise ValueError(
                f"images has shape {tuple(images.shape)} and type {images.dtype}: expected "
                "(n, channels, height, width) in uint8 or float32 "
                "(`.permute(0, 3, 1, 2)` turns NHWC into NCHW, `.float()` makes float32)"
            )
        check_labels(self.labels, len(images))
        if self.names is not None and len(self.names) != len(images):
            raise ValueError(f"names has {len(self.names)} entries for {len(images)} images: expected one for each")
        # A NaN fails both comparisons.
        if images.dtype == torch.float32 and not (images.amin() >= 0 and images.amax() <= 1):
            low, high = images.amin().item(), images.amax().item()
            raise ValueError(
                f"images lie in [{low:.4g}, {high:.4g}]: expected [0, 1]. Divide by 255, "
                "or leave the normalisation to the model's first layer"
            )

    @property
    def shape(self) -> Shape:
        _, channels, height, width = self.images.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> "InMemory":
        names = None if self.names is None else tuple(self.names[i] for i in indices.tolist())
        return replace(self, images=self.images[indices], labels=self.labels[indices], names=names)

    def batches(
        self, order: Tensor, batch_size: int, *, augment_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        for chunk in chunks(order, batch_size, len(self)):
            x = self.images[chunk]
            if augment_seed is not None:
                x = self.augment(x, chunk, augment_seed)
            yield as_float(x), self.labels[chunk]


@dataclass(frozen=True)
class ImageData:
    """A data set: its classes and its splits. `validation` is None where the data set brings none of its own.

    `files` lists the image files it was read from, where it was read from a folder of them.
    `preprocessing` says how an image file becomes an image as the splits hold them; None where nobody has said.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    validation: Images | None = None
    files: Listing | None = None
    preprocessing: Preprocessing | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"{self.name} has the classes {self.classes}: expected two or more")
        for name, images in self.splits.items():
            if int(images.labels.max()) >= len(self.classes):
                raise ValueError(
                    f"{self.name}: a label of {name} is {int(images.labels.max())}, but there are only "
                    f"{len(self.classes)} classes, numbered from 0: name them all in `classes`, or correct the labels"
                )
            if images.shape != self.train.shape:
                raise ValueError(
                    f"{self.name}: the images of {name} are {images.shape}, those of train {self.train.shape} "
                    "(channels, height, width): bring them to one shape"
                )

    @property
    def shape(self) -> Shape:
        return self.train.shape

    @property
    def splits(self) -> dict[str, Images]:
        """The splits that there are, by name."""
        found = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: images for name, images in found.items() if images is not None}


def chunks(order: Tensor, batch_size: int, length: int) -> list[Tensor]:
    """Cut `order` into batches of indices, after checking that it indexes `length` images."""
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: expected 1 or more")
    if order.dtype != torch.int64 or order.ndim != 1:
        raise ValueError(f"order has type {order.dtype} and shape {tuple(order.shape)}: expected a vector of int64")
    if not len(order):
        return []
    first, last = int(order.min()), int(order.max())
    if first < 0 or last >= length:
        raise ValueError(f"order reaches from {first} to {last}, but there are {length} images")
    return list(order.split(batch_size))


def check_labels(labels: Tensor, count: int) -> None:
    """Raise ValueError unless `labels` are the classes of `count` images, at least one."""
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise ValueError(
            f"labels has type {labels.dtype} and shape {tuple(labels.shape)}: "
            f"expected integers and ({count},), one for every image (`.argmax(1)` of one-hot labels)"
        )
    if not count:
        raise ValueError("there are no images: expected one or more in every split")
    if int(labels.min()) < 0:
        raise ValueError(f"a label is {int(labels.min())}: classes are numbered from 0")


def as_int64(labels: Tensor) -> Tensor:
    """Integers of any width as int64; all else as it is."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels is a {type(labels).__name__}: expected a tensor, torch.as_tensor(labels)")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    return labels.long() if whole else labels


def as_float(images: Tensor) -> Tensor:
    """float32 in [0, 1]; uint8 is divided by 255."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images
