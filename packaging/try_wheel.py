"""Run an installed wheel on a network and images made here: python packaging/try_wheel.py examples/deploy.py

Needs what a plain installation brings, and works in a folder of its own.
"""

import importlib.util
import os
import runpy
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from harp.cfile.network import layers_of
from harp.runtime import Preprocessing, Session, load
from harp.runtime.format import write
from harp.runtime.graph import Graph, Node
from harp.runtime.numpy_engine import NumpyEngine

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def network(side: int, seed: int) -> Graph:
    """Sparse convolutions, pooling, an activation of each kind, and a linear layer."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> dict[str, np.ndarray]:
        values = np.where(rng.random(shape) < 0.3, rng.standard_normal(shape), 0)
        return {"weight": values.astype(np.float32), "bias": rng.standard_normal(shape[0]).astype(np.float32)}

    nodes = [Node("conv", (0,), CONV, weight(8, 3, 3, 3)), Node("relu", (1,))]
    nodes += [Node("max_pool", (2,), {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": False})]
    for op in ("silu", "hardswish", "sigmoid", "relu6"):
        last = len(nodes)
        nodes += [Node("conv", (last,), CONV, weight(8, 8, 3, 3)), Node(op, (last + 1,)), Node("add", (last, last + 2))]
    last = len(nodes)
    nodes += [Node("adaptive_avg_pool", (last,), {"size": (1, 1)}), Node("flatten", (last + 1,))]
    return Graph((3, side, side), (*nodes, Node("linear", (last + 2,), {}, weight(3, 8))))


def compare(side: int, seed: int) -> None:
    """Raise RuntimeError unless the engine gives what numpy gives."""
    graph = network(side, seed)
    x = np.random.default_rng(seed).random((5, *graph.input), np.float32)
    session = Session(graph, threads=1, autotune=False)
    expected = np.empty((5, 3), np.float32)
    NumpyEngine(layers_of(graph), 1).run(x, session._sizes(graph.input).values, expected, False)
    off = float(np.abs(session(x) - expected).max() / np.abs(expected).max())
    if not off < 1e-4:
        raise RuntimeError(f"images of {side} pixels, seed {seed}: off by {off:.2g}")


def main() -> None:
    example = Path(sys.argv[1]).resolve()
    if importlib.util.find_spec("torch") is not None:
        raise RuntimeError("torch is installed here: this would not show that nothing needs it")
    for seed, side in enumerate((1, 2, 3, 4, 5, 8, 13, 16, 32)):
        compare(side * 2, seed)
    with tempfile.TemporaryDirectory(prefix="harp-trial-") as folder:
        os.chdir(folder)
        card = {"classes": ["cat", "dog", "eel"], "preprocessing": Preprocessing((8, 8)).to_json()}
        write("net.harp", network(8, 0), card=card)
        Path("photos").mkdir()
        for number in range(3):
            Image.effect_noise((20, 20), 50 + number).save(f"photos/{number}.png")
        isa = load("net.harp").isa
        if isa == "numpy":
            raise RuntimeError("the wheel has no engine")
        print(f"engine: {isa}, as exact as numpy", flush=True)
        sys.argv = [str(example), "net.harp", "photos", "--threads", "1"]
        runpy.run_path(str(example), run_name="__main__")
        os.chdir(example.parent)


if __name__ == "__main__":
    main()
