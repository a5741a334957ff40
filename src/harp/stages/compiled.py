"""The attacks of a stage, compiled: torch.compile of a copy in which masks are not computed but done.

Masks are held for a whole step, so to its attack they are constants, and the copy has plain weights. Each step writes weights,
masks and statistics into it; the program stays.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from harp.exporting import plain_copy, tensors_of


class Compiled:
    """Called with the model and a batch, it gives the compiled copy with the weights of now. It has no state to go on from."""

    name = "torch"

    def __init__(self) -> None:
        self._plain: nn.Module | None = None
        self._program: Any = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        if self._plain is None:
            # In training mode outside of attacks, where pixels on a GPU are looked at once and not in every step.
            plain = plain_copy(model)
            self._plain = (copy.deepcopy(model) if plain is model else plain).requires_grad_(False).train()
            self._program = torch.compile(self._plain, dynamic=False)
        now = tensors_of(model)
        theirs = {**dict(self._plain.named_parameters()), **dict(self._plain.named_buffers())}
        with torch.no_grad():
            for name, tensor in theirs.items():
                tensor.copy_(now[name])
        return self._program

    def engine(self) -> None:
        """Validation asks the model itself."""

    def state_dict(self) -> dict[str, Any]:
        return {"engine": self.name}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing is left of an earlier process."""
