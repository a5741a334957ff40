"""What each operation of torch does to channels. An operation that is not listed is an error: guessing would be one."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .classes import STUCK, squeezed
from .tracing import Trace

Rule = Callable[[Trace, Any, dict[str, Any], Any], None]
"""``(trace, operation, arguments by name, result)``"""

MADE = """empty empty_like empty_permuted empty_strided new_empty new_empty_strided zeros zeros_like new_zeros ones
ones_like new_ones full full_like new_full arange linspace eye scalar_tensor rand randn rand_like randn_like bernoulli
randint randperm as_strided_ resize_ fill_ zero_""".split()
"""No channels come of these, or the numbers lie right already."""
RESHAPED = "view _unsafe_view _reshape_alias unflatten".split()
CUT = "split split_with_sizes slice select unbind narrow diagonal unfold as_strided".split()
EACH_ENTRY = "_prelu_kernel hardswish hardswish_ _to_copy native_dropout dropout clone contiguous softplus log_sigmoid_forward".split()
"""Entry by entry, though torch's tag does not say so."""
MOVED = """cat stack reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d flip repeat repeat_interleave tril triu""".split()
TAKEN = "index index_select gather roll".split()
"""By places that are written down: the channels among which they choose must all stay."""
MIXED = """mm addmm bmm baddbmm mv dot embedding _scaled_dot_product_flash_attention_for_cpu
_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
_scaled_dot_product_attention_math _native_multi_head_attention _transformer_encoder_layer_fwd
_local_scalar_dense""".split()
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
REDUCED = """mean sum amax amin max min prod var std var_mean std_mean linalg_vector_norm norm logsumexp argmax argmin
all any""".split()


