"""A graph as a plain torch module with dense weights: what dense runtimes are given, and what tests compare with."""

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from harp.exporting.tensor_layers import TENSOR_LAYERS, WithTensors
from harp.runtime.graph import Graph, Node


def rebuild(graph: Graph) -> fx.GraphModule:
    """A module in eval mode that computes ``graph`` exactly: (n, c, h, w) in, the last value out.

    Its forward is straight-line code that lets go of each value after its last reader (``print(module.code)``), so it
    can be compiled, exported and laid out ``channels_last`` like any network. The layers are called ``node0``,
    ``node1``, … by their place in the graph; their weights are copies and do not learn.
    """
    layers, program = nn.Module(), fx.Graph()
    values = [program.placeholder("images")]
    for number, node in enumerate(graph.nodes):
        name = f"node{number}"
        layers.add_module(name, _layer(node))
        values.append(
            program.call_module(name, tuple(values[i] for i in node.inputs or (0,)))
        )  # a constant asks how many images
    program.output(values[-1])
    return fx.GraphModule(layers, program, class_name="Rebuilt").eval().requires_grad_(False)


class _Affine(nn.Module):
    """x · scale + shift, one number per channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.register_buffer("scale", _tensor(node, "scale"))
        self.register_buffer("shift", _tensor(node, "shift"))

    def forward(self, x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        return x * self.scale.view(shape) + self.shift.view(shape)


class _Joined(nn.Module):
    """Several inputs, one result."""

    def __init__(self, join: Callable[..., Tensor]) -> None:
        super().__init__()
        self.join = join

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.join(*inputs)


def _concatenated(*inputs: Tensor) -> Tensor:
    return torch.cat(inputs, 1)


def _conv(node: Node) -> nn.Module:
    outputs, inputs, *kernel = node.tensors["weight"].shape
    of = node.attributes
    groups = of["groups"]
    shape = (inputs * groups, outputs, tuple(kernel), of["stride"], of["padding"], of["dilation"], groups)
    # On the meta device nothing is initialised in vain.
    return _with_weights(nn.Conv2d(*shape, bias="bias" in node.tensors, device="meta"), node)


def _linear(node: Node) -> nn.Module:
    outputs, inputs = node.tensors["weight"].shape
    return _with_weights(nn.Linear(inputs, outputs, bias="bias" in node.tensors, device="meta"), node)


def _with_weights(layer: nn.Module, node: Node) -> nn.Module:
    for name in node.tensors:
        setattr(layer, name, nn.Parameter(_tensor(node, name)))
    return layer


def _tensor(node: Node, name: str) -> Tensor:
    return torch.tensor(node.tensors[name], dtype=torch.float32)


def _max_pool(node: Node) -> nn.Module:
    of = node.attributes
    return nn.MaxPool2d(of["kernel"], of["stride"], of["padding"], ceil_mode=of["ceil"])


def _avg_pool(node: Node) -> nn.Module:
    of = node.attributes
    return nn.AvgPool2d(of["kernel"], of["stride"], of["padding"], of["ceil"], of["count_padding"])


_LAYERS: dict[str, Callable[[Node], nn.Module]] = {
    "conv": _conv,
    "linear": _linear,
    "affine": _Affine,
    "relu": lambda node: nn.ReLU(),
    "relu6": lambda node: nn.ReLU6(),
    "leaky_relu": lambda node: nn.LeakyReLU(node.attributes["slope"]),
    "sigmoid": lambda node: nn.Sigmoid(),
    "silu": lambda node: nn.SiLU(),
    "hardswish": lambda node: nn.Hardswish(),
    "hardsigmoid": lambda node: nn.Hardsigmoid(),
    "gelu": lambda node: nn.GELU("tanh" if node.attributes["tanh"] else "none"),
    "softmax": lambda node: nn.Softmax(1),
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "adaptive_avg_pool": lambda node: nn.AdaptiveAvgPool2d(node.attributes["size"]),
    "concat": lambda node: _Joined(_concatenated),
    "flatten": lambda node: nn.Flatten(),
}


def _layer(node: Node) -> nn.Module:
    made = _LAYERS.get(node.op)
    return WithTensors(node, TENSOR_LAYERS[node.op](node)) if made is None else made(node)
