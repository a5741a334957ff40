"""Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 grey photographs of clothes, 28 × 28 pixels, in idx files."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from harp.data.augment import Augment
from harp.data.images import ImageData, InMemory
from harp.data.resize import square
from harp.data.source import DEFAULT_ROOT, Source, download_file, missing

DEBIAN_PACKAGE = Path("/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}
# Deflate packs at most 1032 bytes into one: a header that promises more than that of the file's size lies.
_MOST_INFLATION = 1032


def read_fashion_mnist(source: Source) -> ImageData:
    """Read the four idx files, gzipped or not, from the root or its FashionMNIST/raw (torchvision's layout).

    Without a root, from the Debian package dataset-fashion-mnist, else ./data. Random crops and flips.
    """
    files = _find(source)
    augment = source.augment_or(Augment(pad=(source.image_size or 28) // 8, flip=True))
    splits: list[InMemory] = []
    for part in ("train", "t10k"):
        images = read_idx(files[f"{part}-images-idx3-ubyte"], dimensions=3).unsqueeze(1)
        labels = read_idx(files[f"{part}-labels-idx1-ubyte"], dimensions=1).long()
        if source.image_size is not None:
            images = square(images, source.image_size)
        splits.append(InMemory(images, labels, augment))
    return ImageData("fashion-mnist", CLASSES, splits[0], splits[1])


def read_idx(path: Path, dimensions: int) -> UInt8[Tensor, "..."]:
    """The array of bytes in an idx file (LeCun, 1998), gzipped if the name ends in .gz.

    The file is two zero bytes, the type 8 (unsigned byte), the number of dimensions, their sizes as big-endian int32,
    and the values. Raises ValueError naming the path for any other contents.
    """
    packed = path.suffix == ".gz"
    available = os.path.getsize(path) * (_MOST_INFLATION if packed else 1)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            header = file.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) != 4 + 4 * dimensions:
                raise ValueError(f"it begins with {header[:4].hex()}, expected 000008{dimensions:02x}")
            shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
            count = int(np.prod(shape, dtype=object))
            if not 0 < count <= available:
                raise ValueError(f"its header promises {shape}, which the file cannot hold")
            values = file.read(count)
            if len(values) != count or file.read(1):
                raise ValueError(f"its header promises {count} values, the file holds another number")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).view(shape)


def _find(source: Source) -> dict[str, Path]:
    root = DEFAULT_ROOT if source.root is None else source.root
    home = root / "FashionMNIST" / "raw"
    places = (home, root) if source.root is not None else (DEBIAN_PACKAGE, home)
    for place in places:
        files = {name: _plain_or_gzipped(place / name) for name in _FILES}
        if all(path.is_file() for path in files.values()):
            return files
    if not source.download:
        files = {name: _plain_or_gzipped(home / name) for name in _FILES}
        raise missing(next(path for path in files.values() if not path.is_file()), "fashion-mnist")
    return {name: download_file(f"{_SITE}{name}.gz", home, md5) for name, md5 in _FILES.items()}


def _plain_or_gzipped(path: Path) -> Path:
    return path if path.is_file() else path.with_name(path.name + ".gz")
