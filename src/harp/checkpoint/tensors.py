"""Tensors as safetensors files, replaced whole or not at all, and states of a training as such files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from harp.files import write_bytes

_SKELETON = "harp.state"


def save_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically, on the CPU and contiguous; tied ones are written twice."""
    wrong = {name: type(t).__name__ for name, t in tensors.items() if not isinstance(t, Tensor)}
    if wrong:
        raise TypeError(f"{path} can hold tensors only, not {wrong}; a module's get_extra_state must return tensors")
    # Cloned: the format refuses tensors that share memory.
    content = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, metadata)
    write_bytes(path, _with_metadata_in_order(content) if metadata and len(metadata) > 1 else content)


def _with_metadata_in_order(content: bytes) -> bytes:
    """The file with its metadata sorted by name. safetensors leaves them in the order of a hash map, another in each
    process (findings/safetensors-orders-metadata-at-random.sh)."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers begin at a multiple of 8, as the format wants it
    return len(text).to_bytes(8, "little") + text + content[end:]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor in a safetensors file. Raises ValueError naming the file when it is truncated or hostile.

    The format itself checks each offset and size against the file before anything is allocated.
    """
    return open_tensors(path)[0]


def open_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    need_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned: the file's own memory map would forbid replacing the file on some systems.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} is not a valid safetensors file ({error}); it is damaged or incomplete") from error


def need_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a directory, expected a file' if path.is_dir() else 'does not exist'}")


def save_state(path: Path, state: Any) -> None:
    """Write any nest of dicts, lists, tensors, numbers, strings and None as one safetensors file, atomically.

    Tuples come back as lists. Raises TypeError naming anything else, and keys that JSON has no word for.
    """
    tensors: dict[str, Tensor] = {}

    def strip(value: Any, where: str) -> Any:
        if isinstance(value, Tensor):
            tensors[str(len(tensors))] = value
            return {"tensor": str(len(tensors) - 1)}
        if isinstance(value, dict):
            # Optimizer states have integer keys, which JSON would turn into strings: keep the pairs.
            return {"dict": [[_plain(key, where), strip(item, f"{where}.{key}")] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list": [strip(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        return _plain(value, where)

    skeleton = strip(state, "state")
    save_tensors(path, tensors, {_SKELETON: json.dumps(skeleton)})


def _plain(value: Any, where: str) -> str | int | float | bool | None:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{where} holds a {type(value).__name__}: a state is made of tensors, numbers, texts and None")


def load_state(path: Path) -> Any:
    """What :func:`save_state` wrote. Raises ValueError naming the file when it is not that."""
    tensors, metadata = open_tensors(path)

    def fill(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        (kind, content), *rest = value.items()
        if rest or kind not in ("tensor", "dict", "list"):
            raise KeyError(kind)
        if kind == "tensor":
            return tensors[content]
        return {key: fill(item) for key, item in content} if kind == "dict" else [fill(item) for item in content]

    try:
        return fill(json.loads(metadata[_SKELETON]))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a resume state of harp ({error!r}); delete it to start the stage again"
        ) from error
