"""Random networks as graphs, whose shapes fit whatever was drawn; and the instruction sets to run them with."""

import importlib
from collections.abc import Callable

import numpy as np
import pytest

from harp.runtime.graph import Graph, Node, Shape
from harp.runtime.shapes import shapes


class Draft:
    """Adds random nodes to a graph; every draw comes from one generator, so a seed is a network."""

    def __init__(self, seed: int, keep: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.keep = keep
        self.input: Shape = (self.pick(1, 3, 5), self.pick(1, 3, 7, 8, 12, 17), self.pick(1, 4, 7, 8, 16, 19))
        self.nodes: list[Node] = []
        self.shapes: list[Shape] = [self.input]

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def weights(self, *shape: int) -> np.ndarray:
        fan = max(np.prod(shape[1:]) * self.keep, 1)
        values = self.rng.standard_normal(shape) / np.sqrt(fan)
        return np.where(self.rng.random(shape) < self.keep, values, 0).astype(np.float32)

    def vector(self, size: int) -> np.ndarray:
        return (self.rng.standard_normal(size) * self.rng.integers(0, 2, size)).astype(np.float32)

    def add(self, op: str, inputs: tuple[int, ...] | None = None, tensors=None, **attributes) -> bool:
        """Whether the node fitted."""
        node = Node(op, inputs or (len(self.nodes),), attributes, tensors or {}, f"{op}{len(self.nodes)}")
        try:
            found = shapes(Graph(self.input, (*self.nodes, node)))
        except ValueError:
            return False
        if np.prod(found[-1]) > 20_000:
            return False
        self.nodes.append(node)
        self.shapes = list(found)
        return True

    def grow(self) -> None:
        here = self.shapes[-1]
        kinds = ["activation", "activation", "binary", "softmax", "affine"]
        kinds += ["conv", "conv", "conv", "pool", "concat", "adaptive", "squeeze"] if len(here) == 3 else ["linear"]
        getattr(self, f"_{self.pick(*kinds)}")(here)

    def _activation(self, here: Shape) -> None:
        op = self.pick("relu", "relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu")
        attributes = {"leaky_relu": {"slope": 0.1}, "gelu": {"tanh": self.pick(True, False)}}
        self.add(op, **attributes.get(op, {}))

    def _conv(self, here: Shape) -> None:
        groups = self.pick(1, 1, 1, here[0], 2)
        out = groups * self.pick(1, 3, 8, 11) if here[0] % groups == 0 else 4
        kernel = (self.pick(1, 2, 3, 3, 5), self.pick(1, 3, 3, 4))
        tensors = {"weight": self.weights(out, max(here[0] // groups, 1), *kernel)}
        if self.pick(True, False):
            tensors["bias"] = self.vector(out)
        self.add(
            "conv",
            tensors=tensors,
            stride=(self.pick(1, 1, 2, 3), self.pick(1, 1, 2, 3)),
            padding=(self.pick(0, 1, 1, 2), self.pick(0, 1, 1, 3)),
            dilation=(self.pick(1, 1, 2), self.pick(1, 1, 2)),
            groups=groups,
        )

    def _pool(self, here: Shape) -> None:
        kernel, stride = (self.pick(1, 2, 2, 3), self.pick(2, 2, 3)), (self.pick(1, 2, 2, 3), self.pick(2, 2, 1))
        padding = (self.pick(0, 0, kernel[0] // 2), self.pick(0, 0, kernel[1] // 2))
        window = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": self.pick(False, False, True)}
        if self.pick(True, False):
            self.add("max_pool", **window)
        else:
            self.add("avg_pool", **window, count_padding=self.pick(True, False))

    def _binary(self, here: Shape) -> None:
        others = [v for v, shape in enumerate(self.shapes) if shape == here]
        self.add(self.pick("add", "add", "mul"), (len(self.nodes), self.pick(*others)))

    def _concat(self, here: Shape) -> None:
        others = [v for v, shape in enumerate(self.shapes) if shape[1:] == here[1:] and len(shape) == 3]
        self.add("concat", tuple(self.pick(*others) for _ in range(self.pick(2, 3))))

    def _squeeze(self, here: Shape) -> None:
        """Squeeze and excite: a map times a number per channel."""
        whole = len(self.nodes)
        if self.add("adaptive_avg_pool", size=(1, 1)):
            self.add("sigmoid")
            pair = (whole, len(self.nodes))
            self.add("mul", self.pick(pair, pair[::-1]))

    def _adaptive(self, here: Shape) -> None:
        self.add("adaptive_avg_pool", size=(self.pick(1, 1, 2, 3), self.pick(1, 2, 4)))

    def _affine(self, here: Shape) -> None:
        self.add("affine", tensors={"scale": self.vector(here[0]), "shift": self.vector(here[0])})

    def _softmax(self, here: Shape) -> None:
        self.add("softmax")

    def _linear(self, here: Shape) -> None:
        out = self.pick(1, 10, 33)
        self.add("linear", tensors={"weight": self.weights(out, here[0]), "bias": self.vector(out)})


def random_graph(seed: int, keep: float, nodes: int) -> Graph:
    draft = Draft(seed, keep)
    for _ in range(nodes):
        draft.grow()
    if draft.pick(True, False) and len(draft.shapes[-1]) == 3:
        draft.add("flatten")
        for _ in range(3):
            draft.grow()
    if not draft.nodes:
        draft.add("relu")
    return Graph(draft.input, tuple(draft.nodes))


@pytest.fixture(scope="session")
def draw_graph() -> Callable[[int, float, int], Graph]:
    return random_graph


def available() -> list[str]:
    """The instruction sets of this processor, best first; none without a compiled engine."""
    names = []
    for name in ("AVX-512", "AVX2", "NEON", "baseline"):
        try:
            importlib.import_module("harp.runtime._engine").isa(name)
        except (ImportError, ValueError):
            continue
        names.append(name)
    return names


@pytest.fixture(params=available())
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HARP_ISA", request.param)
    return request.param
