"""Any network that the runtime takes: the compiled C file gives the same results and classes."""

import math
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harp
from harp.cfile import write_c
from harp.cfile.compiling import FLAGS, compiled
from harp.cfile.header import header_text
from harp.cfile.network import ACTIVATIONS, KINDS, network_of
from harp.cfile.source import source_text
from harp.cfile.storing import Values
from harp.exporting import trace
from harp.models import build_model
from harp.runtime import Session
from harp.runtime.graph import OPS, Graph, Node
from harp.runtime.numpy_engine import NumpyEngine
from harp.runtime.quantizing import dequantized, quantized

CLASSES = 10


def pruned(name: str, shape: tuple[int, int, int], keep: float) -> Graph:
    """A network of harp's with random weights, batch norms with something to do, and few weights left."""
    torch.manual_seed(0)
    model = build_model(name, shape=shape, classes=CLASSES)
    harp.attach_masks(model, harp.weight_budget(model, keep=keep), harp.methods.ERK)
    harp.bake_masks(harp.freeze_masks(model))
    for norm in [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0.0, 0.3)
    return trace(model.eval(), torch.zeros(1, *shape))


def images(graph: Graph, count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, *graph.input), np.float32)


def run_c(graph: Graph, x: np.ndarray, values: Values = "f32", using: tuple[str, ...] = ("cc",)) -> np.ndarray:
    network = network_of(graph, values)
    source, header = source_text(network, "net", "network.h", None), header_text(network, "net", {}, None)
    return compiled(source, header, "net", x, math.prod(network.output), using=list(using))


def in_numpy(graph: Graph, x: np.ndarray, values: Values = "f32") -> np.ndarray:
    """With the weights that the C file holds."""
    network = network_of(graph, values)
    out = np.empty((len(x), math.prod(network.output)), np.float32)
    NumpyEngine(network.layers, 1).run(x, network.sizes, out, False)
    return out


def agree(result: np.ndarray, reference: np.ndarray) -> bool:
    reference = reference.reshape(result.shape)
    return bool(np.abs(result - reference).max() <= 1e-4 * np.abs(reference).max() + 1e-6)


@pytest.mark.parametrize(("name", "shape"), [("vgg_small", (1, 8, 8)), ("resnet_small", (1, 14, 14))])
@pytest.mark.parametrize(("values", "off"), [("f32", 1e-5), ("f16", 2e-3), ("int8", 2e-2)])
def test_a_pruned_network_in_c_gives_the_classes_that_the_engine_gives(cc, tmp_path, name, shape, values, off):
    graph = pruned(name, shape, 0.05)
    x = images(graph, 200)
    done = write_c(tmp_path / "net.c", graph, values=values, images=x)
    assert done.by == cc
    assert done.images == 200
    assert done.difference <= off
    if values == "f32":
        assert done.changed == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_random_network_gives_what_the_engine_gives(cc, draw_graph: Callable[..., Graph], seed: int):
    graph = draw_graph(seed, (0.02, 0.3, 1.0)[seed % 3], 9)
    x = images(graph, 3)
    assert agree(run_c(graph, x), Session(graph, threads=1, autotune=False)(x))


@pytest.mark.slow
def test_random_networks_of_all_operations_stay_inside_of_their_memory(cc, draw_graph: Callable[..., Graph]):
    """With every kind of value, under GCC's sanitizers and by Clang."""
    seen: set[str] = set()
    sanitized = ("gcc", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
    compilers = [words for words in (sanitized, ("clang",)) if shutil.which(words[0])]
    for seed in range(150):
        graph = draw_graph(seed, (0.0, 0.02, 0.3, 1.0)[seed % 4], 9)
        seen |= {node.op for node in graph.nodes}
        x, values = images(graph, 2), ("f32", "f16", "int8")[seed % 3]
        found = run_c(graph, x, values, compilers[seed % len(compilers)])
        assert agree(found, in_numpy(graph, x, values)), (seed, values)
    assert seen == ({*KINDS, *ACTIVATIONS, "linear"} & set(OPS))


def test_every_activation_is_that_of_pytorch(cc):
    ops = [("gelu", {"tanh": True}), ("gelu", {"tanh": False}), ("leaky_relu", {"slope": 0.3})]
    ops += [(op, {}) for op in ("relu", "relu6", "sigmoid", "silu", "hardswish", "hardsigmoid", "softmax")]
    x = np.linspace(-30, 30, 96, dtype=np.float32).reshape(2, 3, 4, 4)
    nodes = [Node(op, (0,), attributes) for op, attributes in ops]
    graph = Graph((3, 4, 4), (*nodes, Node("concat", tuple(range(1, len(ops) + 1)))))
    assert agree(run_c(graph, x), Session(graph, threads=1, autotune=False)(x))


def test_no_number_is_swallowed_on_its_way(cc):
    """NaN comes through activations and maxima as it does in PyTorch."""
    nodes = (Node("relu", (0,)), Node("max_pool", (1,), {**WINDOW, "ceil": False}), Node("relu6", (2,)))
    graph = Graph((1, 4, 4), nodes)
    x = np.random.default_rng(0).random((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 0] = np.nan
    with_nan = np.isnan(run_c(graph, x)).reshape(2, 2)
    assert with_nan.tolist() == [[True, False], [False, False]]


WINDOW = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}


def test_weights_of_every_size_are_read_back_exactly(cc):
    """From the smallest subnormal to the largest float, and halves of both signs."""
    for values, extremes in (
        ("f32", [1e-45, 1.1754942e-38, 1.17549435e-38, 3.4028235e38, -1.5, 1 / 3]),
        ("f16", [6e-8, 6.0976e-5, 6.1035e-5, 65504, -65504, -1 / 3]),
    ):
        weight = np.diag(np.array(extremes, np.float32))
        graph = Graph((6, 1, 1), (Node("flatten", (0,)), Node("linear", (1,), {}, {"weight": weight})))
        found = run_c(graph, np.ones((1, 6, 1, 1), np.float32), values)[0]
        assert found.tolist() == np.diag(weight if values == "f32" else weight.astype(np.float16)).tolist()


def test_eight_bits_are_off_by_half_a_step_of_their_output():
    rng = np.random.default_rng(0)
    outputs = np.repeat(np.arange(4), 50)
    values = (rng.standard_normal(200) * np.array([1e-6, 1, 1e6, 3])[outputs]).astype(np.float32)
    stored, scales = quantized(values, outputs, 5)
    assert np.all(np.abs(dequantized(stored, outputs, scales) - values) <= 0.5001 * scales[outputs])
    largest = np.maximum.reduceat(np.abs(values), [0, 50, 100, 150])
    assert np.all(scales[:4] <= 1.13 * largest / 127)
    assert scales[4] == 1
    assert np.abs(stored).max() <= 127


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_the_file_is_c99_to_the_letter(name, draw_graph: Callable[..., Graph], tmp_path):
    """Nothing is warned of in a network of all activations, as C and, the header, as C++."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    assert {"-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"} <= set(FLAGS)
    for seed in range(3):
        write = write_c(tmp_path / "net.c", draw_graph(seed, 0.3, 9), values="f16", tolerance=1e9)
        subprocess.run([name, *FLAGS, "-Wshadow", "-c", write.path, "-o", os.devnull], check=True)
    subprocess.run(
        [
            name,
            "-x",
            "c++",
            "-fsyntax-only",
            "-Wall",
            "-Werror",
            "-Wno-pragma-once-outside-header",
            Path(tmp_path / "net.h"),
        ],
        check=True,
    )
