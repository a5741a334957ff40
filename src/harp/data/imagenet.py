"""ImageNet (Russakovsky et al., IJCV 2015), or any folder of photographs trained the same way."""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from harp.data.augment import hash_index
from harp.data.decode import open_rgb
from harp.data.folder import listing_of, scan_splits
from harp.data.images import ImageData
from harp.data.source import Source, reject_download, required_root
from harp.data.streamed import Streamed

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
    return ImageData("imagenet", classes, splits["train"], splits["test"], splits.get("validation"), files)


@dataclass(frozen=True)
class CropReader:
    """A random part of the photograph, mirrored or not (augmented), or its centre (plain), as `size` × `size` pixels.

    The training and test views of He et al. (2016): RandomResizedCrop and flip; the shorter side to 256/224 of `size`
    and the central square.
    """

    size: int

    def __call__(self, path: str, index: int, augment_seed: int | None) -> UInt8[Tensor, "3 h w"]:
        photo = open_rgb(path)
        if augment_seed is None:
            return _central(photo, self.size)
        # torchvision draws from the global generator: lend it our seed. `torch.manual_seed` would reach the GPUs too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(hash_index(torch.tensor([index]), augment_seed)))
            return _random_part(photo, self.size)


def _central(photo: Image.Image, size: int) -> Tensor:
    from torchvision.transforms import v2  # half a second to import

    views = v2.Compose([v2.Resize(round(size * 256 / 224), antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    return views(photo)


def _random_part(photo: Image.Image, size: int) -> Tensor:
    from torchvision.transforms import v2

    views = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    return views(photo)
