"""Where a data set is read from, how it is fetched, and the words for what is missing."""

import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harp.data.augment import Augment

DEFAULT_ROOT = Path("data")
MOVED = "HARP_DATA"
"""In the environment: where the images of a run are now, whatever root its recipe names."""


@dataclass(frozen=True)
class Source:
    """What `load_data` was asked for; every loader takes one.

    `image_size` is the side of the images in pixels, None leaves them as they are. `workers` are the processes that
    decode streamed images: None is one a core (at most 8), 0 decodes in this process. `augment` replaces the data
    set's own augmentation. `skip_broken` leaves out files that cannot be decoded, instead of raising.
    """

    root: Path | None = None
    image_size: int | None = None
    workers: int | None = None
    download: bool = False
    split_seed: int = 0
    augment: Augment | None = None
    skip_broken: bool = False

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size={self.image_size}: expected the side of the images in pixels, 1 or more")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers={self.workers}: expected a number of processes, 0 or more")

    def augment_or(self, default: Augment) -> Augment:
        return default if self.augment is None else self.augment


def missing(path: Path, name: str) -> FileNotFoundError:
    """The error for a file of data set `name` that is not there but could be downloaded."""
    return FileNotFoundError(
        f"{path} is missing. Pass download=True (--task.download) to fetch {name} from its authors' site, "
        f"or root=... (--task.root) if it is somewhere else; for a run whose images have moved, set {MOVED}"
    )


def reject_download(source: Source, name: str, why: str) -> None:
    """Raise ValueError if a download was asked for that does not exist."""
    if source.download:
        raise ValueError(f"download=True: {name} {why}; leave --task.download out")


def required_root(source: Source, name: str) -> Path:
    """The existing directory the user named."""
    if source.root is None:
        raise ValueError(f"root=None: {name} needs the directory of its images, root=... (--task.root)")
    if not source.root.is_dir():
        raise FileNotFoundError(
            f"root={str(source.root)!r} is not a directory, seen from {os.getcwd()}; if the images of a run have moved, "
            f"say where they are now in the environment: {MOVED}=..."
        )
    return source.root


def download_file(url: str, directory: Path, md5: str) -> Path:
    """Fetch `url` into `directory` unless a file with this MD5 sum is there already."""
    from torchvision.datasets.utils import download_url  # half a second to import, and seldom needed

    directory.mkdir(parents=True, exist_ok=True)
    try:
        download_url(url, directory, md5=md5)
    except RuntimeError as error:
        raise OSError(f"{url} did not arrive whole (its MD5 sum should be {md5}); try again") from error
    return directory / url.rsplit("/", 1)[1]


def unpack(archive: Path, folder: str) -> None:
    """Unpack the directory `folder` of a tar archive beside it: whole or, when interrupted, not at all."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as unpacked:
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        os.replace(Path(unpacked) / folder, archive.parent / folder)
