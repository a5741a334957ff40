"""What is looked at before the work begins: do images, labels and model fit together, and can attacks see anything?"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attacks import PGD, Attack, as_labels, check_images, dtype_of, logits_of
from ..attacks.autoattack import AutoAttack, seeded

_LOOK = 32
"""Images that are looked at before the work begins."""
_ALONE = 8
"""Images that are asked one by one, too."""
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""How far the logits of one image in two batches may differ by rounding, relative to the largest logits."""
_ROUNDING_ON_GPU = 1e-2
"""There at least: TF32 has ten bits, and every size of batch its own algorithm."""


def check_model(model: nn.Module, x: Tensor, labels: Tensor) -> int:
    """The number of classes, once the first images, the model's output and the labels of all images fit together."""
    check_images(x)
    classes = logits_of(model, x[:_LOOK]).shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise ValueError(
            f"label {wrong} is out of range: the model has {classes} classes, so labels run from 0 to {classes - 1}; "
            "judge it on the data it was made for"
        )
    as_labels(labels, len(labels), classes)
    return classes


def doubts(model: nn.Module, x: Tensor, y: Tensor, attack: Attack | None, classes: int) -> list[str]:
    """What makes an accuracy hard to believe, found on the first images."""
    notes = [] if attack is None else _doubts_of_attack(model, x, y, attack, classes)
    return [*notes, *_wavering(model, x[:_ALONE])]


def _doubts_of_attack(model: nn.Module, x: Tensor, y: Tensor, attack: Attack, classes: int) -> list[str]:
    notes = [*attack.departures(classes), *attack.check(model, x, y)] if isinstance(attack, AutoAttack) else []
    x, y = x[:_LOOK], y[:_LOOK]
    if not isinstance(attack, AutoAttack):
        answer = logits_of(model, x)
        if (answer >= 0).all() and torch.allclose(answer.sum(1), torch.ones_like(answer[:, 0]), atol=1e-5):
            notes.append("the model seems to answer with probabilities; attacks need logits: leave out its softmax")
    if isinstance(attack, PGD | AutoAttack):
        with torch.enable_grad():
            x = x.clone().requires_grad_(True)
            logits = logits_of(model, x)
            loss = F.cross_entropy(logits, as_labels(y, *logits.shape), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, x)
        blind = int((gradient.flatten(1) == 0).all(1).sum())
        if blind:
            notes.append(
                f"gradient masking suspected: the loss has no gradient at {blind} of the first {len(x)} images, "
                "where attacks that follow it are blind"
            )
    return notes


def _wavering(model: nn.Module, x: Tensor) -> list[str]:
    """Whether the answer to an image changes from call to call, or with the images beside it: a few asked anew tell.

    An attack then climbs the loss of another function than the one that is judged.
    """
    rounding = _ROUNDING.get(dtype_of(model) or x.dtype, _ROUNDING[torch.float32])
    if x.device.type != "cpu":
        rounding = max(rounding, _ROUNDING_ON_GPU)
    with seeded(0):
        together, again = logits_of(model, x), logits_of(model, x)
        change = _difference(together, again)
        if change > rounding / 10:
            return [
                f"the model's logits change from call to call (by {change:.2g} of their size): "
                "this accuracy is one draw, and attacks that do not average over draws are weak"
            ]
        try:
            alone = torch.cat([logits_of(model, image) for image in x.split(1)])
        except (RuntimeError, ValueError) as error:
            return [f"the model's answer depends on the batch: it cannot answer a single image ({error})"]
    change = _difference(together, alone)
    if change <= rounding:
        return []
    return [
        f"the model's logits for an image change with the other images of its batch (by {change:.2g} of their size; "
        "batch norm without running statistics does that): this accuracy holds for these batches only"
    ]


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest distance of an image's two answers, relative to the largest of their lengths."""
    size = one.norm(dim=1).amax().clamp_min(torch.finfo(one.dtype).tiny)
    return float((one - other).norm(dim=1).amax() / size)
