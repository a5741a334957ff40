"""Find all image files that cannot be read, before any work depends on one of them."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from harp.data.images import ImageData, Images
from harp.data.listing import Listing, unchanged_folders
from harp.data.streamed import Streamed
from harp.runtime.pixels import open_image

LISTED = 100
"""Broken files that an error or a warning lists; of more, it gives the number."""
_CHUNK = 64

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""(files read, files to read); it may raise KeyboardInterrupt."""


def unreadable(
    paths: Sequence[str], *, threads: int | None = None, progress: Progress = lambda done, total: None
) -> dict[str, str]:
    """Path → what is wrong, for those of `paths` that cannot be decoded. Every file is read to its end."""

    def look(start: int) -> dict[str, str]:
        found = {}
        for path in paths[start : start + _CHUNK]:
            try:
                open_image(path, draft=True)
            except ValueError as error:
                found[path] = str(error)
        return found

    broken: dict[str, str] = {}
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        for number, found in enumerate(pool.map(look, range(0, len(paths), _CHUNK)), 1):
            broken |= found
            progress(min(number * _CHUNK, len(paths)), len(paths))
    finally:
        pool.shutdown(cancel_futures=True)
    return broken


def streamed_files(data: ImageData) -> dict[str, str]:
    """Path by name of all images that stay in their files, split by split."""
    streams = [images for images in data.splits.values() if isinstance(images, Streamed)]
    return {name: path for s in streams for name, path in zip(s.names or s.paths, s.paths, strict=True)}


def leave_out(data: ImageData, broken: Mapping[str, str]) -> ImageData:
    """`data` without the streamed files named in `broken`, which its listing then names, too."""
    if not broken or data.files is None:
        return data
    left = {part: _without(images, broken, part) for part, images in data.splits.items()}
    files = replace(data.files, left_out=dict(sorted({**data.files.left_out, **broken}.items())))
    return replace(data, **left, files=files)  # type: ignore[arg-type]


def _without(images: Images, broken: Mapping[str, str], part: str) -> Images:
    if not isinstance(images, Streamed) or images.names is None:
        return images
    sound = torch.tensor([name not in broken for name in images.names])
    return images if sound.all() else images.subset(some_left(sound, part).nonzero()[:, 0])


def some_left(sound: torch.Tensor, part: str) -> torch.Tensor:
    """Raises ValueError where none of the images of a part can be read."""
    if not sound.any():
        raise ValueError(f"no image of {part} can be read; nothing is left once they are left out")
    return sound


def report_broken(broken: Mapping[str, str], images: int, *, skip: bool) -> None:
    """Raise ValueError that lists all broken files; where they may be skipped, log that instead."""
    lines = "\n".join(["", *_lines(list(broken.values()))])
    if not skip:
        raise ValueError(
            f"{len(broken):,} of {images:,} images cannot be read: repair or remove them, or leave them out with "
            f"skip_broken=True (--task.skip-broken){lines}"
        )
    _log.warning("%d of %d images cannot be read and are left out%s", len(broken), images, lines)


def _lines(reasons: Sequence[str]) -> Iterable[str]:
    yield from (f"  {reason}" for reason in reasons[:LISTED])
    if len(reasons) > LISTED:
        yield f"  … and {len(reasons) - LISTED:,} more"


def known_broken(now: Listing, earlier: Listing) -> dict[str, str]:
    """Those files left out earlier that have not changed since; of large data sets, whose folders have not."""
    same = unchanged_folders(now, earlier)
    return {
        name: why
        for name, why in earlier.left_out.items()
        if now.folder_of(name) in same or (now.size_of(name) is not None and now.size_of(name) == earlier.size_of(name))
    }
