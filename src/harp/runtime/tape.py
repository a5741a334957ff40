"""What a session keeps of a call, to go back from gradients of its outputs to gradients of the images."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from harp.runtime.graph import Graph, Shape
from harp.runtime.lowered import FromGraph, LayerFacts

_WAYS_BACK = {"conv", "activation", "affine", "max_pool", "avg_pool", "adaptive_avg_pool", "add", "mul", "concat"}
_WAYS_BACK |= {"flatten", "softmax"}
_MOVES = {"pack", "unpack", "copy", "constant", "channels"}
"""What stands between operations that somebody wrote."""
_SLOPES = {"none", "relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu", "gelu_tanh"}


def need_way_back(layers: Iterable[LayerFacts]) -> None:
    """Raise ValueError naming the first layer that the engine computes forward only."""
    without = [layer for layer in layers if layer.kind not in _WAYS_BACK or layer.activation not in _SLOPES]
    if not without:
        return
    named = next((layer for layer in without if layer.kind not in _MOVES), without[0])
    what = named.kind if named.kind not in _WAYS_BACK else named.activation
    raise ValueError(
        f"{named.name or 'the network itself'} computes {what}, through which the engine has no way back: "
        "take gradients in PyTorch (--compute.engine torch)"
    )


def check_way_back(graph: Graph) -> None:
    """Raise ValueError naming a layer through which sessions of ``graph`` cannot go back. Nothing is planned."""
    need_way_back(FromGraph(graph).layers)


class Tape:
    """Made by ``session.record(images)``; :meth:`backward` may be called any number of times, from any thread.

    Holds a bit for each ReLU, a place for each maximum and the input of smooth activations, not the images' values.
    """

    def __init__(self, recording: Any, images: Shape, outputs: Shape) -> None:
        self._recording = recording
        self._images = images
        self._outputs = outputs

    def backward(self, upstream: np.ndarray) -> np.ndarray:
        """The gradient with respect to the images, float32 (n, c, h, w), of ``(upstream * outputs).sum()``.

        At a kink the slope is PyTorch's: none at zero of a ReLU, the first of equal maxima. Raises TypeError and
        ValueError unless ``upstream`` is float32 of the shape of the outputs.
        """
        if not isinstance(upstream, np.ndarray) or upstream.dtype != np.float32:
            given = upstream.dtype if isinstance(upstream, np.ndarray) else type(upstream).__name__
            raise TypeError(f"upstream is {given}: expected a numpy array of float32; convert it")
        if upstream.shape != self._outputs:
            raise ValueError(f"upstream has shape {upstream.shape}: expected that of the outputs, {self._outputs}")
        count = self._images[0]
        gradient = np.empty((count, int(np.prod(self._images[1:]))), np.float32)
        rows = int(np.prod(self._outputs[1:]))
        self._recording.back(np.ascontiguousarray(upstream).reshape(count, rows), gradient)
        return gradient.reshape(self._images)
