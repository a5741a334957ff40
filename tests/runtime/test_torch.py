"""The engine as a torch module: autograd goes through it, and attacks run on it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian

from harp.exporting.rebuilding import rebuild
from harp.runtime.graph import Graph, Node
from harp.runtime.torch import SparseModule

pytest.importorskip("harp.runtime._engine", reason="this installation has no compiled engine")

CONV = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}


def network(seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape).astype(np.float32) for shape in ((6, 3, 3, 3), (4, 6 * 36))]
    weights[0] *= rng.random(weights[0].shape) < 0.4
    nodes = (
        Node("conv", (0,), CONV, {"weight": weights[0]}),
        Node("relu", (1,)),
        Node("flatten", (2,)),
        Node("linear", (3,), {}, {"weight": weights[1] / 5}),
    )
    return Graph((3, 6, 6), nodes)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def test_autograd_gives_the_gradient_that_torch_gives(images: torch.Tensor):
    graph, gradients = network(), []
    for module in (SparseModule(graph, threads=1), rebuild(graph)):
        x = images.clone().requires_grad_()
        loss = nn.functional.cross_entropy(module(2 * x - 1), torch.arange(5) % 4)
        gradients.append(torch.autograd.grad(loss, x)[0])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_logits_without_a_gradient_are_those_with_one(images: torch.Tensor):
    module = SparseModule(network(), threads=1)
    with torch.no_grad():
        plain = module(images)
    recorded = module(images.clone().requires_grad_())
    assert recorded.requires_grad
    assert not plain.requires_grad
    torch.testing.assert_close(plain, recorded.detach(), rtol=1e-5, atol=1e-5)


def test_a_graph_that_is_retained_goes_back_twice(images: torch.Tensor):
    x = images.clone().requires_grad_()
    logits = SparseModule(network(), threads=1)(x).sum()
    first, second = (torch.autograd.grad(logits, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_upstream_of_any_strides_is_taken(images: torch.Tensor):
    module, x = SparseModule(network(), threads=1), images.clone().requires_grad_()
    upstream = torch.rand(4, 5)
    (strided,) = torch.autograd.grad(module(x), x, upstream.T)
    (plain,) = torch.autograd.grad(module(x), x, upstream.T.contiguous())
    assert torch.equal(strided, plain)


def test_a_second_derivative_is_refused(images: torch.Tensor):
    module = SparseModule(network(), threads=1)
    with pytest.raises(RuntimeError, match="a SparseModule has no second derivatives"):
        hessian(lambda x: module(x).square().sum(), images[:1])


def test_it_has_nothing_to_learn():
    assert list(SparseModule(network(), threads=1).parameters()) == []


def test_new_weights_give_new_logits(images: torch.Tensor):
    module = SparseModule(network(0), threads=1)
    before = module(images)
    module.update(network(1))
    torch.testing.assert_close(module(images), rebuild(network(1))(images), rtol=1e-4, atol=1e-4)
    assert not torch.equal(module(images), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_of_another_type_are_refused(images: torch.Tensor, dtype: torch.dtype):
    with pytest.raises(ValueError, match=rf"x is {dtype} on cpu: the engine takes float32 on the CPU"):
        SparseModule(network(), threads=1)(images.to(dtype))
