"""From operations on values of any shape to the maps and tensors of the engine. Networks of maps alone stay as they are."""

from collections.abc import Sequence
from dataclasses import replace

from harp.runtime.computed_forms import COMPUTED, per_channel
from harp.runtime.forms import Forms, Writer
from harp.runtime.graph import ACTIVATIONS, Graph, Shape
from harp.runtime.moved_forms import MOVED
from harp.runtime.views import whole

_HANDLERS = {**COMPUTED, **MOVED}
_ALWAYS_MAPS = {"conv", "max_pool", "avg_pool", "adaptive_avg_pool", *ACTIVATIONS, "linear", "affine", "softmax"}
_ALWAYS_MAPS |= {"add", "mul", "concat", "flatten"}


def is_of_maps(graph: Graph, shapes: Sequence[Shape]) -> bool:
    """Whether every value is a map or flat, and every operation one that runs on these."""
    for node, result in zip(graph.nodes, shapes[1:], strict=True):
        given = [shapes[value] for value in node.inputs]
        if node.op not in _ALWAYS_MAPS or not all(len(shape) in (1, 3) for shape in (result, *given)):
            return False
        if node.op in ("add", "mul") and not per_channel(given[0], given[1]):
            return False
        if node.op == "linear" and len(result) > 1:
            return False
    return True


def arrange(graph: Graph, shapes: Sequence[Shape]) -> tuple[Graph, tuple[Shape, ...]]:
    """The graph that the engine runs, and the shapes of its values; see :mod:`harp.runtime.forms`."""
    if is_of_maps(graph, shapes):
        return graph, tuple(shapes)
    writer = Writer(graph.input)
    values = [Forms(graph.input, {0: 0})]
    for node, shape in zip(graph.nodes, shapes[1:], strict=True):
        writer.name = node.name
        handler = _HANDLERS[node.op]
        values.append(handler(writer, node, shape, *(values[value] for value in node.inputs)))
    _finish(writer, values[-1])
    return _without_unread(Graph(graph.input, tuple(writer.nodes)), writer.shapes)


def _without_unread(graph: Graph, shapes: Sequence[Shape]) -> tuple[Graph, tuple[Shape, ...]]:
    read = {len(graph.nodes)}
    for number in range(len(graph.nodes), 0, -1):
        if number in read:
            read.update(graph.nodes[number - 1].inputs)
    order = [number for number in range(1, len(graph.nodes) + 1) if number in read]
    now = {0: 0, **{number: place for place, number in enumerate(order, 1)}}
    nodes = [graph.nodes[number - 1] for number in order]
    nodes = [replace(node, inputs=tuple(now[value] for value in node.inputs)) for node in nodes]
    return Graph(graph.input, tuple(nodes)), (shapes[0], *(shapes[number] for number in order))


def _finish(writer: Writer, result: Forms) -> None:
    """Make the result, in the order of its shape, the value of the last node."""
    if 0 in result.maps and writer.shapes[result.maps[0]] in (result.shape, (*result.shape, 1, 1)):
        number, last = result.maps[0], writer.shapes[result.maps[0]]
        if number != len(writer.nodes):
            writer.emit("channels", (number,), last, {"numbers": tuple(range(last[0]))})
        return
    view = writer.in_order(writer.view_of(result))
    if view.source != len(writer.nodes) or writer.nodes[-1].op == "constant":
        writer.copied((view.source,), view.shape, [(0, view, whole(0, view.shape))])
