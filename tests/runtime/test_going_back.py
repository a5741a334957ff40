"""The engine goes back: its gradients with respect to images are PyTorch's, whatever the network, batch and threads."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harp.exporting.rebuilding import rebuild
from harp.runtime import Session
from harp.runtime.graph import Graph, Node

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

thorough = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": False}


def images(graph: Graph, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, *graph.input), np.float32)


def upstream_for(outputs: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(outputs.shape).astype(np.float32)


def expected(graph: Graph, x: np.ndarray, upstream: np.ndarray) -> np.ndarray:
    """PyTorch's gradient in float64."""
    inputs = torch.from_numpy(x).double().requires_grad_()
    outputs = rebuild(graph).double()(inputs)
    (gradient,) = torch.autograd.grad(outputs, inputs, torch.from_numpy(upstream).double())
    return gradient.numpy()


def agree(gradient: np.ndarray, reference: np.ndarray) -> bool:
    off = np.linalg.norm(gradient - reference)
    return gradient.shape == reference.shape and bool(off <= 1e-3 * np.linalg.norm(reference) + 1e-6)


def gradient_of(graph: Graph, x: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The engine's gradient, and the upstream it was asked for."""
    outputs, tape = Session(graph, threads=threads, autotune=False).record(x)
    upstream = upstream_for(outputs)
    return tape.backward(upstream), upstream


@thorough
@given(
    seed=st.integers(0, 2**32),
    keep=st.sampled_from([0.01, 0.04, 0.2, 0.6, 1.0]),
    nodes=st.integers(1, 9),
    batch=st.integers(1, 17),
    threads=st.sampled_from([1, 1, 2, 3]),
)
def test_any_network_gives_the_gradient_that_pytorch_gives(
    draw_map_graph: Callable[..., Graph], instructions, seed, keep, nodes, batch, threads
):
    graph = draw_map_graph(seed, keep, nodes)
    x = images(graph, batch, seed % 1000)
    gradient, upstream = gradient_of(graph, x, threads)
    assert agree(gradient, expected(graph, x, upstream))


def network(seed: int = 0, activation: str = "relu", residual: bool = True, keep: float = 0.1) -> Graph:
    """Convolutions with every way out: a residual, an activation, a pooling; a stride; a linear layer."""
    rng = np.random.default_rng(seed)

    def weight(*shape: int) -> np.ndarray:  # large enough that no two maxima are equal but for rounding
        values = (
            3 * rng.standard_normal(shape) * (rng.random(shape) < keep) / np.sqrt(max(keep * np.prod(shape[1:]), 1))
        )
        return values.astype(np.float32)

    def conv(inputs: int, value: int, **attributes: Any) -> Node:
        return Node("conv", (value,), CONV | attributes, {"weight": weight(16, inputs, 3, 3), "bias": weight(16)})

    attributes = {"leaky_relu": {"slope": 0.1}, "gelu": {"tanh": False}}.get(activation, {})
    nodes = [conv(3, 0), Node(activation, (1,), attributes), conv(16, 2)]
    if residual:
        nodes.append(Node("add", (3, 2)))
    nodes += [Node(activation, (len(nodes),), attributes), conv(16, len(nodes) + 1)]
    nodes += [Node(activation, (len(nodes),), attributes), Node("max_pool", (len(nodes) + 1,), POOL)]
    nodes += [conv(16, len(nodes), stride=(2, 2)), Node("max_pool", (len(nodes) + 1,), POOL)]
    nodes += [Node("flatten", (len(nodes),))]
    nodes += [Node("linear", (len(nodes),), {}, {"weight": rng.standard_normal((10, 64)).astype(np.float32)})]
    return Graph((3, 16, 16), tuple(nodes))


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "sigmoid", "silu", "hardswish", "gelu"])
@pytest.mark.parametrize("residual", [True, False])
def test_every_way_out_of_a_convolution_has_its_way_back(activation: str, residual: bool):
    graph = network(activation=activation, residual=residual)
    x = images(graph, 5)
    gradient, upstream = gradient_of(graph, x)
    assert agree(gradient, expected(graph, x, upstream))


@pytest.mark.parametrize("batch", [0, 1, 3, 16, 35])
def test_the_number_of_threads_changes_no_bit(batch: int):
    graph = network()
    x = images(graph, batch)
    one, two, three = (gradient_of(graph, x, threads)[0] for threads in (1, 2, 3))
    assert one.shape == x.shape
    assert np.array_equal(one, two)
    assert np.array_equal(one, three)


def test_a_tape_goes_back_again_and_outlives_later_calls():
    graph = network()
    session = Session(graph, threads=2, autotune=False)
    x = images(graph, 20)
    outputs, tape = session.record(x)
    upstream = upstream_for(outputs)
    first = tape.backward(upstream)
    _, later = session.record(x[:, :, ::-1])
    later.backward(upstream)
    assert np.array_equal(tape.backward(upstream), first)


