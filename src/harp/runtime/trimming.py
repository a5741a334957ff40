"""Channels that need not exist: those that nobody reads, and those that are zero whatever the image.

A pruned layer has outputs without a weight. With a bias that the activation cuts off they are zeros, and the weights
that read them do nothing; other channels lose all their readers. At 0.1 % of the weights that is most of a network.
"""

from dataclasses import replace

import numpy as np

from harp.runtime.graph import Shape
from harp.runtime.lowering import Layer, Rows

_ALIGNED = ("activation", "affine", "max_pool", "avg_pool", "adaptive_avg_pool", "add", "mul")
"""Channel c of the result comes from channel c of the inputs."""
_ZERO_STAYS = ("none", "relu", "relu6", "leaky_relu", "silu", "hardswish", "gelu", "gelu_tanh")
_WHOLE = ("constant", "pack", "unpack", "copy", "pairwise", "elementwise", "matmul")
_WHOLE += ("rows_softmax", "rows_normalise", "rows_reduce")
"""Steps on tensors, of which nothing is left out; a tensor counts as one channel."""
_MOST_CHANNELS = 2**24
"""Of all values together. Beyond, a network stays as it is: looking for channels would take more memory than its file."""


def trim(layers: list[Layer], shapes: tuple[Shape, ...]) -> list[Layer]:
    """The same network without its needless channels; as it was where they cannot be removed consistently."""
    counts = [shapes[0][0], *(layer.channels for layer in layers)]
    if sum(counts) > _MOST_CHANNELS:
        return layers
    zeros = _zeros(layers, counts)
    layers = [_without_zeros(layer, zeros) for layer in layers]
    needed = _needed(layers, counts)
    if not _consistent(layers, needed):
        return layers
    return [_select(layer, value + 1, needed) for value, layer in enumerate(layers)]


