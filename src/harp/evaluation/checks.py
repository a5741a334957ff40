"""What is looked at before the work begins: do images, labels and model fit together, and can attacks see anything?"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..attacks import PGD, Attack, check_images
from ..attacks.autoattack import AutoAttack

_LOOK = 32
"""Images that are looked at before the work begins."""


def check_model(model: nn.Module, x: Float[Tensor, "batch channels h w"], labels: Int[Tensor, " images"]) -> int:
    """The number of classes, once the images, the model's output and the labels fit together."""
    check_images(x)
    logits = model(x[:_LOOK])
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(x[:_LOOK]) or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model answers {len(x[:_LOOK])} images with {shape}, expected (batch, classes >= 2)")
    classes = logits.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise ValueError(
            f"label {wrong} is out of range: the model has {classes} classes, so labels run from 0 to {classes - 1}; "
            "judge it on the data it was made for"
        )
    return classes


def doubts(model: nn.Module, x: Tensor, y: Tensor, attack: Attack | None, classes: int) -> list[str]:
    """What makes robust accuracy hard to believe, found on the first images."""
    if attack is None:
        return []
    notes = [*attack.departures(classes), *attack.check(model, x, y)] if isinstance(attack, AutoAttack) else []
    x, y = x[:_LOOK], y[:_LOOK]
    if not isinstance(attack, AutoAttack):
        answer = model(x).float()
        if (answer >= 0).all() and torch.allclose(answer.sum(1), torch.ones_like(answer[:, 0]), atol=1e-5):
            notes.append("the model seems to answer with probabilities; attacks need logits: leave out its softmax")
    if isinstance(attack, PGD | AutoAttack):
        with torch.enable_grad():
            x = x.clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y, reduction="sum"), x)
        blind = int((gradient.flatten(1) == 0).all(1).sum())
        if blind:
            notes.append(
                f"gradient masking suspected: the loss has no gradient at {blind} of the first {len(x)} images, "
                "where attacks that follow it are blind"
            )
    return notes
