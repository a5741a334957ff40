"""Operations that move entries, cut tensors to pieces and put them together."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from harp.pruning.channels.following.classes import STUCK, squeezed
from harp.pruning.channels.following.combining import tensors_in
from harp.pruning.channels.following.tracing import Trace

RESHAPED = ["view", "_unsafe_view", "_reshape_alias", "unflatten"]
CUT = ["split", "split_with_sizes", "slice", "select", "unbind", "narrow", "diagonal", "unfold", "as_strided"]
MOVED = [
    "cat",
    "stack",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "flip",
    "pixel_unshuffle",
    "repeat",
    "repeat_interleave",
    "tril",
    "triu",
]
SCATTERED = ["slice_scatter", "select_scatter"]
PARTED = ("chunk", "split", "tensor_split")
"""Calls whose pieces are parts of their own, which lose the same where they are alike; a size that is written down and
cannot be changed is found when the smaller network is tried."""
TAKEN = ["index", "index_select", "gather", "roll"]
"""By places that are written down: the channels among which they choose must all stay."""


def copied(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    trace.put(out, trace.numbers(given["src"]))


def moved(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    def lie(value: Any) -> Any:
        # As floats: not every padding knows integers, and these are exact up to 2**53.
        return (
            trace.numbers(value).double()
            if isinstance(value, Tensor) and value.dtype != torch.long and value.dtype != torch.bool
            else value
        )

    moved = func(**tree_map(lie, given))
    for tensor, numbers in zip(tensors_in(out), tensors_in(moved), strict=True):
        trace.put(tensor, numbers.int())


def reshaped(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """A dimension of channels that becomes several: every group loses the same, or whole heads go."""
    before, after = trace.numbers(given["self"]), trace.numbers(out)
    trace.size(before, after)
    numbers = squeezed(after)
    more = sum(size > 1 for size in numbers.shape) > sum(size > 1 for size in squeezed(before).shape)
    heads = trace.split(numbers if more else None)
    along = trace.classes.varying(after)
    if len(along) < 2 or len(along) <= len(trace.classes.varying(before)):
        return
    stays = along[-1] if heads is None else heads
    trace.classes.merge(numbers.movedim(stays, 0).flatten(1).tolist())


def cut(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """A part of a dimension, at places that are written down: all channels stay. Where all of it is parted, parts shrink."""
    pieces, whole = tensors_in(out), trace.numbers(given["self"])
    if all(piece.shape == whole.shape for piece in pieces):
        return
    parts = [trace.numbers(piece) for piece in pieces]
    trace.size(whole, *parts)
    if trace.calling in PARTED:
        if len({part.shape for part in parts}) == 1:
            trace.classes.merge(torch.stack([squeezed(part).flatten() for part in parts]).T.tolist())
    elif given.get("dim", 0) % whole.dim() in trace.classes.varying(whole):
        trace.classes.pin(whole)


def taken(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    numbers = trace.numbers(given["self"])
    dims = given.get("dim", given.get("dims", []))
    if "indices" in given:
        dims = [dim for dim, index in enumerate(given["indices"]) if index is not None]
    dims = {dim % numbers.dim() for dim in ([dims] if isinstance(dims, int) else dims)}
    if dims & {*trace.classes.varying(numbers)}:
        if trace.comes_from_image(given["self"]):
            trace.classes.pin(numbers)
        else:  # a table of parameters, of which a column may go
            columns = numbers.permute(*sorted({*range(numbers.dim())} - dims), *sorted(dims))
            trace.classes.merge(
                columns.reshape(-1, numbers.numel() // columns.shape[: numbers.dim() - len(dims)].numel()).tolist()
            )
    moved(trace, func, given, out)


def scattered(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """One tensor into a part of another, at places that are written down."""
    for tensor in (given["self"], given["src"]):
        numbers = trace.numbers(tensor)
        if given.get("dim", 0) % out.dim() in trace.classes.varying(numbers) or tensor.dim() < out.dim():
            trace.classes.pin(numbers)
    moved(trace, func, given, out)


def padded(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """Around an image the channels go on; new channels, a number of them written down, must stay."""
    numbers, pad = trace.numbers(given["self"]), given["pad"]
    along = trace.classes.varying(numbers)
    result = torch.full(out.shape, STUCK, dtype=torch.int32)
    inner, source = result, numbers
    for dim in range(numbers.dim()):
        place = 2 * (numbers.dim() - 1 - dim)
        before, after = (pad[place], pad[place + 1]) if place < len(pad) else (0, 0)
        if dim in along and (before or after):
            if min(before, after) < 0:
                trace.classes.pin(numbers)
            kept = numbers.size(dim) + min(before, 0) + min(after, 0)
            inner = inner.narrow(dim, max(before, 0), kept)
            source = source.narrow(dim, max(-before, 0), kept)
        elif dim not in along:
            source = source.amax(dim, keepdim=True)
    inner.copy_(source.expand(inner.shape))
    trace.put(out, result)


def shuffled(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """Channels that become the pixels of one block go together, and so do those of the same place in every group."""
    numbers, groups = trace.numbers(given["self"]), given.get("groups")
    along = numbers.dim() - 3 if groups is None else 1
    channels = trace.classes.blend(numbers, [d for d in range(numbers.dim()) if d != along]).flatten()
    rows = channels.view(-1, given["upscale_factor"] ** 2) if groups is None else channels.view(groups, -1).T
    trace.classes.merge(rows.tolist())
    moved(trace, func, given, out)
