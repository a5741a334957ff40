"""Data sets as labelled images in [0, 1], in memory or streamed from files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harp.data.augment import Augment
from harp.data.cifar import read_cifar10, read_cifar100
from harp.data.digits import read_digits
from harp.data.fashion_mnist import read_fashion_mnist
from harp.data.folder import read_folder
from harp.data.imagenet import read_imagenet
from harp.data.images import ImageData, Images, InMemory
from harp.data.source import Source
from harp.data.splitting import split
from harp.data.streamed import Streamed
from harp.data.svhn import read_svhn
from harp.importing import import_factory
from harp.runtime.preprocessing import preprocessing_of

__all__ = [
    "DATASETS",
    "Augment",
    "ImageData",
    "Images",
    "InMemory",
    "Source",
    "Streamed",
    "load_data",
    "split",
]

DATASETS: dict[str, Callable[[Source], ImageData]] = {
    "digits": read_digits,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "svhn": read_svhn,
    "imagenet": read_imagenet,
    "folder": read_folder,
}


def load_data(
    name: str,
    *,
    root: Path | str | None = None,
    image_size: int | None = None,
    workers: int | None = None,
    download: bool = False,
    split_seed: int = 0,
    augment: Augment | None = None,
    skip_broken: bool = False,
) -> ImageData:
    """Load a data set of `DATASETS` by name; `Source` explains the options.

    `package.module:factory` is the user's own: a function without arguments that returns an ImageData.
    `split_seed` cuts the test split off a folder that is one tree. Image files that cannot be decoded are listed in one
    ValueError, or left out with `skip_broken`; a streamed one is only found when it is read. Nothing is downloaded
    unless `download` says so: a missing file raises FileNotFoundError that names it.
    """
    if ":" in name:
        data = import_factory(name)()
        if not isinstance(data, ImageData):
            raise TypeError(f"name={name!r} returned {type(data).__name__}: expected a harp.data.ImageData")
        return data
    if name not in DATASETS:
        raise ValueError(
            f"name={name!r}: expected one of {', '.join(DATASETS)}; your own images are a folder, or package.module:factory"
        )
    root = Path(root).expanduser() if root is not None else None
    data = DATASETS[name](Source(root, image_size, workers, download, split_seed, augment, skip_broken))
    return data if data.preprocessing else replace(data, preprocessing=preprocessing_of(data.shape))
