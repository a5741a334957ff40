"""What a batch is trained towards: its labels, softened, and what the dense parent answers (distillation).

    for the attack:  t = (1 − distill) · labels + distill · softmax(parent(x))
    for the loss:    (1 − label_smoothing) · t + label_smoothing / classes

Cross-entropy to a mixture is the mixture of cross-entropies, and that to the parent's answer is, but for a constant, the KL
divergence from it. With distill = 1 attack and targets are both the parent's, on the clean image, as in RSLAD (Zi et al.
2021); between 0 and 1 labels have a part, as in ARD (Goldblum et al. 2020).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from harp.attacks import logits_of


@dataclass(frozen=True)
class Targets:
    """``classes`` of the data; the ``teacher`` is asked in eval mode, and stays as it is."""

    classes: int
    label_smoothing: float = 0.0
    distill: float = 0.0
    teacher: nn.Module | None = None

    def __post_init__(self) -> None:
        if self.distill > 0 and self.teacher is None:
            raise ValueError(f"distill={self.distill} needs a teacher: the dense network that answers")

    def __call__(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the attack is made for, and what the loss is taken of."""
        mixed = self.for_attack(x, y)
        return mixed, self.for_loss(mixed)

    def for_attack(self, x: Tensor, y: Tensor) -> Tensor:
        """Labels as they are, or their mixture with the teacher's answer."""
        if self.teacher is None or self.distill == 0:
            return y
        with torch.no_grad():
            answer = logits_of(self.teacher, x).softmax(1)
        return (1 - self.distill) * self.as_probabilities(y).to(answer.dtype) + self.distill * answer

    def for_loss(self, y: Tensor) -> Tensor:
        """What :meth:`for_attack` gave, smoothed."""
        if self.label_smoothing == 0:
            return y
        return (1 - self.label_smoothing) * self.as_probabilities(y) + self.label_smoothing / self.classes

    def as_probabilities(self, y: Tensor) -> Float[Tensor, "batch classes"]:
        """One-hot, unless it is probabilities already."""
        return y if y.is_floating_point() else F.one_hot(y, self.classes).float()
