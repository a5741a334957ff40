"""The text of a C file: the functions of parts/ that it needs, its constants, and one call after the other."""

from functools import cache
from pathlib import Path

from harp.cfile.arena import IMAGE, RESULT
from harp.cfile.calls import Code, Step, call_of
from harp.cfile.literals import string
from harp.cfile.network import Network

PARTS = Path(__file__).with_name("parts")
_ORDER = (
    *("stored", "values", "weights", "activation", "larger", "copy", "relu", "relu6", "leaky_relu", "sigmoid", "silu"),
    *("hardsigmoid", "hardswish", "gelu", "gelu_tanh", "convolution", "convolution_pooled", "linear", "affine"),
    *("add", "add_per_channel", "mul", "mul_per_channel", "softmax", "window", "max_pool", "avg_pool"),
    "adaptive_avg_pool",
)
"""C needs a function before it is called."""
_NEEDS = {
    "values": ("stored",),
    "weights": ("values",),
    "convolution": ("weights", "activation"),
    "convolution_pooled": ("convolution", "larger"),
    "linear": ("weights",),
    "softmax": ("larger",),
    "max_pool": ("window", "larger"),
    "avg_pool": ("window",),
}
_OF_MATH = {"sigmoid", "silu", "gelu", "gelu_tanh", "softmax"}


def source_text(network: Network, name: str, header: str, classes: tuple[str, ...] | None) -> str:
    """The C file whose functions begin with ``name``, and which includes the file ``header``."""
    calls = [call_of(step) for step in _steps(network)]
    needed = _with_needs({part for call in calls for part in call.parts})
    includes = ["#include <stdint.h>"] + (["#include <math.h>"] if needed & _OF_MATH else [])
    blocks = [
        f'#include "{header}"\n\n' + "\n".join(reversed(includes)) + "\n",
        *(_part(f"{part}_{network.values}" if part == "values" else part) for part in _ORDER if part in needed),
        *(call.constants for call in calls if call.constants),
        f"static float arena[{max(1, network.arena.size)}];\n" if _uses_arena(network) else "",
        _run(name, calls),
        _pixels(name, network),
        _class(name, network, classes),
    ]
    return "\n".join(block.strip("\n") + "\n" for block in blocks if block)


def _steps(network: Network) -> list[Step]:
    steps = []
    for place, (layer, stored) in enumerate(zip(network.layers, network.stored, strict=True)):
        scratch = network.arena.scratch.get(place)
        step = Step(
            number=place + 1,
            layer=layer,
            stored=stored,
            sizes=tuple(network.sizes[value] for value in layer.inputs),
            size=network.sizes[place + 1],
            inputs=tuple(_memory(network, value) for value in layer.inputs),
            residual=None if layer.residual < 0 else _memory(network, layer.residual),
            scratch=None if scratch is None else _arena(scratch),
            out=_memory(network, place + 1),
        )
        steps.append(step)
    return steps


def _memory(network: Network, value: int) -> str:
    place = network.arena.places[value]
    return {IMAGE: "image", RESULT: "result"}.get(place) or _arena(place)


def _arena(place: int) -> str:
    return f"arena + {place}" if place else "arena"


def _uses_arena(network: Network) -> bool:
    return network.arena.size > 0


def _with_needs(parts: set[str]) -> set[str]:
    needed, wanted = set(), list(parts)
    while wanted:
        part = wanted.pop()
        needed.add(part)
        wanted += _NEEDS.get(part, ())
    return needed


@cache
def _part(name: str) -> str:
    return (PARTS / f"{name}.c").read_text(encoding="utf-8")


def _run(name: str, calls: list[Code]) -> str:
    lines = [f"  {line}" for call in calls for line in call.statements]
    return f"void {name}_run(const float* image, float* result) {{\n" + "\n".join(lines) + "\n}\n"


def _pixels(name: str, network: Network) -> str:
    channels, height, width = network.sizes[0]
    return f"""\
void {name}_pixels(const uint8_t* pixels, float* image) {{
  int32_t channel, i;
  for (channel = 0; channel < {channels}; channel++) {{
    for (i = 0; i < {height * width}; i++) *image++ = (float)pixels[i * {channels} + channel] / 255.0f;
  }}
}}
"""


def _class(name: str, network: Network, classes: tuple[str, ...] | None) -> str:
    """Which output is the largest, and the names; nothing for a network that gives maps."""
    if len(network.output) != 1:
        return ""
    count = network.output[0]
    text = f"""\
int {name}_class(const float* result) {{
  int best = 0, i;
  for (i = 1; i < {count}; i++) {{
    if (result[i] > result[best]) best = i;
  }}
  return best;
}}
"""
    if classes is None:
        return text
    listed = "".join(f"    {string(each)},\n" for each in classes)
    return f"{text}\nconst char* const {name}_classes[{count}] = {{\n{listed}}};\n"
