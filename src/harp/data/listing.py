"""The files that a data set was read from: what tells, without reading them, whether they are still the same."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

NAMED = 20_000
"""Up to this many files, a listing keeps the size of each; beyond, those of whole folders."""


@dataclass(frozen=True)
class Folder:
    """The images of one class in one tree. `digest` is that of all names and sizes."""

    files: int
    size_bytes: int
    digest: str
    sizes: Mapping[str, int] | None = None
    """Bytes by name below the data set's root; None in a large data set."""


@dataclass(frozen=True)
class Listing:
    """Folders by their path below the root (`train/cat`, or `cat` in one tree), and why some files were left out."""

    folders: Mapping[str, Folder]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def folder_of(self, name: str) -> str:
        """The folder that holds the file of this name, which may lie deeper."""
        depth = next(iter(self.folders)).count("/") + 1
        return "/".join(name.split("/", depth)[:depth])

    def size_of(self, name: str) -> int | None:
        """Bytes of the file; None where it is not there, or single files are not listed."""
        folder = self.folders.get(self.folder_of(name))
        return None if folder is None or folder.sizes is None else folder.sizes.get(name)

    def may_hold(self, name: str) -> bool:
        """Whether the file was there; where single files are not listed, whether its folder was."""
        folder = self.folders.get(self.folder_of(name))
        return folder is not None and (folder.sizes is None or name in folder.sizes)


def list_files(found: Mapping[str, Iterable[tuple[str, int]]]) -> Listing:
    """A listing of (name, bytes) pairs by folder."""
    content = {folder: sorted(files) for folder, files in found.items()}
    named = sum(map(len, content.values())) <= NAMED
    return Listing(
        {
            folder: Folder(len(files), sum(size for _, size in files), _digest(files), dict(files) if named else None)
            for folder, files in content.items()
        }
    )


def unchanged_folders(now: Listing, earlier: Listing) -> set[str]:
    """Folders that hold files of the same names and sizes in both listings."""
    return {
        name
        for name, folder in now.folders.items()
        if name in earlier.folders and earlier.folders[name].digest == folder.digest
    }


def names_below(root: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Paths as names that are the same on every machine: relative to `root`, with forward slashes."""
    start = 0 if root == os.curdir else len(os.path.join(root, ""))  # pathlib leaves a leading ./ out
    return tuple(path[start:].replace(os.sep, "/") for path in paths)


def _digest(files: Sequence[tuple[str, int]]) -> str:
    found = hashlib.sha256()
    for name, size in files:
        found.update(f"{size} {name}\n".encode(errors="surrogateescape"))
    return found.hexdigest()[:32]
