"""How much a network computes, and how many bytes it takes in which form."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harp.runtime.graph import Graph
from harp.runtime.shapes import shapes


@dataclass(frozen=True)
class Work:
    """Weights of convolutions and linear layers, and their multiplications for one image: all, and with non-zeros."""

    weights: int
    kept: int
    macs: int
    macs_left: int

    @property
    def keep(self) -> float:
        return self.kept / self.weights if self.weights else 1.0

    def gflops(self, batch: int, elapsed_ms: float) -> float:
        """On non-zeros alone, two operations a multiplication."""
        return 2 * self.macs_left * batch / elapsed_ms / 1e6


def work_of(graph: Graph) -> Work:
    """Counted from the weights; a window that hangs over the edge counts whole, as it is usual."""
    found = np.zeros(4, np.int64)
    for node, shape in zip(graph.nodes, shapes(graph)[1:], strict=True):
        if node.op in ("conv", "linear"):
            weight = node.tensors["weight"]
            counts = np.array([weight.size, np.count_nonzero(weight)])
            positions = math.prod(shape[1:] if node.op == "conv" else shape[:-1])
            found += np.concatenate([counts, counts * positions])
    return Work(*(int(count) for count in found))


@dataclass(frozen=True)
class Sizes:
    """Bytes: the exported file, all values dense in float32, those compressed by ``compressor``, and the ONNX file
    if there is one."""

    file: int
    dense: int
    compressed: int
    onnx: int | None
    compressor: str


def sizes_of(file: Path, graph: Graph, onnx: Path | None) -> Sizes:
    tensors = [np.asarray(tensor, "<f4") for node in graph.nodes for tensor in node.tensors.values()]
    name, compress = _compressor()
    return Sizes(
        file=file.stat().st_size,
        dense=sum(tensor.nbytes for tensor in tensors),
        compressed=len(compress(b"".join(tensor.tobytes() for tensor in tensors))),
        onnx=None if onnx is None else onnx.stat().st_size,
        compressor=name,
    )


def _compressor() -> tuple[str, Callable[[bytes], bytes]]:
    """zstd where it is installed, deflate everywhere else, at levels above which a minute buys ten percent."""
    try:
        from zstandard import ZstdCompressor
    except ImportError:
        return "zlib -6", lambda content: zlib.compress(content, 6)
    return "zstd -12", ZstdCompressor(level=12, threads=-1).compress
