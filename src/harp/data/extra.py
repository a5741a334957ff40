"""Further training images from an `.npz`, such as the published millions that a diffusion model made, a share of every batch."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harp.data.augment import hash_index
from harp.data.images import Images, InMemory, Shape, chunks

_IMAGES, _LABELS = ("image", "images"), ("label", "labels")
_POSITIVE = 2**63 - 1


@dataclass(frozen=True, eq=False)
class WithExtra:
    """Images of which ``share`` of every batch, its last ones, are extra ones instead: an epoch stays as long as it is.

    Which extra image takes a place is a draw from (augment_seed, index of the image it stands in for) alone, so a stopped
    epoch goes on with the images it would have had.
    """

    own: Images
    extra: InMemory
    share: float

    @property
    def labels(self) -> Tensor:
        return self.own.labels

    @property
    def shape(self) -> Shape:
        return self.own.shape

    def __len__(self) -> int:
        return len(self.own)

    def subset(self, indices: Tensor) -> "WithExtra":
        return replace(self, own=self.own.subset(indices))

    def batches(
        self, order: Tensor, batch_size: int, *, augment_seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`."""
        parts = chunks(order, batch_size, len(self))
        for chunk, (x, y) in zip(parts, self.own.batches(order, batch_size, augment_seed=augment_seed), strict=True):
            count = round(self.share * len(chunk))
            if not count:
                yield x, y
                continue
            draw = hash_index(chunk[len(chunk) - count :], augment_seed or 0) & _POSITIVE
            more, labels = next(self.extra.batches(draw % len(self.extra), count, augment_seed=augment_seed))
            yield torch.cat([x[: len(x) - count], more]), torch.cat([y[: len(y) - count], labels])


def with_extra(images: Images, path: Path, share: float, classes: int) -> WithExtra:
    """The images, with a share of every batch from the file. They are augmented alike where they are in memory.

    Raises ValueError for a file of other content, images of another shape, and labels of other classes.
    """
    extra = read_npz(path)
    if extra.shape != images.shape:
        raise ValueError(
            f"extra={path} has images of {extra.shape}, the data set of {images.shape}: bring them to one shape"
        )
    if int(extra.labels.max()) >= classes:
        raise ValueError(f"extra={path} has the label {int(extra.labels.max())}, and the data set {classes} classes")
    if isinstance(images, InMemory):
        extra = replace(extra, augment=images.augment)
    return WithExtra(images, extra, share)


def read_npz(path: Path) -> InMemory:
    """Arrays ``image``, (n, height, width, channels) or (n, channels, height, width), uint8 or in [0, 1], and ``label``.

    Nothing is unpickled.
    """
    if not path.is_file():
        raise ValueError(f"extra={path} is not a file: name an .npz with the arrays 'image' and 'label'")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [next((name for name in either if name in file), None) for either in (_IMAGES, _LABELS)]
            if None in names:
                raise ValueError(f"it holds {sorted(file)}, expected 'image' and 'label'")
            images, labels = (torch.from_numpy(file[name]) for name in names)
        return InMemory(_channels_first(images), labels.flatten())
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"extra={path} is not an .npz of images and labels: {error}") from error


def _channels_first(images: Tensor) -> Tensor:
    if images.dim() == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.permute(0, 3, 1, 2).contiguous()
    return images.float() if images.is_floating_point() else images
