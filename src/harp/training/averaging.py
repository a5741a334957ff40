"""EMA: an exponential moving average of the weights over the steps, evaluated and saved in place of the last ones.

    average after step k  =  Σ_i decay^(k−i) · weights after step i  /  Σ_i decay^(k−i),    i = 1 … k

It begins with the first step, so where the stage started has no weight in it, however short the stage is; Adam corrects
its averages in the same way. Weights that rest are not averaged, nor are masks: scores, keep fractions and frozen masks
are those of the last step. Batch-norm statistics are averaged.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harp.pruning import masks
from harp.pruning.sharpness import restored


class Average:
    """The average of a model's weights and batch-norm statistics: ``step()`` after each step of the optimiser."""

    def __init__(self, model: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"decay={decay} must lie in (0, 1): 0.998 averages over about 500 steps")
        self.model, self.decay, self.steps = model, decay, 0
        self.parameters = _learning(model)
        self.values: dict[str, Tensor] = {}

    @torch.no_grad()
    def step(self) -> None:
        """Take in the weights as they are now."""
        self.steps += 1
        share = (1 - self.decay) / (1 - self.decay**self.steps)
        for name, tensor in self._tensors().items():
            if name in self.values:
                self.values[name].lerp_(tensor, share)  # exact where nothing moved: zeros under a mask stay
            else:
                self.values[name] = tensor.detach().clone()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model has the average for its weights; afterwards its own again, to the last bit."""
        if not self.values:  # no step was taken yet
            yield
            return
        with restored(self.model, self.parameters.values()):
            with torch.no_grad():
                for name, tensor in self._tensors().items():
                    tensor.copy_(self.values[name])
            yield

    def _tensors(self) -> dict[str, Tensor]:
        """What is averaged, as it stands now; buffers anew, since a module may put another tensor in the place of one."""
        return {**self.parameters, **_statistics(self.model)}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        self.values = {
            name: torch.empty_like(tensor, requires_grad=False).copy_(state["values"][name])
            for name, tensor in (self._tensors() if self.steps else {}).items()
        }


def _learning(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that learns, but those of masks."""
    of_masks = {id(parameter) for mask in masks(model).values() for parameter in mask.parameters()}
    found = ((name, p) for name, p in model.named_parameters() if p.requires_grad and id(p) not in of_masks)
    return {name: parameter for name, parameter in found if parameter.is_floating_point()}


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Every buffer of floating point, but those of masks."""
    of_masks = {id(buffer) for mask in masks(model).values() for buffer in mask.buffers()}
    return {name: b for name, b in model.named_buffers() if b.is_floating_point() and id(b) not in of_masks}
