"""What a step may change, and by how much: the optimiser's groups, and the learning rate over time."""

import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harp.pruning import masks
from harp.recipes import Training


@runtime_checkable
class KeepRule(Protocol):
    """How learned keep fractions reach the budget: :class:`harp.pruning.Descent` or :class:`harp.pruning.Penalty`."""

    gamma: float | None
    moves_logits: bool

    def start_epoch(self) -> None: ...
    def loss(self) -> Tensor | float: ...
    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def make_optimizer(model: nn.Module, settings: Training, *, rule: KeepRule | None = None) -> torch.optim.Optimizer:
    """SGD or AdamW over what may learn now. Logits never decay: a logit of 0 would mean keep = 0.5."""
    found = masks(model).values()
    logits = [mask.logit for mask in found if mask.logit is not None]
    scores = [mask.scores for mask in found if mask.scores is not None and mask.scores.requires_grad]
    special = {id(parameter) for parameter in logits + scores}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in special]
    groups = [
        {"params": others, "weight_decay": settings.weight_decay},
        {"params": scores, "weight_decay": settings.decay_of_scores},
        # A rule that moves the logits itself wants them here all the same, for loss scaling to treat them like all.
        {"params": logits, "weight_decay": 0.0, "lr": 0.0 if rule is not None and rule.moves_logits else settings.lr},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("nothing in the model may learn: every parameter has requires_grad=False")
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)


def lr_factor(settings: Training, epoch: float) -> float:
    """The share of the peak learning rate at a point of time given in epochs; a pure function, so resuming needs no state."""
    if epoch < settings.warmup_epochs:
        return (epoch + 1e-3) / settings.warmup_epochs
    done = (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
    match settings.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "piecewise":
            return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01
        case "constant":
            return 1.0


def set_lr(optimizer: Any, factor: float) -> None:
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor
