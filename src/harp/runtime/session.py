"""A network ready to run: ``load(path)`` once, then ``session(images)``, from any thread."""

import json
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from harp.runtime.building import building
from harp.runtime.classifying import Prediction, check_preprocessing, class_names, classify, preprocessing_in
from harp.runtime.compiled import ENGINE, MISSING
from harp.runtime.format import named, read_sparse
from harp.runtime.graph import Graph, Shape, outline
from harp.runtime.lowered import FromFile, FromGraph, Lowered, Sizes
from harp.runtime.lowering import Layer
from harp.runtime.numpy_engine import NumpyEngine
from harp.runtime.preprocessing import Preprocessing
from harp.runtime.tape import Tape, need_way_back

_engine = ENGINE
log = logging.getLogger(__name__)
COMPILE = "pip install --no-cache-dir --force-reinstall --no-deps ."
"""Builds the engine in a checkout of harp. pip must not take a wheel that it made when there was no compiler."""
_ISA = "HARP_ISA"
"""In the environment: the instruction set to use, such as AVX2, instead of the best one."""
_LARGEST_BATCH = 2**20
_MOST_SIZES = 64
"""Of images, whose shapes are kept."""


def load(path: Path | str, *, threads: int | None = None, autotune: bool = True) -> "Session":
    """The network in a file that ``harp export`` wrote, ready to run.

    ``threads`` is how many CPUs a call may use at most; by default all that this process may use. With ``autotune``,
    the first call with a new image or batch size measures how each layer runs fastest, about a second at most;
    without, the choice follows rules, and equal calls give equal bits.

    An installation without the compiled engine computes with numpy: the same results to rounding, slowly. A warning
    says so once. Raises ValueError naming the file when it is damaged or from a newer harp.
    """
    if _engine is None:
        graph, card = read_sparse(path)
        return Session(graph, card=card, threads=threads, autotune=autotune)
    threads = _count_threads(threads)
    content = Path(path).read_bytes()
    with named(path):
        model = _engine.Model(content)
    engine = _engine.Engine(model, threads, os.environ.get(_ISA, ""))
    return Session._of(FromFile(model), engine, json.loads(model.card), autotune)


def isa() -> str:
    """The instruction set that the compiled engine uses on this CPU: AVX-512, AVX2, NEON or baseline."""
    return compiled().isa(os.environ.get(_ISA, ""))


def peak_gflops(threads: int = 1) -> float:
    """Measured: the 10⁹ operations per second that multiply-adds on registers alone reach."""
    return compiled().peak_gflops(_count_threads(threads), os.environ.get(_ISA, ""))


@dataclass(frozen=True)
class LayerChoice:
    """How one layer is run."""

    name: str
    kind: str
    macs: int
    """Multiplications for one image."""
    dense_macs: int
    how: str


