"""SVHN (Netzer et al., 2011): house numbers, 73,257 + 26,032 cropped digits of 32 × 32 pixels."""

from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from harp.data.augment import Augment
from harp.data.images import ImageData, InMemory
from harp.data.resize import square
from harp.data.source import DEFAULT_ROOT, Source, download_file, missing

_SITE = "http://ufldl.stanford.edu/housenumbers/"
_FILES = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
_MOST_IMAGES = 1_000_000


def read_svhn(source: Source) -> ImageData:
    """Read `train_32x32.mat` and `test_32x32.mat` from the root or its svhn/; the root is ./data unless given.

    Crops from 4 pixels of padding; no flips, a mirrored digit is no digit.
    """
    directory = _directory(source)
    augment = source.augment_or(Augment(pad=(source.image_size or 32) // 8))
    splits: list[InMemory] = []
    for name in _FILES:
        images, labels = read_mat(directory / name)
        if source.image_size is not None:
            images = square(images, source.image_size)
        splits.append(InMemory(images, labels, augment))
    return ImageData("svhn", tuple("0123456789"), splits[0], splits[1])


def read_mat(path: Path) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """The images X (32, 32, 3, n) and the labels y of one file, where the label 10 stands for the digit 0."""
    from scipy.io import loadmat, whosmat  # half a second to import, and only this data set needs it

    try:
        # The header first: it says how much memory the contents would take.
        shapes = {name: tuple(shape) for name, shape, _ in whosmat(path)}
        count = shapes.get("X", (0,))[-1]
        expected = {"X": (32, 32, 3, count), "y": (count, 1)}
        if not 0 < count <= _MOST_IMAGES or any(shapes.get(name) != shape for name, shape in expected.items()):
            raise ValueError(f"expected X (32, 32, 3, n) and y (n, 1), found {shapes}")
        content = loadmat(path, variable_names=list(expected))
        images = torch.from_numpy(content["X"]).permute(3, 2, 0, 1).contiguous()
        labels = torch.from_numpy(content["y"]).long()[:, 0]
        if images.dtype != torch.uint8 or not (int(labels.min()) >= 1 and int(labels.max()) <= 10):
            raise ValueError(f"expected pixels in uint8 and labels from 1 to 10, found {images.dtype} and others")
    # A damaged file makes the MATLAB reader raise nearly anything: zlib.error, TypeError, struct.error, ...
    except Exception as error:
        raise ValueError(f"cannot read {path}: {error}; fetch it again") from error
    return images, labels % 10


def _directory(source: Source) -> Path:
    root = DEFAULT_ROOT if source.root is None else source.root
    for directory in (root / "svhn", root):
        if all((directory / name).is_file() for name in _FILES):
            return directory
    directory = root / "svhn"
    for name, md5 in _FILES.items():
        if source.download:
            download_file(_SITE + name, directory, md5)
        elif not (directory / name).is_file():
            raise missing(directory / name, "svhn")
    return directory
