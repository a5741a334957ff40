"""A torch network to a graph: torch.export writes its operations down, and each becomes a node or is refused by name."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import SymInt, Tensor, fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_arg
from torch.utils._pytree import tree_map

from harp.exporting.draft import Draft, UnsupportedError, Value
from harp.exporting.folding import fold
from harp.exporting.moving import reshape
from harp.exporting.operations import OPERATIONS, WITH_TARGET
from harp.exporting.program import Program, program_of
from harp.runtime.graph import Graph, Node

Known = dict[fx.Node, Any]
"""What each operation of a program computes: a Value, a constant tensor, a size, or several of those."""


def trace(model: nn.Module, example: Tensor) -> Graph:
    """``model`` in eval mode as a graph, for images of ``example``'s shape (n, c, h, w) in batches of any size.

    Batch normalisations are merged into the layers before them. The model stays as it is. Raises ValueError naming the
    first operation that a graph cannot hold and the module that computes it, or when the model still has masks.
    """
    return graph_of(program_of(model, example))


def graph_of(written: Program, tensors: Mapping[str, Tensor] | None = None) -> Graph:
    """A program as a graph. ``tensors`` are parameters and buffers to use in place of those of the time."""
    program = written.exported
    draft, known = Draft(written.shape), _inputs_of(program, tensors or {})
    batch = next(node.meta["val"].shape[0] for node, value in known.items() if isinstance(value, Value))
    for node in _needed(program):
        if node not in known:
            known[node] = _result_of(node, known, draft, batch)
    answer = next(value for value in reversed(list(known.values())) if isinstance(value, Value))
    if answer.batch or answer.merged:
        raise ValueError(f"{written.kind} returns a tensor whose first dimension is not that of the images")
    draft.settled(answer)
    nodes = [*fold(draft.nodes, draft.shapes)]
    if not nodes:
        raise ValueError(f"{written.kind} returns its input, or a constant: there is nothing to export")
    for place, node in enumerate(nodes):  # in place: all of it twice as float64, and once as float32, is much
        nodes[place] = _in_float32(node)
    return Graph(written.shape, tuple(nodes))


def _inputs_of(program: ExportedProgram, tensors: Mapping[str, Tensor]) -> Known:
    """The images as value 0, parameters and buffers as constants."""
    signature: Any = program.graph_signature
    known: Known = {}
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    names |= signature.inputs_to_lifted_tensor_constants
    held = {**program.constants, **program.state_dict, **tensors}
    for node in program.graph.find_nodes(op="placeholder"):
        if node.name in signature.user_inputs:
            known[node] = Value(0, tuple(node.meta["val"].shape[1:]))
        else:
            known[node] = held[names[node.name]].detach()
    return known


def _needed(program: ExportedProgram) -> list[fx.Node]:
    """The operations that the answer depends on, in their order."""
    answer, *_ = program.graph_signature.user_outputs
    nodes = list(program.graph.nodes)
    needed = {node for node in nodes if node.name == answer}
    for node in reversed(nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in nodes if node in needed]


def _result_of(node: fx.Node, known: Known, draft: Draft, batch: SymInt) -> Any:
    made = node.meta["val"]
    if isinstance(made, int | SymInt):
        return made
    target: Any = node.target
    args, kwargs = _arguments_of(node, known)
    if target is operator.getitem:
        return args[0][args[1]]
    draft.name, place = _place_of(node)
    if target.overloadpacket in _OF_ITS_TYPE:
        known = {**known, node.all_input_nodes[0]: torch.empty(0)}
    try:
        if not any(_is_of_images(known[argument]) for argument in node.all_input_nodes):
            return _constant_of(node, known, draft, batch)
        args, kwargs = tree_map(lambda a: a.as_value(draft) if isinstance(a, Repeated) else a, (args, kwargs))
        return _computed(node, draft, batch, _in_order(target, args, kwargs))
    except UnsupportedError as error:
        what = f"{place} computes {target}, which cannot be exported: {error}"
        raise ValueError(f"{what}. Replace it, or export with format='onnx'") from error


_OF_ITS_TYPE = {torch.ops.aten.new_zeros, torch.ops.aten.new_ones, torch.ops.aten.new_full, torch.ops.aten.new_empty}
"""What takes nothing but the type of its first argument."""


def _computed(node: fx.Node, draft: Draft, batch: SymInt, arguments: list[Any]) -> Any:
    """What an operation on values of the images makes: a value, or several."""
    target: Any = node.target
    made = node.meta["val"]
    several = isinstance(made, tuple | list)
    first = _view_of(made[0] if several else made, batch)
    draft.shape, draft.view = first.shape, first
    handler = OPERATIONS.get(target.overloadpacket)
    if target.overloadpacket in WITH_TARGET:
        handler = WITH_TARGET[target.overloadpacket](target)
    if handler is None:
        raise UnsupportedError("a .harp file has no such operation")
    if target.overloadpacket not in _MAY_SEE_BATCH and any(isinstance(argument, SymInt) for argument in arguments):
        raise UnsupportedError("it computes with the size of the batch")
    results = handler(draft, *arguments)
    if handler is reshape:
        return results
    if any(isinstance(argument, Value) and argument.inner for argument in arguments):
        first = replace(first, inner=first.merged)
    if not several:
        return _seen(results, first)
    assert isinstance(results, tuple)
    return tuple(
        None if result is None else _seen(result, _view_of(part, batch))
        for result, part in zip(results, made, strict=False)
    )


_MAY_SEE_BATCH = {packet for packet, handler in OPERATIONS.items() if handler is reshape}
_MAY_SEE_BATCH |= {torch.ops.aten.expand, torch.ops.aten.slice}


def _seen(result: Value, view: Value) -> Value:
    """A result as torch sees it."""
    if result.shape != view.shape:
        raise UnsupportedError(f"it makes {view.shape} of an image, which comes out as {result.shape}")
    return replace(view, number=result.number)


def _constant_of(node: fx.Node, known: Known, draft: Draft, batch: SymInt) -> Any:
    """What weights alone determine; repeated for each image, it is a value of the graph."""
    target: Any = node.target
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise UnsupportedError("it is random")
    arguments = _arguments_of(node, known)
    given = [known[argument] for argument in node.all_input_nodes]
    if not any(isinstance(argument, SymInt | Repeated) for argument in given):
        args, kwargs = arguments
        return target(*args, **kwargs)
    made = node.meta["val"]
    if isinstance(made, tuple | list):
        raise UnsupportedError("it makes tensors of the size of the batch")
    view = _view_of(made, batch, made.dtype)
    results = []
    for count in (1, 2):
        args, kwargs = _for_batch(arguments, batch, count)
        results.append(target(*args, **kwargs))
    one, two = results
    if not all(torch.equal(part, one) for part in two.split(one.shape[view.batch], view.batch)):
        raise UnsupportedError("it makes a tensor of the size of the batch, not the same for every image")
    return Repeated(one, two, view)


@dataclass(frozen=True)
class Repeated:
    """A constant once for each image: what it is for one, and for two. ``view`` is how torch sees it."""

    one: Tensor
    two: Tensor
    view: Value

    def as_value(self, draft: Draft) -> Value:
        if self.one.dtype != torch.float32:
            raise UnsupportedError(f"it takes a constant of {self.one.dtype}: expected torch.float32")
        return replace(self.view, number=draft.constant(self.one.reshape(self.view.shape)).number)


def _for_batch(arguments: Any, batch: SymInt, count: int) -> Any:
    """Arguments with what they would be for so many images, one or two."""

    def number(argument: Any) -> Any:
        if isinstance(argument, Repeated):
            return argument.one if count == 1 else argument.two
        if isinstance(argument, SymInt):
            expression: Any = argument.node.expr
            return int(expression.subs({batch.node.expr: count}))
        return argument

    return tree_map(number, arguments)


def _is_of_images(value: Any) -> bool:
    """Whether this depends on the images, and not on weights alone."""
    return isinstance(value, Value) or (isinstance(value, tuple | list) and any(map(_is_of_images, value)))


def _arguments_of(node: fx.Node, known: Known) -> Any:
    return map_arg((node.args, node.kwargs), lambda argument: known[argument])


def _view_of(made: Tensor, batch: SymInt, dtype: torch.dtype = torch.float32) -> Value:
    """Shape and batch of a result. ``made`` is torch's stand-in for it, which knows type and shape."""
    if made.dim() == 0:
        raise UnsupportedError("it makes one number of all images")
    if made.dtype != dtype:
        raise UnsupportedError(f"its result is {made.dtype}: expected torch.float32, as model.float() has it")
    found = [dim for dim, size in enumerate(made.shape) if type(size) is not int]
    if len(found) != 1:
        raise UnsupportedError("it mixes the images of a batch, or takes its size for a number")
    size: Any = made.shape[found[0]]
    times = size.node.expr / batch.node.expr
    if not times.is_Integer:
        raise UnsupportedError("it mixes the images of a batch, or takes its size for a number")
    shape = tuple(made.shape)
    if times == 1:
        return Value(0, (*shape[: found[0]], *shape[found[0] + 1 :]), found[0])
    return Value(0, (*shape[: found[0]], int(times), *shape[found[0] + 1 :]), found[0], True)


def _in_order(overload: Any, args: Any, kwargs: Any) -> list[Any]:
    """All arguments by position, defaults filled in."""
    schema = overload._schema.arguments
    rest = schema[len(args) :]
    return [*args, *(kwargs.get(argument.name, argument.default_value) for argument in rest)]


def _place_of(node: fx.Node) -> tuple[str, str]:
    """The path of the module that computes this, and words for it."""
    path, kind = list((node.meta.get("nn_module_stack") or {"": ("", "module")}).values())[-1]
    return path, f"{path or 'the model itself'} ({kind.rpartition('.')[2]})"


def _in_float32(node: Node) -> Node:
    tensors = {name: np.array(tensor, np.float32, order="C") for name, tensor in node.tensors.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(
                f"{node.name or node.op} has a {name} with values that are not finite: the model is damaged"
            )
    return Node(node.op, node.inputs, node.attributes, tensors, node.name)
