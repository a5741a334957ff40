"""Named byte blobs and a few texts in one safetensors file, with a checksum over all of it.

Written here in a few lines, since the runtime depends on numpy alone.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MOST_HEADER_BYTES = 64 * 2**20
MOST_DEPTH = 100
"""Of objects and lists inside each other."""
_CHECKSUM = "sha256"
_NO_CHECKSUM = "0" * 64


def pack(texts: Mapping[str, str], blobs: Mapping[str, bytes]) -> bytes:
    """The file. Its checksum is taken with 64 zeros in the checksum's own place."""
    header: dict[str, Any] = {"__metadata__": {_CHECKSUM: _NO_CHECKSUM, **texts}}
    end = 0
    for name, blob in blobs.items():
        header[name] = {"dtype": "U8", "shape": [len(blob)], "data_offsets": [end, end + len(blob)]}
        end += len(blob)
    head = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    head += b" " * (-len(head) % 8)
    content = len(head).to_bytes(8, "little") + head + b"".join(blobs.values())
    return content.replace(_NO_CHECKSUM.encode(), hashlib.sha256(content).hexdigest().encode(), 1)


def unpack(content: bytes) -> tuple[dict[str, str], dict[str, memoryview]]:
    """Texts and blobs of a file. Raises ValueError saying what is wrong with it."""
    header, data = _header(content)
    texts = header.pop("__metadata__", None)
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("it has no texts under __metadata__")
    _check_sum(content, texts.pop(_CHECKSUM, ""))
    blobs, end = {}, 0
    for name, entry in header.items():
        size = _blob_size(name, entry, end)
        if end + size > len(data):
            raise ValueError(f"{name} ends at byte {end + size:,} of {len(data):,}: the file is truncated")
        blobs[name] = data[end : end + size]
        end += size
    if end != len(data):
        raise ValueError(f"{len(data) - end:,} bytes follow its last tensor")
    return texts, blobs


def _header(content: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > min(len(content) - 8, MOST_HEADER_BYTES):
        raise ValueError(
            f"its {len(content):,} bytes have no room for its header: truncated, or a file of another kind; "
            "`harp export` writes what is wanted"
        )
    try:
        header = parsed(content[8 : 8 + length].decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, memoryview(content)[8 + length :]


def parsed(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also where too many are inside each other, or RecursionError."""
    value = json.loads(text)
    inside = [value]
    for _ in range(MOST_DEPTH + 1):
        holders = [v for v in inside if isinstance(v, dict | list)]
        inside = [v for holder in holders for v in (holder.values() if isinstance(holder, dict) else holder)]
        if not holders:
            return value
    raise ValueError(f"more than {MOST_DEPTH} values inside each other")


def _blob_size(name: str, entry: Any, start: int) -> int:
    """Blobs follow each other without holes, in the order of the header."""
    if not isinstance(entry, dict) or entry.get("dtype") != "U8":
        raise ValueError(f"{name} is not a tensor of bytes")
    offsets = entry.get("data_offsets")
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or offsets[0] != start
        or offsets[1] < start
        or entry.get("shape") != [offsets[1] - start]
    ):
        raise ValueError(f"{name} has shape {entry.get('shape')} and offsets {offsets}: expected to start at {start}")
    return offsets[1] - start


def _check_sum(content: bytes, claimed: Any) -> None:
    place = content.find(claimed.encode()) if isinstance(claimed, str) and len(claimed) == 64 else -1
    if place < 0:
        raise ValueError("it carries no checksum")
    digest = hashlib.sha256(content[:place])
    digest.update(_NO_CHECKSUM.encode())
    digest.update(memoryview(content)[place + 64 :])
    if digest.hexdigest() != claimed:
        raise ValueError("its checksum does not fit its content: damaged on its way, or edited")


def compared_sizes(size_bytes: int, dense_bytes: int) -> str:
    """A size beside that of the dense network in words: "1/91 of …", "1.2 times …", "as large as …"."""
    dense = f"dense float32 ({dense_bytes:,} bytes)"
    if dense_bytes >= 1.01 * size_bytes:
        return f"1/{dense_bytes / size_bytes:.3g} of {dense}"
    if size_bytes >= 1.01 * dense_bytes:
        return f"{size_bytes / max(1, dense_bytes):.3g} times {dense}"
    return f"as large as {dense}"
