"""Operations on tensors of any rank as torch modules, for a graph that is rebuilt."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harp.runtime.graph import Node


class WithTensors(nn.Module):
    """A function of inputs and of the node's tensors, which are buffers."""

    def __init__(self, node: Node, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(node.tensors)
        for name, tensor in node.tensors.items():
            self.register_buffer(name, torch.tensor(tensor, dtype=torch.float32))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs, **{name: getattr(self, name) for name in self.names})


def _reshape(node: Node) -> Callable[..., Tensor]:
    shape = node.attributes["shape"]
    return lambda x: x.reshape(x.shape[0], *shape)


def _permute(node: Node) -> Callable[..., Tensor]:
    order = [0, *(axis + 1 for axis in node.attributes["order"])]
    return lambda x: x.permute(order)


def _take(node: Node) -> Callable[..., Tensor]:
    axis, index = node.attributes["axis"] + 1, list(node.attributes["index"])
    if index == list(range(index[0], index[-1] + 1)):
        return lambda x: x.narrow(axis, index[0], len(index))
    places = torch.tensor(index)
    return lambda x: x.index_select(axis, places)


def _expand(node: Node) -> Callable[..., Tensor]:
    shape = node.attributes["shape"]

    def function(x: Tensor) -> Tensor:
        ones = [1] * (len(shape) + 1 - x.dim())
        return x.reshape(x.shape[0], *ones, *x.shape[1:]).expand(x.shape[0], *shape)

    return function


def _pad(node: Node) -> Callable[..., Tensor]:
    of = node.attributes
    widths = [side for pair in zip(of["before"][::-1], of["after"][::-1], strict=True) for side in pair]
    return lambda x: F.pad(x, widths, value=of["value"])


def _beside(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Node], Callable[..., Tensor]]:
    """Of two tensors that broadcast as their shapes without the batch do."""

    def joined(a: Tensor, b: Tensor) -> Tensor:
        rank = max(a.dim(), b.dim())
        return function(*(x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) for x in (a, b)))

    return lambda node: joined


def _join(node: Node) -> Callable[..., Tensor]:
    axis = node.attributes["axis"] + 1
    return lambda *parts: torch.cat(parts, axis)


def _layer_norm(node: Node) -> Callable[..., Tensor]:
    of = node.attributes

    def function(x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        sizes = x.shape[x.dim() - of["axes"] :]
        flat = x.flatten(x.dim() - of["axes"])
        if of["centred"]:
            made = F.layer_norm(flat, flat.shape[-1:], scale, shift, of["eps"])
        else:
            made = F.rms_norm(flat, flat.shape[-1:], scale, of["eps"])
            made = made if shift is None else made + shift
        return made.unflatten(-1, sizes)

    return function


def _group_norm(node: Node) -> Callable[..., Tensor]:
    of = node.attributes
    return lambda x, scale=None, shift=None: torch.group_norm(x, of["groups"], scale, shift, of["eps"])


_REDUCED: Mapping[str, Callable[..., Tensor]] = {
    "sum": lambda x: x.sum(-1, keepdim=True),
    "mean": lambda x: x.mean(-1, keepdim=True),
    "maximum": lambda x: x.amax(-1, keepdim=True),
    "minimum": lambda x: x.amin(-1, keepdim=True),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=-1, keepdim=True),
}


def _matmul(node: Node) -> Callable[..., Tensor]:
    factor = node.attributes["factor"]
    multiply = _beside(torch.matmul)(node)
    return lambda a, b: multiply(a, b) if factor == 1 else multiply(a * factor, b)


def _resample(node: Node) -> Callable[..., Tensor]:
    axis = node.attributes["axis"] + 1
    return lambda x, matrix: (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


def _plain(function: Callable[..., Tensor]) -> Callable[[Node], Callable[..., Tensor]]:
    return lambda node: function


TENSOR_LAYERS: Mapping[str, Callable[[Node], Callable[..., Tensor]]] = {
    "tanh": _plain(torch.tanh),
    "elu": lambda node: lambda x: F.elu(x, node.attributes["alpha"]),
    "mish": _plain(F.mish),
    "softplus": _plain(F.softplus),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sqrt": _plain(torch.sqrt),
    "rsqrt": _plain(torch.rsqrt),
    "abs": _plain(torch.abs),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    "erf": _plain(torch.erf),
    "power": lambda node: lambda x: x ** node.attributes["exponent"],
    "at_least": lambda node: lambda x: x.clamp(min=node.attributes["bound"]),
    "at_most": lambda node: lambda x: x.clamp(max=node.attributes["bound"]),
    "add": _beside(torch.add),
    "mul": _beside(torch.mul),
    "sub": _beside(torch.sub),
    "div": _beside(torch.div),
    "maximum": _beside(torch.maximum),
    "minimum": _beside(torch.minimum),
    "constant": _plain(lambda images, value: value.expand(images.shape[0], *value.shape)),
    "reshape": _reshape,
    "permute": _permute,
    "take": _take,
    "expand": _expand,
    "pad": _pad,
    "join": _join,
    "affine_last": _plain(lambda x, scale, shift: x * scale + shift),
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "softmax_last": _plain(lambda x: x.softmax(-1)),
    "reduce": lambda node: _REDUCED[node.attributes["how"]],
    "matmul": _matmul,
    "resample": _resample,
}
