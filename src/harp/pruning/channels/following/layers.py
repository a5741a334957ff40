"""Layers: what norms, linear layers and convolutions read and write."""

from typing import Any

import torch
from torch import Tensor

from harp.pruning.channels.following.combining import mixed
from harp.pruning.channels.following.tracing import Trace


def batch_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    numbers = trace.numbers(given["input"])
    along = (1, -1) + (1,) * (numbers.dim() - 2)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]).view(along))
    trace.put(out[0], numbers)


def layer_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """Mean and variance over all channels: without one of them the others would change."""
    numbers = trace.numbers(given["input"])
    trace.classes.blend(numbers, range(-len(given["normalized_shape"]), 0))
    for name in ("weight", "bias"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]))
    trace.put(out[0], numbers)


def group_norm(trace: Trace, func: Any, given: dict[str, Any], out: Any) -> None:
    """The channels of one group share mean and variance, so they go together."""
    numbers = trace.numbers(given["input"])
    if not isinstance(given.get("weight"), Tensor):  # the module could not be told how many groups are left
        trace.classes.pin(numbers)
    channels = trace.classes.blend(numbers, [d for d in range(numbers.dim()) if d != 1]).flatten()
    trace.classes.merge(channels.view(given["group"], -1).tolist())
    along = (1, -1) + (1,) * (numbers.dim() - 2)
    for name in ("weight", "bias"):
        if isinstance(given.get(name), Tensor):
            numbers = trace.classes.couple(numbers, trace.numbers(given[name]).view(along))
    trace.put(out[0], numbers)


def linear(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    """x @ weight.t(), with a bias or without."""
    x = given.get("mat1", given.get("self"))
    assert x is not None
    name = trace.weight_in(given["mat2"], transposed=True)
    if name is None:
        if trace.calling == "linear":
            trace.give_up(given["mat2"], out.shape[1])
        return mixed(trace, func, given, out)
    inputs = trace.classes.blend(trace.numbers(x), [0]).flatten()
    written = _apply(trace, name, inputs, out.shape[1], reads_on=1, writes_on=0, positions=x.shape[0])
    if "mat1" in given:
        written = trace.classes.couple(written, trace.numbers(given["self"]))
    trace.put(out, written)


def convolution(trace: Trace, func: Any, given: dict[str, Any], out: Tensor) -> None:
    x, weight, groups = given["input"], given["weight"], given["groups"]
    name = trace.weight_in(weight)
    if name is None:
        trace.give_up(weight, out.shape[1])
        return mixed(trace, func, given, out)
    reads_on, writes_on = (0, 1) if given["transposed"] else (1, 0)
    numbers = trace.numbers(x)
    trace.find_channels(numbers)
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
    trace.apply(name, positions)
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
    trace.classes.merge(torch.cat([inputs.view(groups, -1), written.view(groups, -1)], 1).tolist())
    trace.apply(name, positions)
    return written


def _apply_inside_groups(
    trace: Trace, name: str, inputs: Tensor, outputs: int, groups: int, positions: int, *, transposed: bool
) -> Tensor:
    """Few wide groups: every group loses the same of its inputs, and the same of its outputs."""
    trace.classes.merge(inputs.view(groups, -1).T.tolist())
    reads = inputs if transposed else inputs.view(groups, -1)[0]
    written = trace.written.setdefault(name, trace.classes.fresh(outputs))
    trace.classes.merge(written.view(groups, -1).T.tolist())
    rows = written.view(groups, -1)[0] if transposed else written
    on = (0, 1) if transposed else (1, 0)
    if name in trace.positions:
        trace.classes.couple(trace.axes[name, on[0]], reads)
    else:
        trace.axes[name, on[1]], trace.axes[name, on[0]] = rows.clone(), reads.clone()
        trace.readers[name], trace.writers[name] = on
    trace.apply(name, positions)
    return written
