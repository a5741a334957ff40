"""`write_c`: a graph to a C file and its header, which are compared with the network before they take their place."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from harp.cfile.compiling import compiled, compiler
from harp.cfile.header import header_text
from harp.cfile.literals import identifier
from harp.cfile.network import Network, network_of
from harp.cfile.source import source_text
from harp.cfile.storing import Values
from harp.files import write_bytes
from harp.runtime.classifying import class_names
from harp.runtime.graph import Graph
from harp.runtime.numpy_engine import NumpyEngine
from harp.runtime.session import Session

TOLERANCES: Mapping[str, float] = {"f32": 1e-4, "f16": 1e-2, "int8": 5e-2}
"""How far results may be off, relative to the largest, unless the caller says."""
NOISE = 64
"""Images of random pixels, where nobody gives real ones."""
_HEADERS_OF_C = (
    "assert",
    "complex",
    "ctype",
    "errno",
    "fenv",
    "float",
    "inttypes",
    "iso646",
    "limits",
    "locale",
    "math",
)
_HEADERS_OF_C += ("setjmp", "signal", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "tgmath")
_HEADERS_OF_C += ("time", "wchar", "wctype")


@dataclass(frozen=True)
class CFile:
    """What was written, the bytes that it takes on a device, and how it was compared."""

    path: Path
    header: Path
    kept: int
    """Weights in the file."""
    constant_bytes: int
    arena_bytes: int
    images: int
    difference: float
    """Of results, relative to the largest."""
    changed: int
    """Images that get another class."""
    by: str
    """What computed the results: a compiler with the file, or numpy with its weights."""

    def __str__(self) -> str:
        off = f"in {self.by} results are off by at most {self.difference:.2g} of the largest"
        return f"{off}, and {self.changed} of {self.images} images get another class"


def write_c(
    path: Path | str,
    graph: Graph,
    *,
    card: Mapping[str, Any] | None = None,
    values: Values = "f32",
    images: np.ndarray | None = None,
    expected: np.ndarray | None = None,
    tolerance: float | None = None,
) -> CFile:
    """Write ``path``, which ends in .c, and a header beside it, for images of the size that the graph was traced with.

    The file is compiled with the C compiler of this machine and run on ``images``, float32 (n, c, h, w), by default
    random pixels; without a compiler, numpy computes with the weights of the file. Results may differ from ``expected``,
    by default those of the engine with the graph's own weights, by ``tolerance`` times the largest
    (:data:`TOLERANCES`). Raises ValueError, and writes nothing, where they differ by more, where a layer cannot be
    written in C, or where ``path`` is no name for a C file.
    """
    path = Path(path)
    name = _check(path, values, tolerance)
    told = dict(card or {})
    network = network_of(graph, values)
    classes = class_names(told)
    if classes is not None and (len(classes),) != network.output:
        raise ValueError(
            f"the card names {len(classes)} classes, and the network gives {network.output}: export it again"
        )
    header = header_text(network, name, told, classes)
    source = source_text(network, name, f"{path.stem}.h", classes)
    if images is None:
        images = np.random.default_rng(0).random((NOISE, *graph.input), np.float32)
    if expected is None:
        expected = Session(graph, threads=1, autotune=False)(images)
    found, by = _results(network, source.replace(f'"{path.stem}.h"', '"network.h"', 1), header, name, images)
    done = _compared(path, network, found, expected.reshape(len(images), -1), by)
    allowed = TOLERANCES[values] if tolerance is None else tolerance
    if not done.difference <= allowed:
        raise ValueError(
            f"with values={values!r} {done}, and tolerance={allowed:g} allows less; nothing was written. "
            + ("Allow more with tolerance=…" if values == "f32" else "Export values='f32', or allow more")
        )
    write_bytes(done.header, header.encode())
    write_bytes(path, source.encode())
    return done


def header_of(path: Path) -> Path:
    """The header that stands beside a C file."""
    return path.with_suffix(".h")


def _check(path: Path, values: str, tolerance: float | None) -> str:
    """The name that all functions begin with."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*\.c", path.name) or path.stem in _HEADERS_OF_C:
        raise ValueError(
            f"path={str(path)!r}: expected a name such as net.c, of letters, digits, - and _, whose header is none of C's own"
        )
    for each in (path, header_of(path)):
        if each.is_dir():
            raise ValueError(f"path={str(path)!r}: {each} is a directory; name another file")
    if values not in get_args(Values):
        raise ValueError(f"values={values!r}: expected one of {', '.join(map(repr, get_args(Values)))}")
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance={tolerance}: expected how far results may be off, such as 1e-3, or None")
    return identifier(path.stem)


def _results(network: Network, source: str, header: str, name: str, images: np.ndarray) -> tuple[np.ndarray, str]:
    outputs = math.prod(network.output)
    using = compiler()
    if using is not None:
        return compiled(source, header, name, images, outputs, using=using), Path(using[0]).name
    found = np.empty((len(images), outputs), np.float32)
    NumpyEngine(network.layers, 1).run(images, network.sizes, found, False)
    return found, "numpy"


def _compared(path: Path, network: Network, found: np.ndarray, expected: np.ndarray, by: str) -> CFile:
    if not np.isfinite(expected).all():
        raise ValueError("the network's results are not finite for these images: it is damaged, or they are no images")
    largest, off = float(np.abs(expected).max()), float(np.abs(found - expected).max())
    return CFile(
        path=path,
        header=header_of(path),
        kept=sum(len(layer.rows.values) for layer in network.layers if layer.rows is not None),
        constant_bytes=network.constant_bytes,
        arena_bytes=network.arena_bytes,
        images=len(expected),
        difference=off / largest if off else 0.0,
        changed=int((found.argmax(1) != expected.argmax(1)).sum()),
        by=by,
    )
