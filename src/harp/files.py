"""Files that are whole or not there: bytes and JSON, written in one step and read with care. Standard library only."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_JSON_BYTES = 64 * 2**20
PARTIAL = ".partial"
"""How the name of a file ends while it is being written; one that stays was left by a killed process."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new name beside ``path``: the file that the block writes there takes the place of ``path`` when the block ends.

    After an error, a crash or on a full disk, what was there before is still whole. The file has the permissions of any
    other file that this process makes: those that its umask leaves.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step. Raises OSError naming the file, which is then as it was."""
    try:
        with replacing(path) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {len(content):,} bytes to {path}: {error.strerror}; what was there is unchanged",
        ) from error


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode())


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``. Raises ValueError naming the file when it is too large, truncated or no object."""
    size_bytes = path.stat().st_size
    if size_bytes > MAX_JSON_BYTES:
        raise ValueError(f"{path} has {size_bytes:,} bytes, more than any file harp writes ({MAX_JSON_BYTES:,})")
    try:
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); it is damaged or not written by harp") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def sha256_of(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
