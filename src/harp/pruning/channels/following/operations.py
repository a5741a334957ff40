"""What each operation of torch does to channels. What goes into one that is not listed stays: guessing would be wrong."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from harp.pruning.channels.following.classes import STUCK
from harp.pruning.channels.following.combining import (
    ALONG,
    EACH_ENTRY,
    MADE,
    MIXED,
    POOLED,
    RANDOM,
    REDUCED,
    along,
    drawn,
    each_entry,
    floats_in,
    glu,
    mixed,
    nothing,
    pooled,
    reduced,
)
from harp.pruning.channels.following.layers import batch_norm, convolution, group_norm, layer_norm, linear
from harp.pruning.channels.following.moving import (
    CUT,
    MOVED,
    RESHAPED,
    SCATTERED,
    TAKEN,
    copied,
    cut,
    moved,
    padded,
    reshaped,
    scattered,
    shuffled,
    taken,
)
from harp.pruning.channels.following.products import ATTENDED, MULTIPLIED, attended, multiplied
from harp.pruning.channels.following.tracing import Trace, plain

Rule = Callable[[Trace, Any, dict[str, Any], Any], None]
"""``(trace, operation, arguments by name, result)``"""


def follow(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Write down where the channels of an operation's result come from."""
    name = func.overloadpacket.__name__
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    rule = RULES.get(name)
    if rule is None and func.is_view:
        return  # the numbers lie right already
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = each_entry
    of_image = trace.comes_from_image((args, kwargs))
    if rule is None and of_image and not trace.excluded_calls and not _moves_channels(trace, given):
        return  # constants among themselves
    if name == "_local_scalar_dense" and of_image:
        read_off(trace)
    trace.classes.why = f"{plain(name)} in {trace.module or 'the model itself'}"
    (rule or unknown)(trace, func, given, out)


def unknown(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """All that goes in, and whatever is written to, stays."""
    mixed(trace, func, given, out)
    written = {a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    for tensor in floats_in([value for name, value in given.items() if name in written]):
        trace.put(tensor, torch.full((), STUCK, dtype=torch.int32))


def read_off(trace: Trace) -> None:
    """The program asks for a number that depends on the image. Raises ValueError unless a part left out does."""
    if not trace.excluded_calls:
        where = trace.module
        raise ValueError(
            f"{where or 'the model itself'} reads a number off its images ({trace.calling or 'item'}), and may go another "
            "way for another image, so that one traced image cannot stand for all. Write it without (torch.where), or "
            + (f"leave that part out: exclude=['{where}']" if where else _OWN_MODULE)
        )
    for call in trace.excluded_calls:
        call.branched = True
        trace.classes.why = f"a choice by the image in {call.name}"
        for tensor in floats_in(call.given):
            trace.classes.pin(trace.numbers(tensor))


_OWN_MODULE = (
    "put it, with all that it chooses among, into a module of its own and leave that out, e.g. exclude=['head']"
)


def _moves_channels(trace: Trace, given: dict[str, Any]) -> bool:
    return any(bool((trace.numbers(t) != 0).any()) for t in floats_in(given))


def _rules() -> dict[str, Rule]:
    def each(names: Iterable[str], rule: Rule) -> dict[str, Rule]:
        return dict.fromkeys(names, rule)

    return {
        **each(MADE, nothing),
        **each(RANDOM, drawn),
        **each(EACH_ENTRY, each_entry),
        **each(RESHAPED, reshaped),
        **each(CUT, cut),
        **each(MOVED, moved),
        **each(TAKEN, taken),
        **each(["pixel_shuffle", "channel_shuffle", "native_channel_shuffle"], shuffled),
        **each(SCATTERED, scattered),
        "constant_pad_nd": padded,
        **each(MIXED, mixed),
        **each(MULTIPLIED, multiplied),
        **each(ATTENDED, attended),
        **each(POOLED, pooled),
        **each(REDUCED, reduced),
        **each(ALONG, along),
        **each(["native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"], batch_norm),
        **each(["cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_no_update"], batch_norm),
        **each(["mm", "addmm"], linear),
        "native_layer_norm": layer_norm,
        "native_group_norm": group_norm,
        "convolution": convolution,
        "copy_": copied,
        "glu": glu,
    }


RULES = _rules()
