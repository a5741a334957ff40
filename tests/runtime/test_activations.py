"""Activations over their whole range, on every instruction set: the engine's own arithmetic beside torch in double."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harp.runtime import Session
from harp.runtime.graph import Graph, Node

NUMBERS = torch.cat([torch.linspace(-30, 30, 60_001, dtype=torch.float64), torch.tensor([-3e4, -0.0, 1e-20, 3e4])])


@pytest.mark.parametrize("isa", ["", "AVX2", "baseline"])
@pytest.mark.parametrize(
    ("node", "function"),
    [
        (Node("gelu", (0,), {"tanh": False}), F.gelu),
        (Node("elu", (0,), {"alpha": 0.7}), lambda x: F.elu(x, 0.7)),
        (Node("mish", (0,)), F.mish),
    ],
    ids=lambda value: getattr(value, "op", ""),
)
def test_an_activation_is_right_to_a_millionth(node: Node, function, isa: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HARP_ISA", isa)
    given = NUMBERS.float()
    found = Session(Graph((1, 1, len(given)), (node,)), threads=1, autotune=False)(given.view(1, 1, 1, -1).numpy())
    expected = function(given.double()).numpy()
    assert np.all(np.abs(found.reshape(-1) - expected) <= 5e-7 * np.maximum(1, np.abs(given.numpy())))


@pytest.mark.parametrize("count", [1, 7, 16, 17, 33])
def test_rows_of_any_length_are_summed_to_the_end_and_no_further(count: int):
    x = torch.randn(3, 2, count, generator=torch.Generator().manual_seed(0))
    graph = Graph(
        (2, 3, count), (Node("softmax_last", (0,)), Node("layer_norm", (1,), {"axes": 1, "eps": 1e-5, "centred": True}))
    )
    images = x.transpose(0, 1)[None].contiguous()
    found = Session(graph, threads=1)(images.numpy())
    expected = F.layer_norm(images.softmax(-1), (count,))
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=2e-5, rtol=1e-5)