class Session:
    """Runs one network. Keeps plans and memory for the sizes it saw last; may be called from several threads."""

    def __init__(
        self, graph: Graph, *, card: dict[str, Any] | None = None, threads: int | None = None, autotune: bool = True
    ) -> None:
        lowered = FromGraph(graph)
        engine = _make_engine(lowered.passes, _count_threads(threads))
        lowered.forget()
        self._hold(lowered, engine, card or {}, autotune)

    @classmethod
    def _of(cls, lowered: Lowered, engine: Any, card: dict[str, Any], autotune: bool) -> "Session":
        session = cls.__new__(cls)
        session._hold(lowered, engine, card, autotune)
        return session

    def _hold(self, lowered: Lowered, engine: Any, card: dict[str, Any], autotune: bool) -> None:
        self.card = card
        self.autotune = autotune
        self._engine = engine
        self._lowered = lowered
        self._known: dict[Shape, Sizes] = {}

    def update(self, graph: Graph) -> None:
        """Take over the weights of ``graph``: the same network after a step of training, or with other masks.

        Plans stay as they are, tuned layers included, as long as the same number of channels is left in every layer;
        otherwise the next call plans anew. Waits for calls that are running; tapes of earlier calls cannot go back any
        more. Raises ValueError when ``graph`` is another network.
        """
        if outline(graph) != self._lowered.outline:
            raise ValueError("graph is another network: expected the same nodes, attributes and shapes of weights")
        lowered = FromGraph(graph)
        if _engine is None or not self._engine.update(building(compiled(), lowered.passes)):
            self._engine = _make_engine(lowered.passes, self.threads)
        lowered.forget()
        self._lowered, self._known = lowered, {}

    @property
    def input(self) -> Shape:
        """The shape (channels, height, width) it was traced with; other sizes run where the network allows it."""
        return self._lowered.input

    @property
    def threads(self) -> int:
        return self._engine.threads

    @property
    def isa(self) -> str:
        """The instruction set, or "numpy" where there is no compiled engine."""
        return self._engine.isa

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, in the order of the outputs; None where the file carries none."""
        return class_names(self.card)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How an image file becomes an input, as it did in training; None where the file does not say."""
        return preprocessing_in(self.card)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The outputs for images: float32 (n, c, h, w), in [0, 1] as in training, or uint8 (n, h, w, c), which is divided by 255.

        NaN in an image reaches every output that depends on it through weights that were kept; in layers that are run
        densely, through pruned ones too, as in PyTorch. It never reaches another image. Raises TypeError and ValueError
        that say what was expected.
        """
        x = _check_images(x, self.input[0])
        sizes = self._sizes(_image_of(x))
        out = np.empty((len(x), math.prod(sizes.result)), np.float32)
        self._engine.run(x, sizes.values, out, self.autotune)
        return out.reshape(len(x), *sizes.result)

    def classify(
        self,
        paths: Path | str | Iterable[Path | str],
        *,
        preprocessing: Preprocessing | None = None,
        batch: int = 64,
    ) -> list[Prediction]:
        """The class of every image file, read exactly as the images that the network was trained on. Needs Pillow.

        A directory stands for the images in it, in the order of their names. ``preprocessing`` is for networks whose
        file does not say how. Raises ValueError naming a file that is no image.
        """
        how = check_preprocessing(preprocessing or self.preprocessing, self.input)
        return classify(self, paths, how, self.classes, threads=self.threads, batch=batch)

    def need_way_back(self) -> None:
        """Raise ValueError naming a layer through which :meth:`record` cannot go back."""
        need_way_back(self._lowered.layers)

    def record(self, x: np.ndarray) -> tuple[np.ndarray, Tape]:
        """The outputs for images, as a call gives them, and a tape that goes back to gradients of the images.

        Equal calls give equal bits whatever the number of threads, unless the session tunes itself. The outputs may
        differ from those of a call in the last bits, since other numbers of images run side by side. Raises RuntimeError
        without the compiled engine.
        """
        compiled()
        self.need_way_back()
        x = _check_images(x, self.input[0])
        sizes = self._sizes(_image_of(x))
        out = np.empty((len(x), math.prod(sizes.result)), np.float32)
        recording = self._engine.record(x, sizes.values, out, self.autotune)
        shape = (len(x), *sizes.result)
        return out.reshape(shape), Tape(recording, (len(x), *_image_of(x)), shape)

    def layers(self, batch: int = 1, image: Shape | None = None) -> list[LayerChoice]:
        """What the engine does layer by layer for a batch of images (of the traced shape by default)."""
        if not 1 <= batch <= _LARGEST_BATCH:
            raise ValueError(f"batch={batch}: expected between 1 and {_LARGEST_BATCH:,} images")
        sizes = self._sizes(tuple(image or self.input))
        how = self._engine.describe(batch, sizes.values, self.autotune)
        return [
            LayerChoice(layer.name, layer.kind, layer.nonzeros * positions, layer.dense * positions, text)
            for layer, positions, text in zip(self._lowered.layers, sizes.positions, how, strict=True)
        ]

    def macs(self, image: Shape | None = None) -> tuple[int, int]:
        """Multiplications for one image: those that are left, and those of the dense network."""
        each = list(zip(self._lowered.layers, self._sizes(tuple(image or self.input)).positions, strict=True))
        return sum(layer.nonzeros * count for layer, count in each), sum(layer.dense * count for layer, count in each)

    def _sizes(self, image: Shape) -> Sizes:
        if image not in self._known:
            if len(self._known) >= _MOST_SIZES:
                self._known.clear()
            self._known[image] = self._lowered.sizes(image)
        return self._known[image]


def _check_images(x: np.ndarray, channels: int) -> np.ndarray:
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.uint8):
        given = x.dtype if isinstance(x, np.ndarray) else type(x).__name__
        raise TypeError(f"x is {given}: expected a numpy array of float32 (n, c, h, w), or uint8 (n, h, w, c); convert")
    if x.ndim != 4 or len(x) > _LARGEST_BATCH:
        raise ValueError(f"x has shape {x.shape}: expected four dimensions, images first; x[None] makes one a batch")
    if _image_of(x)[0] != channels:
        order = "(n, h, w, c)" if x.dtype == np.uint8 else "(n, c, h, w)"
        raise ValueError(f"x has shape {x.shape}, in the order {order}: expected {channels} channels")
    return np.ascontiguousarray(x)


def _image_of(x: np.ndarray) -> Shape:
    return (x.shape[3], x.shape[1], x.shape[2]) if x.dtype == np.uint8 else tuple(x.shape[1:])


def _count_threads(threads: int | None) -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is None:
        return min(available, 64)
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise ValueError(f"threads={threads!r}: expected a whole number between 1 and 1024, or None for all")
    return threads


def _make_engine(layers: Sequence[Layer], threads: int) -> Any:
    if _engine is None:
        _warn_once()
        return NumpyEngine(layers, threads)
    return _engine.Engine(building(compiled(), layers), threads, os.environ.get(_ISA, ""))


@cache
def _warn_once() -> None:
    log.warning("networks are computed with numpy, many times slower: %s", _without_engine())


def _without_engine() -> str:
    return (
        f"this installation of harp has no compiled engine ({MISSING}). With a C++ compiler at hand, in a checkout of "
        f"harp: {COMPILE}"
    )


def compiled() -> ModuleType:
    """The compiled engine. Raises RuntimeError where this installation has none."""
    if _engine is None:
        raise RuntimeError(_without_engine())
    return _engine
