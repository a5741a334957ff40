"""What a data set was, in a few kilobytes of JSON, and what differs between two of them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from harp.data.images import ImageData, Images, InMemory
from harp.data.listing import Folder, Listing, unchanged_folders
from harp.data.streamed import Streamed

PROBES = 64
"""Images of each split in memory whose mean brightness is noted."""
_TOLERANCE = 1e-3
"""How far it may be off: resizing on another processor may round differently, another image never is that close 64 times."""
_SHOWN = 5


def fingerprint(data: ImageData) -> dict[str, Any]:
    """Classes, shape, the names and sizes of all files and how they become pixels; of tensors labels and the brightness
    of some images.

    Of a folder it takes what a listing of the directories tells, and reads no file. It is taken before a validation
    split is cut off.
    """
    found: dict[str, Any] = {"classes": list(data.classes), "shape": list(data.shape)}
    if data.files is None:
        return {**found, "name": data.name, "splits": {part: _split(images) for part, images in data.splits.items()}}
    folders = {name: _folder(folder) for name, folder in data.files.folders.items()}
    how = None if data.preprocessing is None else data.preprocessing.to_json()
    return {**found, "folders": folders, "left_out": dict(data.files.left_out), "preprocessing": how}


def listing_in(record: Mapping[str, Any]) -> Listing | None:
    """The listing of a fingerprint; None where the data set has none. Raises KeyError or TypeError when damaged."""
    if "folders" not in record:
        return None
    folders = {
        name: Folder(f["files"], f["size_bytes"], f["digest"], f.get("sizes")) for name, f in record["folders"].items()
    }
    return Listing(folders, record["left_out"])


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """What has changed between two fingerprints, as clauses in the past tense; empty when it is the same data."""
    found = [*_classes(theirs["classes"], mine["classes"])]
    if theirs["shape"] != mine["shape"]:
        found.append(f"the images were {_size(theirs['shape'])} and are {_size(mine['shape'])}")
    found += _preparation(theirs.get("preprocessing"), mine.get("preprocessing"))
    before, now = listing_in(theirs), listing_in(mine)
    if before is not None and now is not None:
        return [*found, *_files(before, now), *_left_out(before, now)]
    if before is not None or now is not None:
        return [
            *found,
            "the images came from a folder and now do not" if now is None else "the images come from a folder",
        ]
    if theirs["name"] != mine["name"]:
        found.append(f"the data set was {theirs['name']!r} and is {mine['name']!r}")
    for part in dict.fromkeys([*theirs["splits"], *mine["splits"]]):
        found += _splits(part, theirs["splits"].get(part), mine["splits"].get(part))
    return found


def _folder(folder: Folder) -> dict[str, Any]:
    plain = {"files": folder.files, "size_bytes": folder.size_bytes, "digest": folder.digest}
    return plain if folder.sizes is None else {**plain, "sizes": dict(folder.sizes)}


def _split(images: Images) -> dict[str, Any]:
    labels = hashlib.sha256(images.labels.cpu().numpy().tobytes()).hexdigest()[:32]
    found: dict[str, Any] = {"images": len(images), "labels": labels}
    if isinstance(images, InMemory):
        chosen = images.images[torch.linspace(0, len(images) - 1, min(PROBES, len(images))).round().long()].double()
        scale = 255 if images.images.dtype == torch.uint8 else 1
        found["brightness"] = [round(mean, 5) for mean in (chosen.mean(dim=(1, 2, 3)) / scale).tolist()]
    if isinstance(images, Streamed):
        found["paths"] = hashlib.sha256("\n".join(images.names or images.paths).encode()).hexdigest()[:32]
    return found


def _classes(theirs: Sequence[str], mine: Sequence[str]) -> Iterator[str]:
    gone, new = ([name for name in some if name not in others] for some, others in ((theirs, mine), (mine, theirs)))
    if gone:
        yield f"the classes {', '.join(gone)} were removed"
    if new:
        yield f"the classes {', '.join(new)} were added"
    if not gone and not new and theirs != mine:
        yield f"the order of the classes was {', '.join(theirs)} and is {', '.join(mine)}"


def _preparation(theirs: Mapping[str, Any] | None, mine: Mapping[str, Any] | None) -> Iterator[str]:
    """Of older runs it was not noted. The size is that of the images."""
    if theirs is None or mine is None:
        return
    for name in dict.fromkeys([*theirs, *mine]):
        if name != "size" and theirs.get(name) != mine.get(name):
            yield f"preparing an image, {name} was {theirs.get(name)!r} and is {mine.get(name)!r}"


def _files(before: Listing, now: Listing) -> Iterator[str]:
    """By file where both listings name them; else by folder."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    for name in dict.fromkeys([*before.folders, *now.folders]):
        old, new = before.folders.get(name, _EMPTY), now.folders.get(name, _EMPTY)
        if old.digest == new.digest:
            continue
        if old.sizes is None or new.sizes is None:
            yield f"{name}/ had {old.files:,} files of {old.size_bytes:,} bytes and has {new.files:,} of {new.size_bytes:,}"
            continue
        added += [file for file in new.sizes if file not in old.sizes]
        removed += [file for file in old.sizes if file not in new.sizes]
        changed += [file for file, size in new.sizes.items() if old.sizes.get(file, size) != size]
    for files, what in ((added, "added"), (removed, "removed"), (changed, "replaced by files of other sizes")):
        if files:
            yield f"{_some(files)} {'was' if len(files) == 1 else 'were'} {what}"


_EMPTY = Folder(0, 0, "", {})


def _left_out(before: Listing, now: Listing) -> Iterator[str]:
    """Only files that are in both: of others it is said that they were added or removed."""
    broke = [name for name in now.left_out if name not in before.left_out and before.may_hold(name)]
    if broke:
        yield f"{_some(broke)} cannot be read any more"
    same = unchanged_folders(now, before)  # of another folder, streamed files were not looked through yet
    mended = [name for name in before.left_out if name not in now.left_out and now.folder_of(name) in same]
    if mended:
        yield f"{_some(mended)} can be read now"


def _splits(part: str, theirs: Mapping[str, Any] | None, mine: Mapping[str, Any] | None) -> Iterator[str]:
    if theirs is None or mine is None:
        yield f"the {part} split was {'added' if theirs is None else 'removed'}"
    elif theirs["images"] != mine["images"]:
        yield f"{part} had {theirs['images']:,} images and has {mine['images']:,}"
    elif theirs["labels"] != mine["labels"]:
        yield f"the labels of {part} changed"
    elif theirs.get("paths") != mine.get("paths"):
        yield f"the files of {part} changed"
    elif not _close(theirs.get("brightness", []), mine.get("brightness", [])):
        yield f"the images of {part} changed"


def _close(theirs: Sequence[float], mine: Sequence[float]) -> bool:
    return len(theirs) == len(mine) and all(abs(a - b) <= _TOLERANCE for a, b in zip(theirs, mine, strict=True))


def _some(files: Sequence[str]) -> str:
    shown = ", ".join(files[:_SHOWN])
    return shown if len(files) <= _SHOWN else f"{shown} and {len(files) - _SHOWN:,} more files"


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
