"""Images for benchmarks/gpu.py as one file that travels: uint8, NCHW, in an .npz of at most so many MiB.

    python benchmarks/gpu_data.py FOLDER_OR_ZIP parcel.npz                 all test images, and as many training images as fit 55 MiB
    python benchmarks/gpu_data.py FOLDER_OR_ZIP parcel.npz --mib 200       CIFAR-10 at full size

The folder, or zip, holds SPLIT/CLASS/NAME.jpg with the splits train and test. The images are drawn by a fixed seed, as many of
each class. The file says how many there are, and so do the cards made from it.
"""

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch

from harp.data import Augment, ImageData, InMemory

VARIABLE = "HARP_GPU_DATA"
"""The environment variable that names the file, for the data set ``gpu_data:data``."""
_PACKED = 0.95
"""Bytes of photographs in an .npz, of those in memory; a little more than measured, to stay below the limit."""


def data() -> ImageData:
    """The data set of the file; CIFAR-10's augmentation while training."""
    with np.load(os.environ[VARIABLE]) as arrays:
        classes = tuple(arrays["classes"].tolist())
        train, test = (
            InMemory(torch.from_numpy(arrays[f"x_{part}"]), torch.from_numpy(arrays[f"y_{part}"]), augment)
            for part, augment in (("train", Augment(pad=4, flip=True)), ("test", Augment()))
        )
    return ImageData("gpu", classes, train, test)


def files_of(source: Path) -> dict[str, bytes]:
    """The image files by their paths inside the folder or zip."""
    if source.is_dir():
        found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
        return {path.relative_to(source).as_posix(): path.read_bytes() for path in found}
    with zipfile.ZipFile(source) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist()) if not name.endswith("/")}


def split_of(files: dict[str, bytes], split: str, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The decoded images and labels of a split, in the order of a fixed shuffle that takes one class after the other."""
    from PIL import Image

    by_class = [[name for name in files if f"{split}/{each}/" in f"/{name}"] for each in classes]
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(len(names)) for names in by_class]
    most = min(map(len, by_class))
    chosen = [(by_class[k][shuffled[k][i]], k) for i in range(most) for k in range(len(classes))]
    pixels = [np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")) for name, _ in chosen]
    return np.stack(pixels).transpose(0, 3, 1, 2), np.array([label for _, label in chosen])


def fitting(images: int, bytes_each: int, spent: int, limit: int) -> int:
    """How many training images fit beside what is spent."""
    return max(0, min(images, int((limit - spent) / (bytes_each * _PACKED))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("parcel", type=Path)
    parser.add_argument("--mib", type=float, default=55)
    flags = parser.parse_args()
    files = files_of(flags.source)
    classes = tuple(sorted({name.split("/")[-2] for name in files if "train/" in f"/{name}"[1:] or "/train/" in name}))
    test_x, test_y = split_of(files, "test", classes)
    train_x, train_y = split_of(files, "train", classes)
    count = fitting(len(train_x), train_x[0].nbytes, int(test_x.nbytes * _PACKED), int(flags.mib * 2**20))
    np.savez_compressed(
        flags.parcel,
        **{"x_train": train_x[:count], "y_train": train_y[:count], "x_test": test_x, "y_test": test_y},
        classes=np.array(classes),
    )
    size = flags.parcel.stat().st_size / 2**20
    print(f"{count:,} of {len(train_x):,} training images, {len(test_x):,} test images: {size:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