def _zeros(layers: list[Layer], counts: list[int]) -> list[np.ndarray]:
    """For every value, which channels are always zero."""
    zeros = [np.zeros(counts[0], bool)]
    for layer, count in zip(layers, counts[1:], strict=True):
        inputs = [zeros[value] for value in layer.inputs]
        if layer.rows is not None:
            zero = _zero_outputs(layer, layer.rows, inputs[0])
            if layer.residual >= 0:
                zero &= zeros[layer.residual] & (layer.rows.bias == 0)
        elif layer.kind in ("activation", "max_pool", "avg_pool", "adaptive_avg_pool"):
            zero = inputs[0] & (layer.activation in _ZERO_STAYS)
        elif layer.kind == "add" and len({len(z) for z in inputs}) == 1:
            zero = inputs[0] & inputs[1] & (layer.activation in _ZERO_STAYS)
        elif layer.kind == "concat":
            zero = np.concatenate(inputs)
        elif layer.kind == "channels":
            zero = inputs[0][list(layer.numbers or ())]
        elif layer.kind == "flatten":
            zero = np.repeat(inputs[0], count // len(inputs[0]))
        else:
            zero = np.zeros(count, bool)
        zeros.append(zero)
    return zeros


def _zero_outputs(layer: Layer, rows: Rows, zero_inputs: np.ndarray) -> np.ndarray:
    live = ~zero_inputs[_input_channels(rows)]
    per_output = np.bincount(_outputs(rows)[live], minlength=rows.outputs)
    if layer.activation not in _ZERO_STAYS:
        return np.zeros(rows.outputs, bool)
    cut_off = rows.bias <= 0 if layer.activation in ("relu", "relu6") else rows.bias == 0
    return (per_output == 0) & cut_off


def _outputs(rows: Rows) -> np.ndarray:
    """Of every non-zero, the output it belongs to."""
    return np.repeat(np.arange(rows.outputs), np.diff(rows.starts))


def _input_channels(rows: Rows) -> np.ndarray:
    """Of every non-zero, the channel it reads."""
    channels = rows.columns // rows.window
    return channels if rows.groups == 1 else channels + _outputs(rows) // (rows.outputs // rows.groups) * rows.inputs


def _without_zeros(layer: Layer, zeros: list[np.ndarray]) -> Layer:
    if layer.rows is None or not zeros[layer.inputs[0]].any():
        return layer
    return replace(layer, rows=_filter(layer.rows, ~zeros[layer.inputs[0]][_input_channels(layer.rows)]))


def _filter(rows: Rows, stay: np.ndarray) -> Rows:
    """The rows with only those non-zeros that stay."""
    before = np.concatenate([[0], np.cumsum(stay)])
    return replace(rows, starts=before[rows.starts], columns=rows.columns[stay], values=rows.values[stay])


def _needed(layers: list[Layer], counts: list[int]) -> list[np.ndarray]:
    """For every value, which channels must stay: somebody reads them, or the same channel of a value that is tied to it.

    What stays has its own needs, so that this goes round until nothing is added.
    """
    needed = [np.zeros(count, bool) for count in counts]
    needed[0][:] = needed[-1][:] = True
    groups = _groups(layers)
    total = -1
    while total < (total := sum(int(kept.sum()) for kept in needed)):
        for value in range(len(layers), 0, -1):
            _need_inputs(layers[value - 1], needed[value], needed)
        for root in set(groups):
            members = [kept for value, kept in enumerate(needed) if groups[value] == root]
            if len({len(kept) for kept in members}) == 1:
                together = np.logical_or.reduce(members)
                for kept in members:
                    kept[:] = together
    return needed


def _need_inputs(layer: Layer, wanted: np.ndarray, needed: list[np.ndarray]) -> None:
    inputs = [needed[value] for value in layer.inputs]
    if layer.rows is not None:
        _need_rows(layer, layer.rows, wanted, needed)
    elif layer.kind == "flatten":
        inputs[0] |= wanted.reshape(len(inputs[0]), -1).any(1)
    elif layer.kind == "channels":
        inputs[0][np.array(layer.numbers)[wanted]] = True
    elif layer.kind in _ALIGNED and all(len(kept) == len(wanted) for kept in inputs):
        for kept in inputs:
            kept |= wanted
    else:
        wanted[:] = True
        for kept in inputs:
            kept[:] = True


def _need_rows(layer: Layer, rows: Rows, wanted: np.ndarray, needed: list[np.ndarray]) -> None:
    if rows.groups > 1:
        wanted[:] = True
        needed[layer.inputs[0]][:] = True
    else:
        read = _input_channels(rows)[wanted[_outputs(rows)]]
        needed[layer.inputs[0]] |= np.bincount(read, minlength=rows.inputs) > 0
    if layer.residual >= 0:
        needed[layer.residual] |= wanted


def _groups(layers: list[Layer]) -> list[int]:
    """For every value, a number shared by all whose channels must be the same."""
    parent = list(range(len(layers) + 1))

    def root(value: int) -> int:
        while parent[value] != value:
            value = parent[value]
        return value

    for value, layer in enumerate(layers, 1):
        tied = [layer.residual] if layer.residual >= 0 else []
        tied += layer.inputs if layer.kind in _ALIGNED else []
        for other in tied:
            parent[root(other)] = root(value)
    return [root(value) for value in range(len(parent))]


def _consistent(layers: list[Layer], needed: list[np.ndarray]) -> bool:
    """Whether what is kept of a result is what its layer can make from what is kept of its inputs, and never nothing."""
    if not all(kept.any() for kept in needed):
        return False
    for value, layer in enumerate(layers, 1):
        kept = [needed[v] for v in layer.inputs]
        if layer.kind == "flatten":
            right = np.array_equal(np.repeat(kept[0], len(needed[value]) // len(kept[0])), needed[value])
        elif layer.kind == "concat":
            right = np.array_equal(np.concatenate(kept), needed[value])
        elif layer.kind == "channels":
            right = bool(kept[0][np.array(layer.numbers)[needed[value]]].all())
        elif layer.kind in _WHOLE:
            right = needed[value].all() and all(k.all() for k in kept)
        elif layer.rows is not None:
            right = layer.rows.groups == 1 or (kept[0].all() and needed[value].all())
        else:
            right = all(np.array_equal(k, needed[value]) for k in kept)
        if not right:
            return False
    return True


def _select(layer: Layer, value: int, needed: list[np.ndarray]) -> Layer:
    kept = needed[value]
    channels = int(kept.sum())
    if layer.rows is not None:
        return replace(layer, channels=channels, rows=_select_rows(layer.rows, kept, needed[layer.inputs[0]]))
    if layer.kind == "channels":
        place = np.cumsum(needed[layer.inputs[0]]) - 1
        numbers = tuple(int(i) for i in place[np.array(layer.numbers)[kept]])
        return replace(layer, channels=channels, numbers=numbers)
    if layer.scale is not None and layer.shift is not None:
        return replace(layer, channels=channels, scale=layer.scale[kept], shift=layer.shift[kept])
    return replace(layer, channels=channels)


def _select_rows(rows: Rows, outputs: np.ndarray, inputs: np.ndarray) -> Rows:
    if outputs.all() and inputs.all():
        return rows
    rows = _filter(rows, outputs[_outputs(rows)])
    lengths = np.diff(rows.starts)[outputs]
    place = np.cumsum(inputs) - 1
    columns = place[rows.columns // rows.window] * rows.window + rows.columns % rows.window
    return Rows(
        inputs=int(inputs.sum()),
        groups=1,
        window=rows.window,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        columns=columns.astype(np.int32),
        values=rows.values,
        bias=rows.bias[outputs],
    )
