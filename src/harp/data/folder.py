"""Any folder of images: `train/<class>/…` and `test/<class>/…`, or one tree `<class>/…` that is split by a seed."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harp.data.augment import Augment
from harp.data.decode import SquareReader, decode_all, stored_shape
from harp.data.images import ImageData, Images, InMemory, Shape
from harp.data.listing import Listing, list_files, names_below
from harp.data.soundness import report_broken, some_left
from harp.data.source import Source, reject_download, required_root
from harp.data.splitting import drawn_by_name
from harp.data.streamed import Streamed
from harp.runtime.preprocessing import EXTENSIONS

TEST_NAMES = ("test", "val", "valid", "validation")
MEMORY_LIMIT_BYTES = 2 * 2**30
_TEST_FRACTION = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tree:
    """The image files under `<class>/…`, in the order of their names, and their sizes in bytes."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[str, ...]
    labels: Tensor
    sizes: tuple[int, ...]

    def names(self, root: Path) -> tuple[str, ...]:
        """The files' paths below the root of the data set."""
        return names_below(str(root), self.paths)

    def subset(self, indices: Tensor) -> "Tree":
        paths, sizes = (tuple(column[i] for i in indices.tolist()) for column in (self.paths, self.sizes))
        return replace(self, paths=paths, sizes=sizes, labels=self.labels[indices])


def read_folder(source: Source) -> ImageData:
    """Read a folder of images: decoded once if they fit into memory, else streamed by worker processes.

    `test` may be called `val`, `valid` or `validation`; beside a `test`, such a directory is the validation split.
    Of one tree, about a fifth of every class is the test split, drawn by the names of the files. Images of several
    sizes need an image_size.
    """
    reject_download(source, "folder", "has nowhere to come from")
    root = required_root(source, "folder")
    trees = scan_splits(root)
    listing = listing_of(root, trees)
    if len(trees) == 1:
        whole = trees["train"]
        chosen = drawn_by_name(whole.names(root), whole.labels, _TEST_FRACTION, source.split_seed, part="test")
        trees = {"train": whole.subset((~chosen).nonzero()[:, 0]), "test": whole.subset(chosen.nonzero()[:, 0])}
    splits, broken = _read(source, root, trees)
    listing = replace(listing, left_out=broken)
    name, classes = root.resolve().name, trees["train"].classes
    return ImageData(name, classes, splits["train"], splits["test"], splits.get("validation"), listing)


def listing_of(root: Path, trees: dict[str, Tree]) -> Listing:
    """All files of these trees by the folder of their class, relative to the root of the data set."""
    found: dict[str, list[tuple[str, int]]] = {}
    for tree in trees.values():
        folders = [(tree.root / name).relative_to(root).as_posix() for name in tree.classes]
        for name, size, label in zip(tree.names(root), tree.sizes, tree.labels.tolist(), strict=True):
            found.setdefault(folders[label], []).append((name, size))
    return list_files(found)


def scan_splits(root: Path) -> dict[str, Tree]:
    """The trees `train`, `test` and perhaps `validation` of `root`; only `train` if `root` is one tree of classes."""
    children = {path.name.lower(): path for path in _directories(root)}
    tests = [children[name] for name in TEST_NAMES if name in children and _directories(children[name])]
    train = children.get("train")
    if train is None or not _directories(train):
        _refuse_flat(root, children, tests)
        return {"train": scan(root)}
    if not tests:
        flat = [_described(children[name]) for name in TEST_NAMES if name in children]
        there = " and ".join(flat) or f"none of {', '.join(name + '/' for name in TEST_NAMES)}"
        raise ValueError(
            f"{root} has train/<class>/ but {there}: put test images into test/<class>/, since without a class they "
            f"cannot be evaluated, or pass root={str(train)!r} to cut a test split off that tree"
        )
    found = {"train": train, "test": tests[0]}
    if len(tests) > 1 and tests[0].name.lower() == "test":
        found["validation"] = tests[1]
    trees = {name: scan(path) for name, path in found.items()}
    for tree in trees.values():
        _check_same_classes(trees["train"], tree)
    return trees


def _refuse_flat(root: Path, children: dict[str, Path], tests: list[Path]) -> None:
    """A train/ without classes beside a test directory is no tree of the classes `train` and `test`."""
    train = children.get("train")
    if tests:
        there = "no train/<class>/" if train is None else _described(train)
        raise ValueError(f"{root} has {tests[0].name}/<class>/ but {there}: expected train/<class>/ and test/<class>/")
    if train is not None and children.keys() <= {"train", *TEST_NAMES}:
        there = " and ".join(_described(child) for child in children.values())
        raise ValueError(f"{root} has {there}: expected train/<class>/ and test/<class>/, a directory for every class")


