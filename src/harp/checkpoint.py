"""What a run directory holds and how it is written: safetensors and JSON, each file replaced whole or not at all.

Nothing is ever unpickled; a foreign PyTorch checkpoint is read with ``weights_only=True``.
"""

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .models import match_names

MAX_JSON_BYTES = 64 * 2**20
PARTIAL = ".partial"
"""How the name of a file ends while it is being written; one that stays was left by a killed process."""
_SKELETON = "harp.state"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


@dataclass(frozen=True)
class RunDirectory:
    """The names of the files of one run; every name is here and nowhere else."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.json"

    @property
    def inputs(self) -> Path:
        """The images and the code that it was made from, to be compared with those of today."""
        return self.path / "inputs.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def masks(self) -> Path:
        return self.path / "masks.safetensors"

    @property
    def widths(self) -> Path:
        """Of a network made physically smaller: the channels that each module has left."""
        return self.path / "widths.json"

    @property
    def card(self) -> Path:
        """Written last: a run is finished when its card exists."""
        return self.path / "card.json"

    @property
    def resume(self) -> Path:
        return self.path / "resume" / "state.safetensors"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    @property
    def examples(self) -> Path:
        return self.evaluations / "examples.safetensors"

    @property
    def finished(self) -> bool:
        return self.card.exists()

    @property
    def entries(self) -> tuple[Path, ...]:
        """All that a run consists of, in the order in which to delete it: unfinished first, nameless last."""
        results = (self.card, self.resume.parent, self.evaluations, self.metrics, self.masks, self.widths, self.model)
        return (*results, self.inputs, self.recipe)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content`` in one step: after a crash or on a full disk the old file is still whole."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"could not write {len(content):,} bytes to {path}: {error.strerror}; what was there is unchanged",
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


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


def save_tensors(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically, on the CPU and contiguous; tied ones are written twice."""
    wrong = {name: type(t).__name__ for name, t in tensors.items() if not isinstance(t, Tensor)}
    if wrong:
        raise TypeError(f"{path} can hold tensors only, not {wrong}; a module's get_extra_state must return tensors")
    # Cloned: the format refuses tensors that share memory.
    write_bytes(path, save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, metadata))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor in a safetensors file. Raises ValueError naming the file when it is truncated or hostile.

    The format itself checks each offset and size against the file before anything is allocated.
    """
    return _open(path)[0]


def _open(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    _need_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Cloned: the file's own memory map would forbid replacing the file on some systems.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{path} is not a valid safetensors file ({error}); it is damaged or incomplete") from error


def _need_file(path: Path) -> None:
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
    tensors, metadata = _open(path)

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


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load a checkpoint made anywhere: safetensors, or a PyTorch file read with ``weights_only=True``.

    Prefixes such as ``module.`` and wrappers such as ``{"state_dict": …}`` are taken off. Raises ValueError listing
    missing, unexpected and misshapen entries, and for values that are not finite; the model is then unchanged.
    """
    state = load_tensors(path) if path.suffix == ".safetensors" else _foreign_state(path)
    try:
        matched = match_names(state, model)
    except ValueError as error:
        raise ValueError(f"{path} does not fit the model: {error}") from error
    odd = [n for n, t in matched.items() if t.layout != torch.strided or t.is_complex() or t.is_quantized or t.is_meta]
    if odd:
        raise ValueError(f"{path} holds tensors that are not plain numbers in {odd}; save model.state_dict() as it is")
    broken = [name for name, t in matched.items() if t.is_floating_point() and not torch.isfinite(t).all()]
    if broken:
        raise ValueError(f"{path} holds values that are not finite in {broken}; the checkpoint is damaged")
    model.load_state_dict(matched)
    return model


def _foreign_state(path: Path) -> dict[str, Tensor]:
    _need_file(path)
    try:
        _refuse_inflation(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from KeyError to UnpicklingError on a hostile file
        # Not torch's own words: they advise to unpickle after all.
        raise ValueError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}), and harp never unpickles objects: save "
            "model.state_dict() from the program that made it, best as safetensors"
        ) from error
    for _ in _WRAPPERS:  # a hostile file may wrap itself
        inside = [content[key] for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        content = inside[0] if inside else content
    if not isinstance(content, dict) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(f"{path} holds no state dict: expected names and tensors, or those under one of {_WRAPPERS}")
    return {str(name): tensor for name, tensor in content.items()}


def _refuse_inflation(path: Path) -> None:
    """PyTorch stores tensors as they are: a zip that promises more bytes than it has is a bomb."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("a compressed archive")
