"""Any folder of images: `train/<class>/…` and `test/<class>/…`, or one tree `<class>/…` that is split by a seed."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from harp.data.augment import Augment
from harp.data.decode import SquareReader, decode_all, stored_shape
from harp.data.images import ImageData, Images, InMemory, split
from harp.data.source import Source, reject_download, required_root
from harp.data.streamed import Streamed
from harp.runtime.preprocessing import EXTENSIONS

TEST_NAMES = ("test", "val", "valid", "validation")
MEMORY_LIMIT_BYTES = 2 * 2**30
_TEST_FRACTION = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tree:
    """The image files under `<class>/…`, in the order of their names."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Tensor


def read_folder(source: Source) -> ImageData:
    """Read a folder of images: decoded once if they fit into memory, else streamed by worker processes.

    `test` may be called `val`, `valid` or `validation`; beside a `test`, such a directory is the validation split.
    Images of several sizes need an image_size.
    """
    reject_download(source, "folder", "has nowhere to come from")
    root = required_root(source, "folder")
    trees = scan_splits(root)
    splits = _read(source, trees)
    if len(splits) == 1:
        splits["train"], splits["test"] = split(splits["train"], _TEST_FRACTION, source.split_seed)
    name = root.resolve().name
    return ImageData(name, trees["train"].classes, splits["train"], splits["test"], splits.get("validation"))


def scan_splits(root: Path) -> dict[str, Tree]:
    """The trees `train`, `test` and perhaps `validation` of `root`; only `train` if `root` is one tree of classes."""
    children = {path.name.lower(): path for path in _directories(root)}
    tests = [children[name] for name in TEST_NAMES if name in children and _directories(children[name])]
    train = children.get("train")
    if train is None or not _directories(train):
        if tests:
            raise ValueError(f"{root} has {tests[0].name}/ but no train/<class>/: expected both")
        return {"train": scan(root)}
    if not tests:
        raise ValueError(
            f"{root} has train/ but none of {', '.join(name + '/' for name in TEST_NAMES)}: add one, "
            f"or pass root={str(train)!r} to cut a test split off that tree"
        )
    found = {"train": train, "test": tests[0]}
    if len(tests) > 1 and tests[0].name.lower() == "test":
        found["validation"] = tests[1]
    trees = {name: scan(path) for name, path in found.items()}
    for tree in trees.values():
        _check_same_classes(trees["train"], tree)
    return trees


def scan(root: Path) -> Tree:
    """List the images of one tree. The classes are its directories, sorted by name; hidden files are left out."""
    directories = _directories(root)
    if len(directories) < 2:
        found = ", ".join(path.name for path in directories) or "none"
        raise ValueError(f"{root} needs a directory of images for every class, two or more; found {found}")
    paths: list[str] = []
    labels: list[int] = []
    for label, directory in enumerate(directories):
        images = sorted(_images(directory))
        if not images:
            raise ValueError(
                f"{directory} holds no image ({' '.join(EXTENSIONS)}): add images of this class or remove the directory"
            )
        paths += images
        labels += [label] * len(images)
    return Tree(root, tuple(path.name for path in directories), tuple(paths), torch.tensor(labels))


def _read(source: Source, trees: dict[str, Tree]) -> dict[str, Images]:
    size = source.image_size
    shape = (3, size, size) if size is not None else stored_shape(trees["train"].paths[0])
    augment = source.augment_or(Augment(pad=min(shape[1:]) // 8, flip=True))
    count = sum(len(tree.paths) for tree in trees.values())
    size_bytes = count * shape[0] * shape[1] * shape[2]
    if size_bytes <= MEMORY_LIMIT_BYTES:
        _log.info("decoding %d images into memory (%.1f MB)", count, size_bytes / 1e6)
        return {
            name: InMemory(decode_all(tree.paths, shape, size), tree.labels, augment) for name, tree in trees.items()
        }
    if size is None:
        raise ValueError(
            f"image_size=None: {count} images are {size_bytes / 2**30:.1f} GiB, too many to hold in memory; "
            "pass image_size=... (--task.image-size), the side to which streamed images are brought"
        )
    reader = SquareReader(size, augment)
    return {name: Streamed(tree.paths, tree.labels, shape, reader, source.workers) for name, tree in trees.items()}


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(directory: Path) -> list[str]:
    return [
        os.path.join(place, name)
        for place, _, names in os.walk(directory)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    ]


def _check_same_classes(train: Tree, other: Tree) -> None:
    differences = [
        f"{name} is only in {tree.root}"
        for tree, rest in ((train, other), (other, train))
        for name in tree.classes
        if name not in rest.classes
    ]
    if differences:
        raise ValueError(f"{train.root} and {other.root} must have the same classes: {'; '.join(differences)}")
