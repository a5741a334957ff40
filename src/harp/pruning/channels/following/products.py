"""Products of two values: attention and its like, where what cannot be told apart goes in whole batches (heads)."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

from harp.pruning.channels.following.classes import STUCK, squeezed
from harp.pruning.channels.following.combining import mixed, tensors_in
from harp.pruning.channels.following.tracing import Trace

MULTIPLIED = ["bmm", "baddbmm"]
ATTENDED = [
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
]


def multiplied(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """a @ b for every entry of a batch, with something added or not."""
    a, b = (given["batch1"], given["batch2"]) if "batch1" in given else (given["self"], given["mat2"])
    numbers = _product(trace, trace.numbers(a), trace.numbers(b))
    trace.multiply(numbers, _macs(func, given, out))
    if "batch1" in given:
        numbers = trace.classes.couple(numbers.expand(out.shape), trace.numbers(given["self"]))
    trace.put(out, numbers)


def attended(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """softmax(q @ k.t() + mask) @ v: each head is one."""
    q, k, v = (trace.numbers(given[name]) for name in ("query", "key", "value"))
    trace.find_heads(q)
    if not (q.shape[:-2] == k.shape[:-2] == v.shape[:-2]) or not _varies_over_batches(trace, q):
        return mixed(trace, func, given, out)
    scores = _product(trace, q, k.transpose(-1, -2))
    mask = given.get("attn_mask", given.get("attn_bias"))
    if isinstance(mask, Tensor):
        scores = trace.classes.couple(scores, trace.numbers(mask))
    numbers = _product(trace, scores.expand(*q.shape[:-1], k.shape[-2]), v)
    trace.multiply(numbers, _macs(func, given, out))
    result, *rest = tensors_in(out)
    trace.put(result, numbers)
    for tensor in rest:
        trace.put(tensor, torch.full((), STUCK, dtype=torch.int32))


def _macs(func: Any, given: dict[str, Any], out: Any) -> int:
    """As torch's counter has it, which does not know every kernel of attention."""
    formula = flop_registry.get(func.overloadpacket)
    return 0 if formula is None else formula(*given.values(), out_val=out) // 2


def _varies_over_batches(trace: Trace, numbers: Tensor) -> bool:
    return any(dim < numbers.dim() - 2 for dim in trace.classes.varying(numbers))


def _product(trace: Trace, a: Tensor, b: Tensor) -> Tensor:
    """The channels of a @ b, (…, n, k) and (…, k, m), in a form that expands to (…, n, m).

    A sum over k positions, one factor of which always stays, is the other's channels. Whatever else is summed up goes
    with all of its batch, on both sides, or stays.
    """
    classes = trace.classes
    trace.find_heads(a)
    trace.find_heads(b)
    last = a.dim() - 1
    along_a, along_b = classes.varying(a), classes.varying(b)
    if last not in along_a and last - 1 not in along_b:
        if trace.stays(a):
            return b.amax(-2, keepdim=True)
        if trace.stays(b):
            return a.amax(-1, keepdim=True)
    batches_a, batches_b = (any(dim < last - 1 for dim in along) for along in (along_a, along_b))
    if not (batches_a or batches_b):
        classes.pin(a)
        classes.pin(b)
        return torch.full((1,) * a.dim(), STUCK, dtype=torch.int32)
    parts = []
    for numbers, varies in ((a, batches_a), (b, batches_b)):
        if varies:
            parts.append(squeezed(numbers.flatten(0, -3)).flatten(1))
        else:  # one for all batches: whole ones could not be taken from it
            classes.pin(numbers)
    together = torch.cat([part.expand(a.shape[:-2].numel(), -1) for part in parts], 1)
    classes.merge(together.unique(dim=0).tolist())
    return together.amax(1).view(*a.shape[:-2], 1, 1)
