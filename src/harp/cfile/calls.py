"""What each kind of layer is in C: its constants, the calls that compute it, and the functions that these need."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from harp.cfile.literals import comment_text, number, table
from harp.cfile.network import Size, convolved
from harp.cfile.storing import Stored
from harp.runtime.lowering import Layer, Rows


@dataclass(frozen=True)
class Step:
    """One layer with all it meets, its memory as expressions of C."""

    number: int
    layer: Layer
    stored: Stored | None
    sizes: tuple[Size, ...]
    """Of its inputs."""
    size: Size
    inputs: tuple[str, ...]
    residual: str | None
    scratch: str | None
    out: str

    @property
    def count(self) -> int:
        return math.prod(self.size)

    @property
    def about(self) -> str:
        name = f" {self.layer.name}" if self.layer.name else ""
        shapes = f"{_shape(self.sizes[0])} to {_shape(self.size)}"
        return comment_text(f"{self.number}{name}: {self.layer.kind}, {shapes}{self._weights()}")

    def _weights(self) -> str:
        rows = self.layer.rows
        if rows is None:
            return ""
        return f", {len(rows.values):,} of {rows.outputs * rows.inputs * rows.window:,} weights"


@dataclass(frozen=True)
class Code:
    """Text of C, and the names of the files in parts/ that it needs."""

    statements: list[str]
    parts: set[str]
    constants: str = ""


def call_of(step: Step) -> Code:
    """How a step is computed."""
    call = _WRITERS[step.layer.kind](step)
    constants = f"/* {step.about} */\n{call.constants}\n" if call.constants else ""
    return Code([f"/* {step.about} */", *call.statements], call.parts, constants)


def _conv(step: Step) -> Code:
    call = _linear(step) if _is_linear(step) else _convolution(step)
    if step.residual is None or step.residual == step.out:
        return call
    before = [f"copy({step.residual}, {step.count}, {step.out});"]
    return Code(before + call.statements, {*call.parts, "copy"}, call.constants)


def _is_linear(step: Step) -> bool:
    """Whether a window covers the whole map: its places are then those of the map in memory."""
    a, size = step.layer.attributes, step.sizes[0]
    padded, spread = a.get("padding", (0, 0)) != (0, 0), a.get("dilation", (1, 1)) != (1, 1)
    whole = a["kernel"] == size[1:] and not padded and (not spread or a["kernel"] == (1, 1))
    return whole and a.get("groups", 1) == 1 and step.size[1:] == (1, 1)


def _linear(step: Step) -> Code:
    rows = _rows(step)
    fields = {"inputs": rows.inputs * rows.window, "outputs": rows.outputs}
    residual = int(step.residual is not None)
    statements = [f"weigh(&layer_{step.number}, {step.inputs[0]}, {residual}, {step.out});"]
    activated, parts = _activated(step)
    return Code(statements + activated, {"linear", *parts}, _weights(step, "linear", fields))


def _convolution(step: Step) -> Code:
    rows, a, size = _rows(step), step.layer.attributes, step.sizes[0]
    height, width = convolved(step.layer, size)
    fields = {"height": size[1], "width": size[2], "rows": height, "columns": width, "outputs": rows.outputs}
    fields |= {"inputs": rows.inputs, "outputs_per_group": rows.outputs // rows.groups}
    fields |= _window(a)
    fields |= dict(zip(("dilation_down", "dilation_across"), a.get("dilation", (1, 1)), strict=True))
    function, slope, parts = _function(step.layer)
    constants = _weights(step, "convolution", fields)
    if step.layer.pool:
        given = f"{step.inputs[0]}, {function}, {slope}, {step.scratch}, {step.out}"
        return Code([f"convolve_and_halve(&layer_{step.number}, {given});"], {"convolution_pooled", *parts}, constants)
    given = f"{step.inputs[0]}, {int(step.residual is not None)}, {function}, {slope}, {step.out}"
    return Code([f"convolve(&layer_{step.number}, {given});"], {"convolution", *parts}, constants)


def _window(attributes: Mapping[str, Any]) -> dict[str, int]:
    of = {"stride": (1, 1), "padding": (0, 0), **attributes}
    fields: dict[str, int] = {}
    fields |= dict(zip(("kernel_height", "kernel_width"), of["kernel"], strict=True))
    for key in ("stride", "padding"):
        fields |= dict(zip((f"{key}_down", f"{key}_across"), of[key], strict=True))
    return fields


def _weights(step: Step, kind: str, fields: dict[str, int]) -> str:
    stored, n = step.stored, step.number
    assert stored is not None
    given = {"values": f"values_{n}", "bias": f"bias_{n}", "count": f"{len(stored.values)}u"}
    text = ""
    if stored.gaps is not None:
        text += table("uint8_t", f"gaps_{n}", map(str, stored.gaps.tolist()))
        given["gaps"] = f"gaps_{n}"
    text += table("stored_weight", f"values_{n}", _values(stored.values))
    if stored.scales is not None:
        text += table("uint16_t", f"scales_{n}", map(_hex, stored.scales.tolist()))
        given["scales"] = f"scales_{n}"
    text += table("float", f"bias_{n}", map(number, stored.bias.tolist()))
    order = ("gaps", "values", "scales", "bias", "count")
    inner = ", ".join(f".{key} = {given.get(key, '0')}" for key in order)
    rest = "".join(f"    .{key} = {value},\n" for key, value in fields.items())
    return f"{text}static const struct {kind} layer_{n} = {{\n    .weights = {{{inner}}},\n{rest}}};\n"


def _values(values: np.ndarray) -> list[str]:
    if values.dtype == np.float16:
        return [_hex(bits) for bits in values.view(np.uint16).tolist()]
    return [number(value) if values.dtype == np.float32 else str(value) for value in values.tolist()]


def _hex(bits: int) -> str:
    return f"0x{bits:04x}"


def _function(layer: Layer) -> tuple[str, str, set[str]]:
    """An activation as arguments of a call."""
    if layer.activation == "none":
        return "0", "0.0f", set()
    return layer.activation, number(layer.slope), {layer.activation}


def _activated(step: Step) -> tuple[list[str], set[str]]:
    """An activation as a call of its own."""
    function, slope, parts = _function(step.layer)
    return ([f"{function}({step.out}, {step.count}, {slope});"] if parts else []), parts


def _activation(step: Step) -> Code:
    statements, parts = _activated(step)
    if step.inputs[0] == step.out:
        return Code(statements, parts)
    return Code([f"copy({step.inputs[0]}, {step.count}, {step.out});", *statements], {"copy", *parts})


def _affine(step: Step) -> Code:
    layer, n = step.layer, step.number
    assert layer.scale is not None
    assert layer.shift is not None
    tables = (("scale", layer.scale), ("shift", layer.shift))
    constants = "".join(table("float", f"{name}_{n}", map(number, values.tolist())) for name, values in tables)
    given = f"scale_{n}, shift_{n}, {step.size[0]}, {_plane(step.size)}, {step.inputs[0]}, {step.out}"
    activated, parts = _activated(step)
    return Code([f"affine({given});", *activated], {"affine", *parts}, constants)


def _pair(step: Step) -> Code:
    """Of equal sizes, or one of them is a number per channel."""
    name, (a, b), sizes = step.layer.kind, step.inputs, step.sizes
    if sizes[0] == sizes[1]:
        statement, part = f"{name}({a}, {b}, {step.count}, {step.out});", name
    else:
        whole, numbers = (a, b) if sizes[0] == step.size else (b, a)
        part = f"{name}_per_channel"
        statement = f"{part}({whole}, {numbers}, {step.size[0]}, {_plane(step.size)}, {step.out});"
    activated, parts = _activated(step)
    return Code([statement, *activated], {part, *parts})


def _pool(step: Step) -> Code:
    size, n = step.sizes[0], step.number
    fields = {"channels": size[0], "height": size[1], "width": size[2], "rows": step.size[1], "columns": step.size[2]}
    fields |= _window(step.layer.attributes)
    inner = "".join(f"    .{key} = {value},\n" for key, value in fields.items())
    constants = f"static const struct window layer_{n} = {{\n{inner}}};\n"
    counted = f"{int(step.layer.attributes['count_padding'])}, " if step.layer.kind == "avg_pool" else ""
    statement = f"{step.layer.kind}(&layer_{n}, {counted}{step.inputs[0]}, {step.out});"
    return Code([statement], {step.layer.kind}, constants)


def _adaptive(step: Step) -> Code:
    given = ", ".join(map(str, (*step.sizes[0], *step.size[1:])))
    return Code([f"adaptive_avg_pool({given}, {step.inputs[0]}, {step.out});"], {"adaptive_avg_pool"})


def _softmax(step: Step) -> Code:
    given = f"{step.size[0]}, {_plane(step.size)}, {step.inputs[0]}, {step.out}"
    return Code([f"softmax({given});"], {"softmax"})


def _concat(step: Step) -> Code:
    statements, begin = [], 0
    for text, size in zip(step.inputs, step.sizes, strict=True):
        statements.append(f"copy({text}, {math.prod(size)}, {step.out} + {begin});")
        begin += math.prod(size)
    return Code(statements, {"copy"})


def _flatten(step: Step) -> Code:
    if step.inputs[0] == step.out:
        return Code([], set())
    return Code([f"copy({step.inputs[0]}, {step.count}, {step.out});"], {"copy"})


def _rows(step: Step) -> Rows:
    assert step.layer.rows is not None
    return step.layer.rows


def _plane(size: Size) -> int:
    return size[1] * size[2]


def _shape(size: Size) -> str:
    return " x ".join(map(str, size if size[1:] != (1, 1) else size[:1]))


_WRITERS: dict[str, Callable[[Step], Code]] = {
    "conv": _conv,
    "activation": _activation,
    "affine": _affine,
    "add": _pair,
    "mul": _pair,
    "max_pool": _pool,
    "avg_pool": _pool,
    "adaptive_avg_pool": _adaptive,
    "softmax": _softmax,
    "concat": _concat,
    "flatten": _flatten,
}