def _described(directory: Path) -> str:
    """What is in a directory that has no directories of classes."""
    count = len(_images(str(directory)))
    return f"a {directory.name}/ with {count} images directly in it" if count else f"a {directory.name}/ without images"


def scan(root: Path) -> Tree:
    """List the images of one tree. The classes are its directories, sorted by name; hidden files are left out."""
    directories = _directories(root)
    if len(directories) < 2:
        found = ", ".join(path.name for path in directories) or "none"
        raise ValueError(f"{root} needs a directory of images for every class, two or more; found {found}")
    paths: list[str] = []
    labels: list[int] = []
    sizes: list[int] = []
    for label, directory in enumerate(directories):
        images = sorted(_images(str(directory)))
        if not images:
            raise ValueError(
                f"{directory} holds no image ({' '.join(EXTENSIONS)}): add images of this class or remove the directory"
            )
        paths += [path for path, _ in images]
        sizes += [size for _, size in images]
        labels += [label] * len(images)
    return Tree(root, tuple(path.name for path in directories), tuple(paths), torch.tensor(labels), tuple(sizes))


def _read(source: Source, root: Path, trees: dict[str, Tree]) -> tuple[dict[str, Images], dict[str, str]]:
    """The splits, and what was left out of them: name → why."""
    size = source.image_size
    shape = (3, size, size) if size is not None else _first_shape(trees["train"].paths)
    augment = source.augment_or(Augment(pad=min(shape[1:]) // 8, flip=True))
    count = sum(len(tree.paths) for tree in trees.values())
    size_bytes = count * shape[0] * shape[1] * shape[2]
    if size_bytes <= MEMORY_LIMIT_BYTES:
        _log.info("decoding %d images into memory (%.1f MB)", count, size_bytes / 1e6)
        return _decoded(source, root, trees, shape, augment)
    if size is None:
        raise ValueError(
            f"image_size=None: {count} images are {size_bytes / 2**30:.1f} GiB, too many to hold in memory; "
            "pass image_size=... (--task.image-size), the side to which streamed images are brought"
        )
    reader = SquareReader(size, augment)
    return {
        name: Streamed(tree.paths, tree.labels, shape, reader, source.workers, str(root))
        for name, tree in trees.items()
    }, {}


def _decoded(
    source: Source, root: Path, trees: dict[str, Tree], shape: Shape, augment: Augment
) -> tuple[dict[str, Images], dict[str, str]]:
    decoded = {part: decode_all(tree.paths, shape, source.image_size) for part, tree in trees.items()}
    names = {part: tree.names(root) for part, tree in trees.items()}
    broken = {names[part][i]: why for part, (_, wrong) in decoded.items() for i, why in sorted(wrong.items())}
    if broken:
        report_broken(broken, sum(map(len, names.values())), skip=source.skip_broken)
    splits: dict[str, Images] = {}
    for part, (images, wrong) in decoded.items():
        whole = InMemory(images, trees[part].labels, augment, names[part])
        sound = torch.ones(len(whole), dtype=torch.bool)
        sound[list(wrong)] = False
        splits[part] = whole.subset(some_left(sound, part).nonzero()[:, 0]) if wrong else whole
    return splits, broken


def _first_shape(paths: tuple[str, ...]) -> Shape:
    """That of the first image that can be read; where none can, any will do for the error that lists them all."""
    for path in paths:
        with suppress(ValueError):
            return stored_shape(path)
    return 3, 1, 1


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(directory: str) -> list[tuple[str, int]]:
    """Path and bytes of every image in a directory and below it."""
    found: list[tuple[str, int]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found += _images(entry.path)
            elif entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith(".") and not entry.is_dir():
                found.append((entry.path, _size(entry)))
    return found


def _size(entry: os.DirEntry[str]) -> int:
    """0 for a link that leads nowhere: it is listed, and found broken when it is read."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _check_same_classes(train: Tree, other: Tree) -> None:
    differences = [
        f"{name} is only in {tree.root}"
        for tree, rest in ((train, other), (other, train))
        for name in tree.classes
        if name not in rest.classes
    ]
    if differences:
        raise ValueError(f"{train.root} and {other.root} must have the same classes: {'; '.join(differences)}")