def follow(trace: Trace, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Write down where the channels of an operation's result come from. Raises ValueError when nothing is known of it."""
    name = func.overloadpacket.__name__
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    rule = RULES.get(name)
    if rule is None and func.is_view:
        return  # the numbers lie right already
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = _each_entry
    if rule is None and trace.in_excluded_part:
        rule = _mixed
    if rule is None and not _moves_channels(trace, given):
        return  # constants among themselves
    if rule is None:
        raise ValueError(_complaint(trace, name))
    rule(trace, func, given, out)


def _complaint(trace: Trace, name: str) -> str:
    module = next((inside for inside in reversed(trace.inside) if inside), "")
    what = f"channels cannot be followed through the operation {name!r} in {module or 'the model itself'}"
    if module:
        return f"{what}; leave that part out: exclude=['{module}', '{module}.*']"
    return f"{what}; put it into a module of its own and leave that out, e.g. exclude=['head']"


def _moves_channels(trace: Trace, given: dict[str, Any]) -> bool:
    return any(bool((trace.numbers(t) != 0).any()) for t in _floats(given))


def _floats(given: Any) -> list[Tensor]:
    return [t for t in tree_leaves(given) if isinstance(t, Tensor) and t.is_floating_point()]


def _tensors(out: Any) -> list[Tensor]:
    return [t for t in tree_leaves(out) if isinstance(t, Tensor)]


def _nothing(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    pass


def _each_entry(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers = [trace.numbers(t) for t in tree_leaves(given) if isinstance(t, Tensor)]
    result = numbers[0]
    for more in numbers[1:]:
        result = trace.classes.couple(result, more)
    for tensor in _tensors(out):
        trace.put(tensor, result)


def _copied(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    trace.put(out, trace.numbers(given["src"]))


def _moved(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    def lie(value: Any) -> Any:
        # As floats: not every padding knows integers, and these are exact up to 2**53.
        return (
            trace.numbers(value).double() if isinstance(value, Tensor) and value.dtype != torch.long and value.dtype != torch.bool else value
        )

    moved = func(**tree_map(lie, given))
    for tensor, numbers in zip(_tensors(out), _tensors(moved), strict=True):
        trace.put(tensor, numbers.int())


def _reshaped(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """A dimension of channels that becomes two, groups and what is in them: every group loses the same."""
    along = trace.classes.varying(trace.numbers(out))
    if len(along) < 2 or len(along) <= len(trace.classes.varying(trace.numbers(given["self"]))):
        return
    numbers = squeezed(trace.numbers(out))
    if len(along) > 2:
        trace.classes.pin(numbers)
        return
    groups = numbers.movedim(along[0], 0).flatten(1)
    for together in groups.T.tolist():
        trace.classes.merge(together)


def _cut(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """A part of a dimension, at places that are written down: all channels stay. Of a chunk, the parts shrink alike."""
    pieces, whole = _tensors(out), trace.numbers(given["self"])
    if all(piece.shape == whole.shape for piece in pieces):
        return
    parts = [trace.numbers(piece) for piece in pieces]
    if trace.calling == "chunk" and len({part.shape for part in parts}) == 1:
        for together in torch.stack([squeezed(part).flatten() for part in parts]).T.tolist():
            trace.classes.merge(together)
    elif given.get("dim", 0) % whole.dim() in trace.classes.varying(whole):
        trace.classes.pin(whole)


def _taken(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    numbers = trace.numbers(given["self"])
    dims = given.get("dim", given.get("dims", []))
    if "indices" in given:
        dims = [dim for dim, index in enumerate(given["indices"]) if index is not None]
    dims = {dim % numbers.dim() for dim in ([dims] if isinstance(dims, int) else dims)}
    if dims & {*trace.classes.varying(numbers)}:
        trace.classes.pin(numbers)
    _moved(trace, func, given, out)


def _padded(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
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


def _shuffled(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """Channels become pixels, or pixels channels: those of one pixel block go together."""
    numbers, factor = trace.numbers(given["self"]), given.get("upscale_factor", given.get("downscale_factor"))
    if "upscale_factor" in given:
        channels = trace.classes.blend(numbers, [d for d in range(numbers.dim()) if d != numbers.dim() - 3]).flatten()
        for together in channels.view(-1, factor**2).tolist():
            trace.classes.merge(together)
    _moved(trace, func, given, out)


def _mixed(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    for tensor in _floats(given):
        trace.classes.pin(trace.numbers(tensor))
    for tensor in _tensors(out):
        trace.put(tensor, torch.full((), STUCK, dtype=torch.int32))


def _pooled(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    dims = POOLED[func.overloadpacket.__name__]
    numbers = trace.classes.blend(trace.numbers(next(iter(given.values()))), range(-dims, 0))
    for tensor in _tensors(out):
        trace.put(tensor, numbers)


def _reduced(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers, dims = trace.numbers(given["self"]), given.get("dim")
    if "other" in given:  # max and min of two tensors
        return _each_entry(trace, func, given, out)
    dims = range(numbers.dim()) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    numbers = trace.classes.blend(numbers, dims)
    if not given.get("keepdim", False):
        for dim in sorted((dim % max(numbers.dim(), 1) for dim in dims), reverse=True):
            numbers = numbers.squeeze(dim) if numbers.dim() else numbers
    for tensor in _tensors(out):
        trace.put(tensor, numbers)


def _softmax(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    numbers = trace.numbers(given["self"])
    trace.classes.blend(numbers, [given["dim"]])
    trace.put(out, numbers)


def _glu(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    first, second = trace.numbers(given["self"]).chunk(2, given.get("dim", -1))
    trace.put(out, trace.classes.couple(first, second))


def _batch_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers = trace.numbers(given["input"])
    along = (1, -1) + (1,) * (numbers.dim() - 2)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]).view(along))
    trace.put(out[0], numbers)


def _layer_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """Mean and variance over all channels: without one of them the others would change."""
    numbers = trace.numbers(given["input"])
    trace.classes.blend(numbers, range(-len(given["normalized_shape"]), 0))
    for name in ("weight", "bias"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]))
    trace.put(out[0], numbers)


def _group_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """The channels of one group share mean and variance, so they go together."""
    numbers = trace.numbers(given["input"])
    if not isinstance(given.get("weight"), Tensor):  # the module could not be told how many groups are left
        trace.classes.pin(numbers)
    channels = trace.classes.blend(numbers, [d for d in range(numbers.dim()) if d != 1]).flatten()
    for together in channels.view(given["group"], -1).tolist():
        trace.classes.merge(together)
    along = (1, -1) + (1,) * (numbers.dim() - 2)
    for name in ("weight", "bias"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]).view(along))
    trace.put(out[0], numbers)


def _linear(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """x @ weight.t(), with a bias or without."""
    x = given.get("mat1", given.get("self"))
    assert x is not None
    name = trace.weight_in(given["mat2"], transposed=True)
    if name is None:
        return _mixed(trace, func, given, out)
    inputs = trace.classes.blend(trace.numbers(x), [0]).flatten()
    written = _apply(trace, name, inputs, out.shape[1], reads_on=1, writes_on=0, positions=x.shape[0])
    if "mat1" in given:
        written = trace.classes.couple(written, trace.numbers(given["self"]))
    trace.put(out, written)


def _convolution(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    x, weight, groups = given["input"], given["weight"], given["groups"]
    name = trace.weight_in(weight)
    if name is None:
        return _mixed(trace, func, given, out)
    reads_on, writes_on = (0, 1) if given["transposed"] else (1, 0)
    numbers = trace.numbers(x)
    inputs = trace.classes.blend(numbers, [d for d in range(numbers.dim()) if d != 1]).flatten()
    positions = (x if given["transposed"] else out).shape[2:].numel() * x.shape[0]
    outputs = out.shape[1]
    if groups == 1:
        written = _apply(trace, name, inputs, outputs, reads_on, writes_on, positions)
    elif groups >= len(inputs) // groups:
        written = _apply_whole_groups(trace, name, inputs, outputs, groups, positions, transposed=given["transposed"])
    else:
        written = _apply_inside_groups(trace, name, inputs, outputs, groups, positions, transposed=given["transposed"])
    if isinstance(given["bias"], Tensor):
        written = trace.classes.couple(written, trace.numbers(given["bias"]))
    trace.put(out, written.view((1, -1) + (1,) * (out.dim() - 2)))


def _apply(
    trace: Trace, name: str, inputs: Tensor, outputs: int, reads_on: int, writes_on: int, positions: int
) -> Tensor:
    """Note what a weight reads and on how many positions; the channels that it writes, the same whenever it is used."""
    if name in trace.positions:  # used before: it reads, entry by entry, the one and the other
        trace.classes.couple(trace.axes[name, reads_on], inputs)
    else:
        trace.axes[name, writes_on] = trace.classes.fresh(outputs)
        trace.axes[name, reads_on] = inputs.clone()
        trace.readers[name], trace.writers[name] = reads_on, writes_on
    trace.positions[name] = trace.positions.get(name, 0) + positions
    return trace.axes[name, writes_on]


def _apply_whole_groups(
    trace: Trace, name: str, inputs: Tensor, outputs: int, groups: int, positions: int, *, transposed: bool
) -> Tensor:
    """Depth-wise and its like: what a group reads and writes goes together, and the weight masks nothing itself."""
    if name not in trace.positions:
        trace.axes[name, 0] = inputs.clone() if transposed else trace.classes.fresh(outputs)
        trace.written[name] = trace.classes.fresh(outputs) if transposed else trace.axes[name, 0]
        trace.writers[name] = 0
        trace.whole.add(name)
    written = trace.written[name]
    for reads, writes in zip(inputs.view(groups, -1).tolist(), written.view(groups, -1).tolist(), strict=True):
        trace.classes.merge([*reads, *writes])
    trace.positions[name] = trace.positions.get(name, 0) + positions
    return written


def _apply_inside_groups(
    trace: Trace, name: str, inputs: Tensor, outputs: int, groups: int, positions: int, *, transposed: bool
) -> Tensor:
    """Few wide groups: every group loses the same of its inputs, and the same of its outputs."""
    for together in inputs.view(groups, -1).T.tolist():
        trace.classes.merge(together)
    reads = inputs if transposed else inputs.view(groups, -1)[0]
    written = trace.written.setdefault(name, trace.classes.fresh(outputs))
    for together in written.view(groups, -1).T.tolist():
        trace.classes.merge(together)
    rows = written.view(groups, -1)[0] if transposed else written
    on = (0, 1) if transposed else (1, 0)
    if name in trace.positions:
        trace.classes.couple(trace.axes[name, on[0]], reads)
    else:
        trace.axes[name, on[1]], trace.axes[name, on[0]] = rows.clone(), reads.clone()
        trace.readers[name], trace.writers[name] = on
    trace.positions[name] = trace.positions.get(name, 0) + positions
    return written


def _rules() -> dict[str, Rule]:
    def each(names: Iterable[str], rule: Rule) -> dict[str, Rule]:
        return dict.fromkeys(names, rule)

    return {
        **each(MADE, _nothing),
        **each(EACH_ENTRY, _each_entry),
        **each(RESHAPED, _reshaped),
        **each(CUT, _cut),
        **each(MOVED, _moved),
        **each(TAKEN, _taken),
        **each(["pixel_shuffle", "pixel_unshuffle"], _shuffled),
        "constant_pad_nd": _padded,
        **each(MIXED, _mixed),
        **each(POOLED, _pooled),
        **each(REDUCED, _reduced),
        **each(["_softmax", "_log_softmax"], _softmax),
        **each(["native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit"], _batch_norm),
        **each(["cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_no_update"], _batch_norm),
        **each(["mm", "addmm"], _linear),
        "native_layer_norm": _layer_norm,
        "native_group_norm": _group_norm,
        "convolution": _convolution,
        "copy_": _copied,
        "glu": _glu,
    }


RULES = _rules()
