"""The text of a header: what goes in and comes out, how images become inputs, what it takes."""

import math
import textwrap
from typing import Any

from harp.cfile.literals import comment_text
from harp.cfile.network import Network
from harp.runtime.classifying import preprocessing_in

_WIDTH = 108


def header_text(network: Network, name: str, card: dict[str, Any], classes: tuple[str, ...] | None) -> str:
    """Raises ValueError where the card describes images in a way that this harp does not know."""
    channels, height, width = network.sizes[0]
    upper = name.upper()
    constants = {"CHANNELS": channels, "HEIGHT": height, "WIDTH": width, "INPUTS": channels * height * width}
    constants |= {"OUTPUTS": math.prod(network.output), "CONSTANT_BYTES": network.constant_bytes}
    constants |= {"ARENA_BYTES": network.arena_bytes}
    paragraphs = [*_about(network, name, card), *_input(network, name, card), *_result(network, classes)]
    return "\n".join(
        [
            _comment(paragraphs),
            f"#ifndef {upper}_H\n#define {upper}_H\n\n#include <stdint.h>\n",
            "".join(f"#define {upper}_{key} {value}\n" for key, value in constants.items()),
            '#ifdef __cplusplus\nextern "C" {\n#endif\n',
            _declarations(network, name, classes),
            "#ifdef __cplusplus\n}\n#endif\n\n#endif\n",
        ]
    )


def _about(network: Network, name: str, card: dict[str, Any]) -> list[str]:
    title = card.get("name")
    kept = sum(len(layer.rows.values) for layer in network.layers if layer.rows is not None)
    return [
        f"{title if isinstance(title, str) else name}. Written by `harp export --format c`; change the network, not this file.",
        f"{kept:,} weights as {_KINDS[network.values]}: {network.constant_bytes:,} bytes of constants with their gaps and "
        f"biases, and {network.arena_bytes:,} bytes of static memory. Nothing is allocated, and no global state of the "
        "floating-point unit is changed. One call at a time: two would write to the same memory.",
    ]


_KINDS = {"f32": "32-bit floats", "f16": "16-bit floats", "int8": "8-bit integers with a scale per output"}


def _input(network: Network, name: str, card: dict[str, Any]) -> list[str]:
    channels, height, width = network.sizes[0]
    how = preprocessing_in(card)
    order = {1: "one channel, grey", 3: "three channels, red, green, blue"}.get(channels, f"{channels} channels")
    recorded = "is not recorded in the file" if how is None else f"in training: {how}"
    return [
        f"Input: {order}, {height} rows of {width} pixels. image[(channel * {height} + row) * {width} + column] is a float in "
        "[0, 1]: an 8-bit value divided by 255. Nothing else is to be done to it; a normalisation of the images, if there "
        f"is one, is part of the network. {name}_pixels() makes this of 8-bit pixels in the order (row, column, channel).",
        f"How an image file becomes these pixels {recorded}.",
    ]


def _result(network: Network, classes: tuple[str, ...] | None) -> list[str]:
    shape = " x ".join(map(str, network.output))
    if len(network.output) != 1:
        return [f"Result: {shape} floats (channels, rows, columns)."]
    if classes is None:
        return [f"Result: {shape} floats, one per class; the file carries no names of classes."]
    named = ", ".join(f"{number}: {each}" for number, each in enumerate(classes))
    return [f"Result: {shape} floats, one per class, the largest for the most likely: {named}."]


def _comment(paragraphs: list[str]) -> str:
    lines: list[str] = []
    for paragraph in paragraphs:
        wrapped = textwrap.wrap(comment_text(paragraph), _WIDTH, break_long_words=True, break_on_hyphens=False)
        lines += ["", *wrapped]
    return "/*" + "\n *".join(f" {line}".rstrip() for line in lines[1:]) + "\n */"


def _declarations(network: Network, name: str, classes: tuple[str, ...] | None) -> str:
    upper = name.upper()
    text = f"""\
/* image: {upper}_INPUTS floats, which stay as they are; result: {upper}_OUTPUTS floats. */
void {name}_run(const float* image, float* result);

/* pixels: {upper}_INPUTS bytes in the order (row, column, channel); image: as {name}_run() takes it. */
void {name}_pixels(const uint8_t* pixels, float* image);
"""
    if len(network.output) == 1:
        text += f"\n/* The place of the largest result, the first of equal ones. */\nint {name}_class(const float* result);\n"
        if classes is not None:
            text += f"\n/* In UTF-8. */\nextern const char* const {name}_classes[{upper}_OUTPUTS];\n"
    return text
