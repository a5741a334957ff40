"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from the *binary* files: the Python version is pickled."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from harp.data.augment import Augment
from harp.data.images import ImageData, InMemory
from harp.data.resize import square
from harp.data.source import DEFAULT_ROOT, Source, download_file, missing, unpack

_SITE = "https://www.cs.toronto.edu/~kriz/"
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """Where one of the two data sets lies. A record is `label_bytes` bytes, the last of them the class, and 3,072 of
    pixels: 32 rows of red, then of green, then of blue."""

    name: str
    folder: str
    archive: str
    md5: str
    train: tuple[str, ...]
    test: str
    names: str
    label_bytes: int
    classes: int


CIFAR10 = Layout(
    name="cifar10",
    folder="cifar-10-batches-bin",
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    label_bytes=1,
    classes=10,
)
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-binary",
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    label_bytes=2,
    classes=100,
)


def read_cifar10(source: Source) -> ImageData:
    """Read `cifar-10-batches-bin/` under the root, ./data unless given. Crops from 4 pixels of padding, and flips."""
    return _read(source, CIFAR10)


def read_cifar100(source: Source) -> ImageData:
    """Read `cifar-100-binary/` under the root, ./data unless given; the 100 fine classes. Augmented as CIFAR-10."""
    return _read(source, CIFAR100)


def _read(source: Source, layout: Layout) -> ImageData:
    directory = _directory(source, layout)
    classes = _class_names(directory / layout.names, layout.classes)
    augment = source.augment_or(Augment(pad=(source.image_size or 32) // 8, flip=True))

    def read(names: tuple[str, ...]) -> InMemory:
        parts = [read_records(directory / name, layout.label_bytes, layout.classes) for name in names]
        images = torch.cat([images for images, _ in parts])
        if source.image_size is not None:
            images = square(images, source.image_size)
        return InMemory(images, torch.cat([labels for _, labels in parts]), augment)

    return ImageData(layout.name, classes, read(layout.train), read((layout.test,)))


def read_records(path: Path, label_bytes: int, classes: int) -> tuple[UInt8[Tensor, "n 3 32 32"], Int64[Tensor, " n"]]:
    """The images and labels of one binary file. Raises ValueError if it is not a whole number of records."""
    record = label_bytes + _PIXELS
    size_bytes = path.stat().st_size
    if size_bytes == 0 or size_bytes % record:
        raise ValueError(f"{path} has {size_bytes} bytes, not a multiple of {record}: it is damaged; fetch it again")
    records = torch.from_numpy(np.fromfile(path, np.uint8)).view(-1, record)
    labels = records[:, label_bytes - 1].long()
    if int(labels.max()) >= classes:
        raise ValueError(f"{path} has a label {int(labels.max())}, expected 0 to {classes - 1}: it is damaged")
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def _directory(source: Source, layout: Layout) -> Path:
    root = DEFAULT_ROOT if source.root is None else source.root
    wanted = (*layout.train, layout.test, layout.names)
    for directory in (root / layout.folder, root):
        if all((directory / name).is_file() for name in wanted):
            return directory
    directory = root / layout.folder
    if not source.download:
        raise missing(
            next(directory / name for name in wanted if not (directory / name).is_file()), f"the binary {layout.name}"
        )
    if directory.exists():
        raise FileExistsError(f"{directory} is there but not complete: remove it, and download=True fetches it again")
    unpack(download_file(_SITE + layout.archive, root, layout.md5), layout.folder)
    return directory


def _class_names(path: Path, count: int) -> tuple[str, ...]:
    names = tuple(path.read_text(encoding="utf-8").split())
    if len(names) != count:
        raise ValueError(f"{path} names {len(names)} classes, expected {count}: it is damaged; fetch it again")
    return names
