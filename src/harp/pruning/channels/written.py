"""Sizes that a module remembers as plain numbers, such as ``num_heads``, and computes with in its forward."""

import re
from collections.abc import Mapping, Set
from typing import Any

from torch import nn

_SIZE = re.compile("head|dim|chan|chs|width|feature|planes|group|embed|hidden|inner|shape|split|out_|in_")
_COUNT = re.compile("head|group")
_OTHER = re.compile("^(attn_)?head_?(dim|size|ch)|dim_?(per_)?head|per_head|window|kernel|stride|patch|depth|img|ratio")


def remembered(module: nn.Module) -> dict[str, Any]:
    """The whole numbers, and tuples and lists of them, that may be sizes by their names. Modules of torch have none."""
    if isinstance(module, nn.Unflatten):
        found = {"unflattened_size": tuple(module.unflattened_size)}
    elif type(module).__module__.startswith("torch.nn."):
        return {}
    else:
        found = {name: value for name, value in vars(module).items() if _SIZE.search(name) and not _OTHER.search(name)}
    return {name: value for name, value in found.items() if name[0] != "_" and _is_size(value)}


def follow_sizes(module: nn.Module, changed: Mapping[int, int], heads: Set[int]) -> None:
    """Set those that were the number of channels before to what it is now.

    Those of ``heads`` count groups of channels; only what is called so, or a shape, is taken for such a number.
    """
    for name, value in remembered(module).items():
        if not isinstance(value, int):
            setattr(module, name, type(value)(changed.get(size, size) for size in value))
        elif value in changed and (value not in heads or _COUNT.search(name)):
            setattr(module, name, changed[value])


def _is_size(value: Any) -> bool:
    if type(value) in (tuple, list):
        return len(value) > 0 and all(type(size) is int and size > 0 for size in value)
    return type(value) is int and value > 0
