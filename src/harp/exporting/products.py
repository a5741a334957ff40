"""Linear layers, products of matrices, attention, transposed convolutions, and resampling."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harp.exporting.arithmetic import add
from harp.exporting.draft import Draft, UnsupportedError, Value
from harp.exporting.einsum import einsum
from harp.exporting.moving import interleaved, need_map
from harp.exporting.padding import padded

aten = torch.ops.aten
_FORBIDDEN = -1e30
"""What a masked place of attention gets: its exponential is zero."""
Operand = Value | Tensor


def linear(draft: Draft, value: Value, weight: Operand, bias: Operand | None = None) -> Value:
    """Along the last axis."""
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise UnsupportedError("its weights depend on the image")
    if value.batch == value.rank - 1:
        raise UnsupportedError("it mixes the images of a batch")
    shape = (*value.shape[:-1], weight.shape[0])
    return draft.add("linear", value, shape=shape, tensors={"weight": weight, "bias": bias})


def matmul(draft: Draft, first: Operand, second: Operand) -> Value:
    if isinstance(first, Value) and isinstance(second, Value):
        behind = {(value.rank - value.batch, value.merged, value.inner) for value in (first, second)}
        if len(behind) > 1 or min(first.rank - first.batch, second.rank - second.batch) < 3:
            raise UnsupportedError("it multiplies vectors, or mixes the images of a batch")
        return _matmul(draft, first, second)
    if isinstance(first, Value):
        assert isinstance(second, Tensor)
        if second.dim() <= 2 and first.batch < first.rank - 1:
            return draft.reshaped(linear(draft, first, second.reshape(second.shape[0], -1).T), draft.shape)
        return _matmul(draft, first, _beside(draft, first, second))
    assert isinstance(second, Value)
    return _matmul(draft, _beside(draft, second, first), second)


def _beside(draft: Draft, value: Value, tensor: Tensor) -> Value:
    """A constant matrix, or a batch of them, that is the same for every image."""
    if value.rank - value.batch < 3 or tensor.dim() < 2 or value.merged:
        raise UnsupportedError("it multiplies with a constant across the images of a batch")
    place = tensor.dim() - (value.rank - value.batch)
    if place >= 0:
        if tensor.shape[place] != 1:
            raise UnsupportedError("it multiplies each image with another constant")
        tensor = tensor.squeeze(place)
    return draft.constant(tensor)


def _matmul(draft: Draft, first: Value, second: Value, factor: float = 1.0) -> Value:
    batch = torch.broadcast_shapes(first.shape[:-2], second.shape[:-2])
    shape = (*batch, first.shape[-2], second.shape[-1])
    return draft.add("matmul", first, second, shape=shape, attributes={"factor": float(factor)})


def _addmm(draft: Draft, bias: Operand, first: Value, second: Operand, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise UnsupportedError(f"it has beta={beta} and alpha={alpha}: expected 1")
    return add(draft, matmul(draft, first, second), bias)


# Attention


def _attention(
    draft: Draft,
    query: Value,
    key: Value,
    value: Value,
    mask: Operand | None = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    shared: bool = False,
) -> Value:
    if not all(isinstance(part, Value) for part in (query, key, value)):
        query, key, value = (_of_image(draft, part, (query, key, value)) for part in (query, key, value))
    if min(part.rank - part.batch for part in (query, key, value)) < 3:
        raise UnsupportedError("it attends across the images of a batch")
    if shared:
        key, value = (_shared_heads(draft, part, query) for part in (key, value))
    rank = len(key.shape)
    turned = draft.permuted(key, [*range(rank - 2), rank - 1, rank - 2])
    scores = _matmul(draft, query, turned, query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, Tensor):
        scores = _masked(draft, scores, mask, query)
    elif mask is not None:
        scores = draft.add("add", scores, mask, shape=scores.shape)
    shares = draft.add("softmax_last", scores, shape=scores.shape)
    return _matmul(draft, shares, value)


def _of_image(draft: Draft, part: Operand, all_parts: Sequence[Operand]) -> Value:
    if isinstance(part, Value):
        return part
    return _beside(draft, next(other for other in all_parts if isinstance(other, Value)), part)


def _shared_heads(draft: Draft, part: Value, query: Value) -> Value:
    times = query.shape[-3] // part.shape[-3]
    axis = len(part.shape) - 3
    return draft.taken(part, axis, [i for i in range(part.shape[axis]) for _ in range(times)])


def _masked(draft: Draft, scores: Value, mask: Tensor, query: Value) -> Value:
    if mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask.cpu(), _FORBIDDEN)
    mask = mask.clamp(min=_FORBIDDEN)
    like = Value(scores.number, scores.shape, query.batch, query.merged)
    numbers = mask.reshape((1,) * (like.rank - mask.dim()) + tuple(mask.shape))
    if not like.merged:
        if numbers.shape[like.batch] != 1:
            raise UnsupportedError("its mask is not the same for every image")
        numbers = numbers.squeeze(like.batch)
    return draft.add("add", scores, draft.constant(numbers), shape=scores.shape)


# Convolutions


def _conv1d(
    draft: Draft,
    value: Value,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Value:
    """As a convolution of maps of one row."""
    if isinstance(weight, Value) or isinstance(bias, Value) or isinstance(padding, str):
        raise UnsupportedError("its weights depend on the image, or its padding has a name")
    if value.merged or len(value.shape) != 2:
        raise UnsupportedError(f"its input has the shape {value.shape} for each image: expected (channels, length)")
    channels, length = value.shape
    row = draft.reshaped(value, (channels, 1, length))
    how = {
        "stride": (1, stride[0]),
        "padding": (0, padding[0]),
        "dilation": (1, dilation[0]),
        "groups": groups,
    }
    shape = (draft.shape[0], 1, draft.shape[1])
    made = draft.add("conv", row, shape=shape, tensors={"weight": weight[:, :, None], "bias": bias}, attributes=how)
    return draft.reshaped(made, draft.shape)


def transposed_conv(
    draft: Draft,
    value: Value,
    weight: Operand,
    bias: Operand | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> Value:
    """A convolution for each of the phases that a position of the input becomes, their results between each other.

    Position o of the result gets weight k from position i of the input where o + padding = i · stride + k · dilation.
    """
    need_map(value)
    if isinstance(weight, Value) or isinstance(bias, Value):
        raise UnsupportedError("its weights depend on the image")
    steps, cut = _pair(stride), _pair(padding)
    kernel = _phases(_spread(weight, _pair(dilation)), steps, groups)
    taps = kernel.shape[2:]
    how = {"stride": (1, 1), "padding": (taps[0] - 1, taps[1] - 1), "dilation": (1, 1), "groups": groups}
    sides = [size + tap - 1 for size, tap in zip(value.shape[1:], taps, strict=True)]
    biases = None if bias is None else bias.repeat_interleave(math.prod(steps))
    made = draft.add(
        "conv", value, shape=(kernel.shape[0], *sides), tensors={"weight": kernel, "bias": biases}, attributes=how
    )
    channels = kernel.shape[0] // math.prod(steps)
    whole = (channels, *(side * step for side, step in zip(sides, steps, strict=True)))
    full = made if steps == (1, 1) else interleaved(draft, made, steps)
    full = draft.reshaped(full, whole)
    widths = [(0, 0)]
    for axis, pad in enumerate(cut):
        widths.append((-pad, draft.shape[1 + axis] + pad - whole[1 + axis]))
    if any(pair[1] > 0 for pair in widths) and bias is not None:
        raise UnsupportedError(f"it has output_padding={tuple(output_padding)} beyond its kernel")
    return padded(draft, full, widths)


def _spread(weight: Tensor, dilation: tuple[int, int]) -> Tensor:
    """A dilated kernel with its zeros written out."""
    sides = [reach * (size - 1) + 1 for size, reach in zip(weight.shape[2:], dilation, strict=True)]
    full = weight.new_zeros((*weight.shape[:2], *sides))
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def _phases(weight: Tensor, steps: tuple[int, int], groups: int) -> Tensor:
    """(in, out / groups, kh, kw) of a transposed convolution as (out · phases, in / groups, taps) of a plain one."""
    inputs, outputs, *kernel = weight.shape
    taps = [-(-size // step) for size, step in zip(kernel, steps, strict=True)]
    full = weight.new_zeros((inputs, outputs, taps[0] * steps[0], taps[1] * steps[1]))
    full[:, :, : kernel[0], : kernel[1]] = weight
    apart = full.reshape(groups, inputs // groups, outputs, taps[0], steps[0], taps[1], steps[1])
    turned = apart.permute(0, 2, 4, 6, 1, 3, 5).flip(5, 6)
    return turned.reshape(groups * outputs * math.prod(steps), inputs // groups, *taps)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    both = list(sizes) * 2 if len(sizes) == 1 else list(sizes)
    return int(both[0]), int(both[1])


# Other sizes of maps


def resampling(target: Any) -> Callable[..., Value]:
    """What F.interpolate calls, whatever its mode: each side by a matrix, which torch itself is asked for."""

    def handler(draft: Draft, value: Value, *how: Any) -> Value:
        need_map(value)
        height, width = value.shape[1:]
        for axis in (1, 2):
            matrix = _matrix(target, axis, (height, width), how)
            value = _along(draft, value, axis, matrix)
        return value

    return handler


def _matrix(target: Any, axis: int, sides: tuple[int, int], how: Sequence[Any]) -> Tensor:
    """What each new row (or column) takes of each old one: asked with maps in which one of these is 1."""
    size = sides[axis - 1]
    probe = torch.eye(size).reshape(1, size, *((size, 1) if axis == 1 else (1, size)))
    made = target(probe.expand(1, size, *sides).contiguous(), *how)[0]
    return made.select(3 - axis, 0).T.contiguous()


def _along(draft: Draft, value: Value, axis: int, matrix: Tensor) -> Value:
    if ((matrix == 0) | (matrix == 1)).all() and (matrix.sum(1) == 1).all():
        return draft.taken(value, axis, matrix.argmax(1).tolist())
    shape = (*value.shape[:axis], matrix.shape[0], *value.shape[axis + 1 :])
    return draft.add("resample", value, shape=shape, tensors={"matrix": matrix}, attributes={"axis": axis})


RESAMPLING = (
    *("upsample_nearest2d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)

PRODUCTS: Mapping[Any, Callable[..., Any]] = {
    aten.linear: linear,
    aten.matmul: matmul,
    aten.bmm: matmul,
    aten.mm: matmul,
    aten.addmm: _addmm,
    aten.baddbmm: _addmm,
    aten.scaled_dot_product_attention: _attention,
    aten.einsum: einsum,
    aten.conv1d: _conv1d,
    aten.conv_transpose2d: transposed_conv,
}
