"""Random networks as graphs, whose shapes fit whatever was drawn; and the instruction sets to run them with."""

import importlib
import importlib.util
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harp.runtime.graph import ACTIVATIONS, REDUCTIONS, Graph, Node, Shape
from harp.runtime.shapes import shapes

OF_MAPS = ("relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "hardsigmoid", "gelu")
TENSOR_KINDS = ["reshape", "permute", "take", "expand", "pad", "join", "beside_constant", "affine_last", "norm"]
TENSOR_KINDS += ["rows", "matmul", "resample"]


class Draft:
    """Adds random nodes to a graph; every draw comes from one generator, so a seed is a network.

    Of ``maps`` alone it draws what the engine can go back through, and what a C file can hold.
    """

    def __init__(self, seed: int, keep: float, maps: bool) -> None:
        self.maps = maps
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
        node = Node(
            op, (len(self.nodes),) if inputs is None else inputs, attributes, tensors or {}, f"{op}{len(self.nodes)}"
        )
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
        if not self.maps:
            kinds += ["linear", *TENSOR_KINDS]
        elif len(here) != 3:
            kinds += ["linear"]
        if len(here) == 3:
            kinds += ["conv"] * 5 + ["pool", "concat", "adaptive", "squeeze"] * 2
        getattr(self, f"_{self.pick(*kinds)}")(here)

    def _activation(self, here: Shape) -> None:
        """Those that are defined for positive numbers alone get such."""
        op = self.pick(*(OF_MAPS if self.maps else ACTIVATIONS), *["relu"] * 8)
        attributes = {"leaky_relu": {"slope": 0.1}, "gelu": {"tanh": self.pick(True, False)}, "elu": {"alpha": 0.7}}
        attributes |= {
            "at_least": {"bound": -0.3},
            "at_most": {"bound": 0.4},
            "power": {"exponent": self.pick(-1.0, 1.5)},
        }
        if op in ("log", "sqrt", "rsqrt", "power"):
            self.add("sigmoid")
            self.add("at_least", bound=0.1)
            self.add("at_most", bound=0.8)
        if op == "exp":
            self.add("at_most", bound=3.0)
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
        self.add("linear", tensors={"weight": self.weights(out, here[-1]), "bias": self.vector(out)})

    # On tensors of any rank

    def _reshape(self, here: Shape) -> None:
        axis = int(self.rng.integers(len(here)))
        factor = next((n for n in (4, 3, 2) if here[axis] % n == 0), 1)
        apart = (*here[:axis], factor, here[axis] // factor, *here[axis + 1 :])
        together = (*here[:axis], int(np.prod(here[axis : axis + 2])), *here[axis + 2 :])
        self.add("reshape", shape=self.pick(apart, together))

    def _permute(self, here: Shape) -> None:
        self.add("permute", order=tuple(int(i) for i in self.rng.permutation(len(here))))

    def _take(self, here: Shape) -> None:
        axis = int(self.rng.integers(len(here)))
        size = here[axis]
        some = tuple(int(i) for i in self.rng.integers(0, size, self.pick(1, 3, 5)))
        self.add("take", axis=axis, index=self.pick(some, tuple(range(size))[::2], tuple(range(size))[::-1]))

    def _expand(self, here: Shape) -> None:
        self.add("expand", shape=self.pick((2, *here), tuple(self.pick(1, 3) if n == 1 else n for n in here)))

    def _pad(self, here: Shape) -> None:
        before, after = (tuple(self.pick(0, 0, 1, 2) for _ in here) for _ in range(2))
        if len(here) == 3 and self.pick(True, False):
            self.add("pad", before=(0, *before[1:]), after=(0, *after[1:]), value=0.0)
            self._conv(self.shapes[-1])
        else:
            self.add("pad", before=before, after=after, value=0.5)

    def _join(self, here: Shape) -> None:
        axis = int(self.rng.integers(len(here)))
        rest = (*here[:axis], *here[axis + 1 :])
        others = [v for v, s in enumerate(self.shapes) if len(s) == len(here) and (*s[:axis], *s[axis + 1 :]) == rest]
        self.add("join", tuple(self.pick(*others) for _ in range(self.pick(2, 3))), axis=axis)

    def _beside_constant(self, here: Shape) -> None:
        shape = self.pick(here, here[-1:], tuple(self.pick(1, n) for n in here), here[1:] or here)
        value = np.abs(self.rng.standard_normal(shape)).astype(np.float32) + np.float32(0.2)
        whole = len(self.nodes)
        if self.add("constant", (), {"value": value}):
            pair = (whole, len(self.nodes))
            self.add(self.pick("add", "sub", "mul", "maximum", "minimum"), self.pick(pair, pair[::-1]))
            self.add("div", (len(self.nodes), pair[1]))

    def _affine_last(self, here: Shape) -> None:
        self.add("affine_last", tensors={"scale": self.vector(here[-1]), "shift": self.vector(here[-1])})

    def _norm(self, here: Shape) -> None:
        axes = self.pick(1, 1, len(here))
        count, groups = int(np.prod(here[-axes:])), self.pick(1, 2, here[0])
        both = {"scale": self.vector(count), "shift": self.vector(count)}
        self.add("layer_norm", tensors=self.pick({}, both), axes=axes, eps=0.1, centred=self.pick(True, False))
        self.add("group_norm", tensors={"scale": self.vector(here[0])}, groups=groups, eps=0.1)

    def _rows(self, here: Shape) -> None:
        if self.pick(True, False):
            self.add("softmax_last")
        else:
            self.add("reduce", how=self.pick(*REDUCTIONS))

    def _matmul(self, here: Shape) -> None:
        """A value times itself, turned."""
        if len(here) > 1:
            whole = len(self.nodes)
            turned = (*range(len(here) - 2), len(here) - 1, len(here) - 2)
            if self.add("permute", order=turned):
                self.add("matmul", (whole, len(self.nodes)), factor=0.1)

    def _resample(self, here: Shape) -> None:
        axis = int(self.rng.integers(len(here)))
        self.add("resample", tensors={"matrix": self.weights(self.pick(1, 6), here[axis])}, axis=axis)


def random_graph(seed: int, keep: float, nodes: int, *, maps: bool = False) -> Graph:
    draft = Draft(seed, keep, maps)
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
def draw_graph() -> Callable[..., Graph]:
    return random_graph


@pytest.fixture(scope="session")
def draw_map_graph() -> Callable[[int, float, int], Graph]:
    return partial(random_graph, maps=True)


@pytest.fixture
def wrong_at_once() -> Callable[..., list[int]]:
    """(compute, batches, expected, times) → which batches came out otherwise when eight threads computed at once."""

    def run(compute: Callable[[np.ndarray], np.ndarray], batches, expected, times: int) -> list[int]:
        wrong: list[int] = []

        def work(i: int) -> None:
            for _ in range(times):
                if not np.array_equal(compute(batches[i]), expected[i]):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i % len(batches),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return wrong

    return run


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


@pytest.fixture(scope="session")
def fuzz() -> ModuleType:
    """The fuzzer of files, which is a program beside these tests."""
    spec = importlib.util.spec_from_file_location("fuzz_format", Path(__file__).parent / "fuzz_format.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
