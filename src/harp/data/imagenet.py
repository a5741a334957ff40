"""ImageNet (Russakovsky et al., IJCV 2015), or any folder of photographs trained the same way."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from harp.data.augment import hash_index
from harp.data.folder import listing_of, scan_splits
from harp.data.images import ImageData
from harp.data.source import Source, reject_download, required_root
from harp.data.streamed import Streamed
from harp.runtime.pixels import open_image, read_pixels
from harp.runtime.preprocessing import Preprocessing

_SIZE = 224


def read_imagenet(source: Source) -> ImageData:
    """Stream `train/<class>/…` and `val/<class>/…`; `image_size` defaults to 224 pixels."""
    reject_download(source, "imagenet", "is only handed out by its authors (image-net.org)")
    if source.augment is not None:
        raise ValueError(f"augment={source.augment}: imagenet always trains on random resized crops; leave it out")
    root = required_root(source, "imagenet")
    trees = scan_splits(root)
    if len(trees) == 1:
        raise ValueError(f"root={str(source.root)!r} has no train/<class>/ and val/<class>/")
    size = _SIZE if source.image_size is None else source.image_size
    splits = {
        name: Streamed(tree.paths, tree.labels, (3, size, size), CropReader(size), source.workers, str(root))
        for name, tree in trees.items()
    }
    classes, files = trees["train"].classes, listing_of(root, trees)
    return ImageData(
        "imagenet",
        classes,
        splits["train"],
        splits["test"],
        splits.get("validation"),
        files,
        preprocessing=plain_view(size),
    )


@dataclass(frozen=True)
class CropReader:
    """A random part of the photograph, mirrored or not (augmented), or its centre (plain), as `size` × `size` pixels.

    The training and test views of He et al. (2016): RandomResizedCrop and flip; the shorter side to 256/224 of `size`
    and the central square.
    """

    size: int

    def __call__(self, path: str, index: int, augment_seed: int | None) -> UInt8[Tensor, "3 h w"]:
        if augment_seed is None:
            return torch.from_numpy(np.ascontiguousarray(read_pixels(path, plain_view(self.size))))
        photo = open_image(path)
        # torchvision draws from the global generator: lend it our seed. `torch.manual_seed` would reach the GPUs too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(hash_index(torch.tensor([index]), augment_seed)))
            return _random_part(photo, self.size)


def plain_view(size: int) -> Preprocessing:
    """The shorter side to 256/224 of `size`, and the central square."""
    return Preprocessing((size, size), shorter_side=round(size * 256 / 224), resample="bilinear")


def _random_part(photo: Image.Image, size: int) -> Tensor:
    from torchvision.transforms import v2  # half a second to import

    views = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    return views(photo)
