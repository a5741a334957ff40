"""The file of a network: its graph as JSON, its tensors as blobs, its card. The table is docs/reference/format.md."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeGuard, get_args

import numpy as np

from harp.files import write_bytes
from harp.runtime.compiled import ENGINE
from harp.runtime.container import pack, parsed, unpack
from harp.runtime.graph import Graph, Node
from harp.runtime.packing import Blueprint, Sparse, check_plan, pack_tensor, unpack_tensor
from harp.runtime.shapes import shapes
from harp.runtime.signatures import MOST_AXES

VERSION = 2
"""The newest that is read. A file gets the lowest that can say it: 1, or 2 where weights are int8."""
_VERSIONS = [str(number) for number in range(1, VERSION + 1)]
Values = Literal["f32", "f16", "int8"]
MOST_DENSE_BYTES = 2**32
"""What :func:`read` may allocate. Weights are hardly larger, and a small file could promise any size."""

_FREE_NUMBERS, _NUMBERS_PER_BYTE = 2**22, 64
"""What a file may ask for without bringing it, and further numbers for each of its bytes."""


def write(path: Path | str, graph: Graph, *, card: dict[str, Any], values: Values = "f32") -> None:
    """Write a network and its card (anything that JSON can say), atomically.

    ``values`` is how weights are stored; biases, scales and shifts are f32, biases beside int8 f16. Raises ValueError naming the node
    when the graph is not valid or a weight cannot be stored, or the card when it is not JSON.
    """
    if values not in get_args(Values):
        raise ValueError(f"values={values!r}: expected one of {', '.join(map(repr, get_args(Values)))}")
    shapes(graph)
    blobs: dict[str, bytes] = {}
    nodes = [_describe(node, place, blobs, values) for place, node in enumerate(graph.nodes)]
    described = {"input": list(graph.input), "nodes": nodes}
    try:
        told = _compact(card)
        parsed(told)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"card={str(card)[:80]} cannot be said in JSON: {error}") from None
    texts = {"format": "harp", "version": "2" if values == "int8" else "1", "graph": _compact(described), "card": told}
    write_bytes(Path(path), pack(texts, blobs))


def read(path: Path | str) -> tuple[Graph, dict[str, Any]]:
    """The graph, its tensors dense, and the card. Raises ValueError naming the file when it is not sound."""
    graph, card = read_sparse(path)
    size_bytes = sum(4 * int(np.prod(t.shape, dtype=np.int64)) for node in graph.nodes for t in node.tensors.values())
    if size_bytes > MOST_DENSE_BYTES:
        raise ValueError(f"{path} has {size_bytes:,} bytes of dense weights, more than {MOST_DENSE_BYTES:,}")
    nodes = [
        dataclasses.replace(node, tensors={name: t.dense() for name, t in node.tensors.items()}) for node in graph.nodes
    ]
    return dataclasses.replace(graph, nodes=tuple(nodes)), card


def read_sparse(path: Path | str) -> tuple[Graph, dict[str, Any]]:
    """As :func:`read`, with every tensor a :class:`Sparse`: no more memory than what the file holds."""
    content = Path(path).read_bytes()
    with named(path):
        return _read(content) if ENGINE is None else _read_compiled(ENGINE, content)


@contextmanager
def named(path: Path | str) -> Iterator[None]:
    """A ValueError about the content of a file says whose."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} is not a network that this harp can run: {error}") from None


def _read_compiled(engine: ModuleType, content: bytes) -> tuple[Graph, dict[str, Any]]:
    """The same by the reader that the compiled engine has; graph and card are sound when it returns."""
    graph, card, tensors = engine.read(content)
    planned = described_graph(json.loads(graph))
    nodes = [
        dataclasses.replace(node, tensors={n: Sparse(t.shape, *tensors[f"{i}.{n}"]) for n, t in node.tensors.items()})
        for i, node in enumerate(planned.nodes)
    ]
    return dataclasses.replace(planned, nodes=tuple(nodes)), json.loads(card)


def _read(content: bytes) -> tuple[Graph, dict[str, Any]]:
    texts, blobs = unpack(content)
    if texts.get("format") != "harp":
        raise ValueError("it is a safetensors file of something else; `harp export` writes what is wanted")
    if texts.get("version") not in _VERSIONS:
        raise ValueError(f"it has version {texts.get('version')!r}, and this harp reads 1 to {VERSION}; update harp")
    card = _object(texts, "card")
    planned = described_graph(_object(texts, "graph"))
    shapes(planned)
    _check_version(texts["version"], planned)
    _check_room(planned, len(content))
    wanted = {f"{i}.{name}" for i, node in enumerate(planned.nodes) for name in node.tensors}
    if wanted != set(blobs):
        raise ValueError(f"its graph and its tensors differ in {sorted(wanted ^ set(blobs))[:5]}")
    nodes = [
        dataclasses.replace(node, tensors={n: _tensor(f"{i}.{n}", blobs, t) for n, t in node.tensors.items()})
        for i, node in enumerate(planned.nodes)
    ]
    return dataclasses.replace(planned, nodes=tuple(nodes)), card


