"""Operations that combine entries: one by one, over an image, or everything with everything."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from harp.pruning.channels.following.classes import FREE, STUCK
from harp.pruning.channels.following.tracing import Trace

MADE = [
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "zeros",
    "zeros_like",
    "new_zeros",
    "ones",
    "ones_like",
    "new_ones",
    "full",
    "full_like",
    "new_full",
    "arange",
    "linspace",
    "eye",
    "scalar_tensor",
    "as_strided_",
    "resize_",
    "fill_",
    "zero_",
]
"""No channels come of these, or the numbers lie right already."""
RANDOM = [
    "rand",
    "randn",
    "rand_like",
    "randn_like",
    "randint",
    "randperm",
    "bernoulli",
    "bernoulli_",
    "uniform_",
    "normal_",
    "exponential_",
]
"""As many numbers as there are channels, whatever channels these are."""
EACH_ENTRY = [
    "_prelu_kernel",
    "hardswish",
    "hardswish_",
    "_to_copy",
    "native_dropout",
    "dropout",
    "clone",
    "contiguous",
    "softplus",
    "log_sigmoid_forward",
]
"""Entry by entry, though torch's tag does not say so."""
MIXED = [
    "mm",
    "addmm",
    "mv",
    "dot",
    "embedding",
    "_scaled_dot_product_attention_math",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
    "_local_scalar_dense",
]
"""Everything that goes in has its say in everything that comes out."""
POOLED = {
    f"{name}{dims}d{suffix}": dims
    for dims in (1, 2, 3)
    for name, suffixes in {
        "max_pool": ("", "_with_indices"),
        "adaptive_max_pool": ("",),
        "avg_pool": ("",),
        "_adaptive_avg_pool": ("",),
        "adaptive_avg_pool": ("",),
        "upsample_nearest": ("",),
        "_upsample_nearest_exact": ("",),
        "upsample_linear": ("",),
        "upsample_bilinear": ("",),
        "_upsample_bilinear": ("_aa",),
        "upsample_bicubic": ("",),
        "upsample_trilinear": ("",),
    }.items()
    for suffix in suffixes
}
"""Channel by channel over the last dimensions: so many."""
REDUCED = [
    "mean",
    "sum",
    "amax",
    "amin",
    "max",
    "min",
    "prod",
    "var",
    "std",
    "var_mean",
    "std_mean",
    "linalg_vector_norm",
    "norm",
    "logsumexp",
    "argmax",
    "argmin",
    "all",
    "any",
]


ALONG = ["_softmax", "_safe_softmax", "_log_softmax", "cumsum", "cumprod", "logcumsumexp", "cummax", "cummin", "sort"]
"""Along one dimension, whose entries have to be one channel, or stay."""


def floats_in(given: Any) -> list[Tensor]:
    return [t for t in tree_leaves(given) if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())]


def tensors_in(out: Any) -> list[Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def nothing(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    pass


def drawn(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    trace.put(out, torch.full((), FREE, dtype=torch.int32))


def each_entry(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers = [trace.numbers(t) for t in tree_leaves(given) if isinstance(t, Tensor)]
    result = numbers[0]
    for more in numbers[1:]:
        result = trace.classes.couple(result, more)
    for tensor in tensors_in(out):
        trace.put(tensor, result)


def mixed(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    for tensor in floats_in(given):
        trace.classes.pin(trace.numbers(tensor))
    for tensor in tensors_in(out):
        trace.put(tensor, torch.full((), STUCK, dtype=torch.int32))


def pooled(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    dims = POOLED[func.overloadpacket.__name__]
    numbers = trace.classes.blend(trace.numbers(next(iter(given.values()))), range(-dims, 0))
    for tensor in tensors_in(out):
        trace.put(tensor, numbers)


def reduced(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers, dims = trace.numbers(given["self"]), given.get("dim")
    if "other" in given:  # max and min of two tensors
        return each_entry(trace, func, given, out)
    dims = range(numbers.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    numbers = trace.classes.blend(numbers, dims)
    if not given.get("keepdim", False):
        for dim in sorted((dim % max(numbers.dim(), 1) for dim in dims), reverse=True):
            numbers = numbers.squeeze(dim) if numbers.dim() else numbers
    for tensor in tensors_in(out):
        trace.put(tensor, numbers)


def along(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers = trace.numbers(given["self"])
    trace.classes.blend(numbers, [given.get("dim", -1)])
    for tensor in tensors_in(out):
        trace.put(tensor, numbers)


def glu(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    first, second = trace.numbers(given["self"]).chunk(2, given.get("dim", -1))
    trace.put(out, trace.classes.couple(first, second))
