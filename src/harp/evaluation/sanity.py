"""Cheap checks of a network before it is attacked, on a few images: each that fails is a sentence among the notes.

They change no result. Most are those of Carlini et al. 2019, "On Evaluating Adversarial Robustness".
"""

import torch
from torch import Tensor, nn

from harp.attacks import PGD, Threat, as_labels, cw_margin, dtype_of, logits_of
from harp.attacks.autoattack import classified, seeded
from harp.attacks.pgd import cross_entropy
from harp.attacks.settled import FLAT, OTHER, SATURATED
from harp.attacks.surrogate import SmoothGradients
from harp.evaluation.notes import Note

_ALONE = 8
"""Images that are asked one by one, too."""
_ATTACKED = 16
"""Images that are attacked without bounds."""
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 1e-1}
"""How far the logits of one image in two batches may differ by rounding, relative to the largest logits."""
_ROUNDING_ON_GPU = 1e-2
"""There at least: TF32 has ten bits, and every size of batch its own algorithm."""
_UNBOUNDED = PGD(Threat("linf", 1.0), steps=20, step_size=0.1, random_start=False, loss="cw")
"""Any image can become any other: ten steps of a pixel go from black to white."""


def misleading(model: nn.Module, x: Tensor, y: Tensor) -> list[Note]:
    """What an attack that follows gradients would take for robustness."""
    logits = logits_of(model, x)
    y = as_labels(y, *logits.shape)
    return [*_blindness(model, x, y), *_limits(model, x, y, classified(logits, y))]


def probabilities(model: nn.Module, x: Tensor) -> list[Note]:
    """Whether the network ends in a softmax, which flattens the losses that attacks climb."""
    answer = logits_of(model, x)
    if (answer >= 0).all() and torch.allclose(answer.sum(1), torch.ones_like(answer[:, 0]), atol=1e-5):
        return [
            Note("the model seems to answer with probabilities; attacks need logits: leave out its softmax", SATURATED)
        ]
    return []


def wavering(model: nn.Module, x: Tensor) -> list[Note]:
    """Whether the answer to an image changes from call to call, or with the images beside it: a few asked anew tell.

    An attack then climbs the loss of another function than the one that is evaluated.
    """
    x = x[:_ALONE]
    rounding = _ROUNDING.get(dtype_of(model) or x.dtype, _ROUNDING[torch.float32])
    if x.device.type != "cpu":
        rounding = max(rounding, _ROUNDING_ON_GPU)
    with seeded(0):
        try:
            together, again = logits_of(model, x), logits_of(model, x)
        except (RuntimeError, ValueError) as error:
            return [
                _other(f"the model's answer depends on the batch: it cannot answer {len(x)} images at once ({error})")
            ]
        change = _difference(together, again)
        if change > rounding / 10:
            return [
                _other(
                    f"the model's logits change from call to call (by {change:.2g} of their size): "
                    "this accuracy is one draw, and attacks that do not average over draws are weak"
                )
            ]
        try:
            alone = torch.cat([logits_of(model, image) for image in x.split(1)])
        except (RuntimeError, ValueError) as error:
            return [_other(f"the model's answer depends on the batch: it cannot answer a single image ({error})")]
    change = _difference(together, alone)
    if change <= rounding:
        return []
    return [
        _other(
            f"the model's logits for an image change with the other images of its batch (by {change:.2g} of their size; "
            "batch norm without running statistics does that): this accuracy holds for these batches only"
        )
    ]


def _other(text: str) -> Note:
    return Note(text, OTHER)


def _difference(one: Tensor, other: Tensor) -> float:
    """The largest distance of an image's two answers, relative to the largest of their lengths."""
    size = one.norm(dim=1).amax().clamp_min(torch.finfo(one.dtype).tiny)
    return float((one - other).norm(dim=1).amax() / size)


def _blindness(model: nn.Module, x: Tensor, y: Tensor) -> list[Note]:
    """Images where the cross-entropy is flat, and whether it is the loss that is flat there or the network."""
    x = x.clone().requires_grad_(True)
    with torch.enable_grad():
        logits = logits_of(model, x)
        (of_loss,) = torch.autograd.grad(cross_entropy(logits, y).sum(), x, retain_graph=True)
        (of_margin,) = torch.autograd.grad(cw_margin(logits, y).sum(), x)
    blind, dead = _flat(of_loss), _flat(of_margin)
    if not blind.any():
        return []
    saturated = int((blind & ~dead).sum())
    causes = [f"at {saturated} the logits are so far apart that it vanishes in rounding"] if saturated else []
    if (blind & dead).any():
        causes.append(f"at {int((blind & dead).sum())} no gradient passes the network: a rounding step, or dead units")
    text = (
        f"gradient masking suspected: the loss has no gradient at {int(blind.sum())} of the first {len(x)} images, "
        f"where attacks that follow it are blind ({'; '.join(causes)})"
    )
    return [Note(text, FLAT if dead.any() else SATURATED)]


def _flat(gradient: Tensor) -> Tensor:
    return (gradient.flatten(1) == 0).all(1)


def _limits(model: nn.Module, x: Tensor, y: Tensor, right: Tensor) -> list[Note]:
    """An attack that may change everything must leave nothing right."""
    chosen = right.nonzero()[:_ATTACKED, 0]
    if not len(chosen):
        return []
    x, y = x[chosen], y[chosen]
    if not (left := _unbeaten(model, x, y)):
        return []
    return [
        _other(
            f"an attack without bounds leaves {left} of {len(x)} images right, where it must leave none: gradients mislead "
            "attacks, or the network gives one answer whatever it sees"
        )
    ]


def unbounded_smoothly(model: nn.Module, x: Tensor, y: Tensor) -> list[str]:
    """What is left to doubt where an attack without bounds fails through dead units and rounding, too."""
    x, y = x[:_ATTACKED], y[:_ATTACKED]
    with SmoothGradients():
        left = _unbeaten(model, x, y)
    if not left:
        return []
    return [
        f"doubt remains: an attack without bounds leaves {left} of {len(x)} images right, though dead units and rounding "
        "pass gradients to it"
    ]


def _unbeaten(model: nn.Module, x: Tensor, y: Tensor) -> int:
    return int(classified(logits_of(model, _UNBOUNDED(model, x, y)), y).sum())