def _check_version(version: str, planned: Graph) -> None:
    """Raise ValueError for int8 in a file of version 1, or anywhere but in a weight: readers of then would not know it."""
    for place, node in enumerate(planned.nodes):
        for name, tensor in node.tensors.items():
            if tensor.values == "int8" and (version == "1" or name != "weight"):
                raise ValueError(f"{place}.{name} is int8: expected a file of version 2, and a weight")


def _check_room(planned: Graph, size_bytes: int) -> None:
    """Raise ValueError where small blobs promise much: what is not sparse, and the outputs of what is, take memory."""
    tensors = [(name, t) for node in planned.nodes for name, t in node.tensors.items()]
    numbers = sum(t.shape[0] if name in ("weight", "matrix") else math.prod(t.shape) for name, t in tensors)
    if numbers > _FREE_NUMBERS + _NUMBERS_PER_BYTE * size_bytes:
        raise ValueError(
            f"it has {numbers:,} constants and outputs in {size_bytes:,} bytes: no file of harp's is packed that tightly"
        )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _describe(node: Node, place: int, blobs: dict[str, bytes], values: str) -> dict[str, Any]:
    tensors = {}
    for name, tensor in node.tensors.items():
        try:
            plan, blobs[f"{place}.{name}"] = pack_tensor(tensor, _kind(name, tensor, values))
        except ValueError as error:
            raise ValueError(f"{name} of node {place} ({node.op!r}, {node.name!r}) {error}") from None
        tensors[name] = dataclasses.asdict(plan)
    described = {"op": node.op, "inputs": node.inputs, "attributes": dict(node.attributes), "tensors": tensors}
    return {key: value for key, value in {**described, "name": node.name}.items() if value}


def _kind(name: str, tensor: Any, values: str) -> str:
    """How a tensor is stored. Beside weights of eight bits, half precision is more than enough for a bias."""
    if name == "weight":
        return values
    small = values == "int8" and name == "bias" and np.abs(tensor).max(initial=0) < np.finfo(np.float16).max
    return "f16" if small else "f32"


def _object(texts: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = parsed(texts[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise ValueError(f"its {key} is not JSON ({error!r})") from None
    if not isinstance(value, dict):
        raise ValueError(f"its {key} is not a JSON object")
    return value


def described_graph(described: dict[str, Any]) -> Graph:
    """The graph as a file has it, with a Blueprint in the place of every tensor."""
    image, nodes = described.get("input"), described.get("nodes")
    if not _integers(image) or not isinstance(nodes, list) or not all(isinstance(n, dict) for n in nodes):
        raise ValueError("its graph is not an input and a list of nodes")
    return Graph(tuple(image), tuple(_node(n) for n in nodes))


def _node(described: dict[str, Any]) -> Node:
    inputs = described.get("inputs", [])
    attributes, tensors = described.get("attributes", {}), described.get("tensors", {})
    if not _integers(inputs) or not isinstance(attributes, dict) or not isinstance(tensors, dict):
        raise ValueError(f"a node of its graph is malformed: {str(described)[:80]}")
    return Node(
        op=str(described.get("op")),
        inputs=tuple(inputs),
        attributes={key: tuple(v) if isinstance(v, list) else v for key, v in attributes.items()},
        tensors={name: _blueprint(name, plan) for name, plan in tensors.items()},
        name=str(described.get("name", "")),
    )


def _blueprint(name: str, described: Any) -> Any:
    fields = {field.name for field in dataclasses.fields(Blueprint)}
    if not isinstance(described, dict) or set(described) != fields or not isinstance(described["shape"], list):
        raise ValueError(f"{name} is not described by {', '.join(sorted(fields))}")
    shape, kept, gaps = described["shape"], described["kept"], described["gaps"]
    counts = [*shape, kept, 0 if gaps is None else gaps]
    if not _integers(counts) or len(shape) > MOST_AXES or max(counts) > 2**40:
        raise ValueError(f"{name} has sizes {shape[:8]}, {kept}, {gaps} that cannot be")
    return Blueprint(tuple(shape), str(described["values"]), kept, gaps)


def _integers(values: Any) -> TypeGuard[list[int]]:
    """Whether this is a list of plain integers that are not negative: JSON could hold anything in its place."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _tensor(name: str, blobs: Mapping[str, memoryview], plan: Any) -> Any:
    try:
        check_plan(plan)
        return unpack_tensor(blobs[name], plan)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


__all__ = ["VERSION", "Sparse", "read", "read_sparse", "write"]
