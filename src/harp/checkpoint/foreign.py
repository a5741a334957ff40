"""The tensors in a PyTorch file of anybody's, and nothing else of it: no code of the file runs, and none of ours for it.

torch reads the file with ``weights_only=True``, which calls a short list of harmless functions and refuses all others.
Whatever else a file names (an ``argparse.Namespace``, numpy's scalars) is given a stand-in that takes anything and does
nothing, so that what lies beside the tensors is dropped instead of made.
"""

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

_SPELLED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that torch.save writes by their names of Python 2."""
_DICTS = ("collections.defaultdict", "easydict.EasyDict", "yacs.config.CfgNode", "addict.addict.Dict")
_HARMLESS = ("collections.OrderedDict", "builtins.set")
_DEEPEST = 8
"""Dicts within dicts that are looked into; a hostile file may hold itself."""


class Dropped:
    """Stands for whatever is no tensor: made of any arguments, given any state, it keeps none of them."""

    def __new__(cls, *arguments: object, **named: object) -> "Dropped":
        return object.__new__(cls)

    def __init__(self, *arguments: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _Dict:
    """Stands for a class of dicts, which a file fills as it does plain ones."""

    def __new__(cls, *arguments: object) -> OrderedDict[object, object]:
        return OrderedDict()


def read_states(path: Path) -> dict[str, dict[str, Tensor]]:
    """Every dict of names and tensors in a file, by the keys that lead to it, joined by dots; "" for the file itself.

    Raises ValueError naming the file, and what it holds instead, when there is none.
    """
    try:
        _refuse_inflation(path)
        names = _named(path)
        stands = {name: _Dict if name in _DICTS else type(name, (Dropped,), {}) for name in names}
        with safe_globals([(stand, name) for name, stand in stands.items()]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from KeyError to UnpicklingError on a hostile file
        # Not torch's own words: they advise to unpickle after all.
        raise ValueError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}{_holding(path)}), and harp never unpickles "
            f"objects. {_REMEDY}"
        ) from error
    states = dict(_states(content, "", set(), _DEEPEST))
    if not states:
        raise ValueError(
            f"{path} holds no state dict, a dict of names and tensors, but {_described(content)}. {_REMEDY}"
        )
    return states


_REMEDY = (
    "In the program that made it, two lines write a file that can be read: state = model.state_dict(); "
    "torch.save(state, 'plain.pt')"
)


def _states(content: Any, where: str, seen: set[int], deep: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, (dict, list, tuple)) or id(content) in seen or deep == 0:
        return
    seen.add(id(content))
    # Not its own items: a file may have set an attribute of that name.
    pairs = list(dict.items(content)) if isinstance(content, dict) else list(enumerate(content))
    tensors = {str(name): value for name, value in pairs if isinstance(value, Tensor)}
    if tensors and isinstance(content, dict):
        yield where, tensors
    for key, value in pairs:
        yield from _states(value, f"{where}.{key}" if where else str(key), seen, deep - 1)


def _described(content: Any) -> str:
    if isinstance(content, dict) and content:
        return ", ".join(f"{key!r} ({_kind(value)})" for key, value in list(dict.items(content))[:20])
    return f"a {_kind(content)}"


def _kind(value: object) -> str:
    return type(value).__name__


def _refuse_inflation(path: Path) -> None:
    """PyTorch stores tensors as they are: a zip that promises more bytes than it has is a bomb."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("a compressed archive")


def _holding(path: Path) -> str:
    try:
        names = sorted(name for name in _named(path) if not name.startswith("torch.") and name not in _HARMLESS)
    except Exception:  # it may be anything
        return ""
    return f"; it holds {', '.join(names[:10])}" if names else ""


def _named(path: Path) -> set[str]:
    """The full names of all classes and functions in a file, read off without making or calling any of them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            records = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            return set(_globals(io.BytesIO(archive.read(records[0])), 1))
    with path.open("rb") as file:
        return set(_globals(file, 4))  # a magic number, a version, the system's sizes, the content


def _globals(file: io.BufferedIOBase, pickles: int) -> Iterator[str]:
    for _ in range(pickles):
        for opcode, argument, _ in pickletools.genops(file):  # pyright: ignore[reportArgumentType]
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
                yield f"{_SPELLED.get(module, module)}.{name}"