def test_a_tape_goes_back_when_its_session_is_gone():
    graph = network()
    x = images(graph, 3)
    session = Session(graph, threads=2, autotune=False)
    outputs, tape = session.record(x)
    del session
    assert agree(tape.backward(upstream_for(outputs)), expected(graph, x, upstream_for(outputs)))


def test_threads_of_python_may_go_back_at_once(wrong_at_once: Callable[..., list[int]]):
    graph = network()
    session = Session(graph, threads=2, autotune=False)
    batches = [images(graph, n, seed=n) for n in (1, 3, 16, 20)]

    def gradient(x: np.ndarray) -> np.ndarray:
        outputs, tape = session.record(x)
        return tape.backward(upstream_for(outputs))

    alone = [gradient(x) for x in batches]
    assert wrong_at_once(gradient, batches, alone, times=10) == []


def test_whatever_tuning_chooses_the_gradient_stays():
    graph = network(keep=0.3)
    x = images(graph, 16)
    outputs, tape = Session(graph, threads=1, autotune=True).record(x)
    upstream = upstream_for(outputs)
    assert agree(tape.backward(upstream), expected(graph, x, upstream))


def test_of_equal_maxima_the_first_gets_the_gradient():
    graph = Graph((1, 4, 4), (Node("max_pool", (0,), POOL),))
    outputs, tape = Session(graph, threads=1, autotune=False).record(np.ones((1, 1, 4, 4), np.float32))
    gradient = tape.backward(np.ones_like(outputs))
    assert gradient[0, 0].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]


def test_a_relu_at_zero_lets_no_gradient_pass():
    graph = Graph((1, 2, 2), (Node("relu", (0,)),))
    x = np.array([[[[-1, 0], [0.5, 2]]]], np.float32)
    outputs, tape = Session(graph, threads=1, autotune=False).record(x)
    assert tape.backward(np.full_like(outputs, 3))[0, 0].tolist() == [[0, 0], [3, 3]]


def test_bytes_have_a_gradient_with_respect_to_the_images_that_they_stand_for():
    graph = network()
    x = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    session = Session(graph, threads=1, autotune=False)
    floats = np.ascontiguousarray(x.transpose(0, 3, 1, 2)).astype(np.float32) / 255
    results = [session.record(given) for given in (x, floats)]
    upstream = upstream_for(results[0][0])
    assert np.array_equal(*(tape.backward(upstream) for _, tape in results))


@pytest.mark.parametrize(
    ("upstream", "error", "message"),
    [
        (np.zeros((2, 10)), TypeError, "upstream is float64: expected a numpy array of float32"),
        (np.zeros((3, 10), np.float32), ValueError, r"shape \(3, 10\): expected that of the outputs, \(2, 10\)"),
    ],
)
def test_a_wrong_upstream_says_what_was_expected(upstream, error, message):
    _, tape = Session(network(), threads=1, autotune=False).record(images(network(), 2))
    with pytest.raises(error, match=message):
        tape.backward(upstream)


def scaled(graph: Graph, factor: float) -> Graph:
    nodes = (
        replace(node, tensors={name: factor * np.asarray(tensor) for name, tensor in node.tensors.items()})
        for node in graph.nodes
    )
    return Graph(graph.input, tuple(nodes))


@pytest.mark.parametrize("keep", [0.2, 0.5])
@pytest.mark.parametrize("masks", ["the same", "others"])
def test_new_weights_take_the_place_of_the_old_in_the_plans_that_are_there(keep: float, masks: str):
    first = network(0, keep=keep)
    session = Session(first, threads=1, autotune=False)
    x = images(first, 5)
    session.record(x)
    session(x)
    plans = session._engine.plans
    other = scaled(first, 1.5) if masks == "the same" else network(1, keep=keep)
    session.update(other)
    outputs, tape = session.record(x)
    upstream = upstream_for(outputs)
    fresh_outputs, fresh = Session(other, threads=1, autotune=False).record(x)
    assert np.array_equal(outputs, fresh_outputs)
    assert np.array_equal(tape.backward(upstream), fresh.backward(upstream))
    assert np.array_equal(session(x), Session(other, threads=1, autotune=False)(x))
    assert session._engine.plans == plans


def test_masks_that_leave_other_channels_are_planned_anew():
    session = Session(network(0, keep=0.5), threads=1, autotune=False)
    sparse = network(1, keep=0.01)
    session.update(sparse)
    x = images(sparse, 3)
    outputs, tape = session.record(x)
    assert agree(tape.backward(upstream_for(outputs)), expected(sparse, x, upstream_for(outputs)))
    assert session.macs() == Session(sparse).macs()


def test_a_tape_of_old_weights_is_refused():
    session = Session(network(0, keep=0.5), threads=1, autotune=False)
    outputs, tape = session.record(images(network(0), 2))
    session.update(network(1, keep=0.5))
    with pytest.raises(RuntimeError, match="the weights have changed since these images were recorded"):
        tape.backward(upstream_for(outputs))


def test_another_network_is_no_update():
    session = Session(network(residual=True), threads=1)
    with pytest.raises(ValueError, match="graph is another network"):
        session.update(network(residual=False))
