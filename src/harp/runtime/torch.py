"""The engine as a torch module: logits of a network, and their gradients with respect to the images.

It needs torch, as ``learning`` does and nothing else of the runtime; ``harp.exporting.sparse_module`` makes one of a model.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harp.runtime.graph import Graph
from harp.runtime.session import Session
from harp.runtime.tape import Tape


class SparseModule(nn.Module):
    """What a network answers in eval mode, computed by the engine, at the price of the weights that are left.

    Differentiable once with respect to the images, through autograd: any attack library runs on it. It has no
    parameters, so that nothing can be learned through it; second derivatives raise RuntimeError. Its mode is always
    eval. Equal calls give equal bits, and gradients do whatever the number of threads.

    ``threads`` is how many CPUs it may use; by default all. Raises RuntimeError without the compiled engine.
    """

    def __init__(self, graph: Graph, *, threads: int | None = None) -> None:
        super().__init__()
        self.session = Session(graph, threads=threads, autotune=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images (n, c, h, w) in [0, 1]. Raises ValueError where they are not float32 on the CPU."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            raise ValueError(f"x is {x.dtype} on {x.device}: the engine takes float32 on the CPU; call x.float().cpu()")
        if torch.is_grad_enabled() and x.requires_grad:
            logits: Tensor = _Recorded.apply(x, self.session)  # pyright: ignore[reportAssignmentType]
            return logits
        return torch.from_numpy(self.session(_numpy(x)))

    def update(self, graph: Graph) -> None:
        """Take over the weights of the same network, after a step of training or with other masks."""
        self.session.update(graph)


class _Recorded(torch.autograd.Function):
    """One call of the engine, and its tape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, session: Session) -> Tensor:
        logits, ctx.tape = session.record(_numpy(x))
        ctx.save_for_backward(x)
        return torch.from_numpy(logits)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return _Returned.apply(upstream[0], *ctx.saved_tensors, ctx.tape), None  # pyright: ignore[reportReturnType]


class _Returned(torch.autograd.Function):
    """The way back, which depends on upstream and images, and says so when somebody differentiates it."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, x: Tensor, tape: Tape) -> Tensor:
        return torch.from_numpy(tape.backward(_numpy(upstream)))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> None:
        raise RuntimeError("a SparseModule has no second derivatives; differentiate the model it was made of")


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()
