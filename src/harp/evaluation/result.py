"""What evaluations are made of, one bit for each image, and what several of them cannot all say of one model."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from harp.cards import Evaluation, bits_of


def pack(flags: Bool[Tensor, " images"]) -> str:
    """Hexadecimal, the first image in the highest bit, zeros after the last."""
    padded = torch.cat([flags, flags.new_zeros(-len(flags) % 4)])
    return "".join(f"{int(''.join(map(str, nibble)), 2):x}" for nibble in padded.int().view(-1, 4).tolist())


def unpack(text: str, images: int) -> Bool[Tensor, " images"]:
    """The inverse of :func:`pack`. Raises ValueError when the text is not that of this many images."""
    return torch.tensor(bits_of(text, images), dtype=torch.bool)


def contradictions(evaluations: Sequence[Evaluation]) -> list[str]:
    """What cannot all be true of one model on the same images: signs that an attack failed, not that the model is robust.

    An attack cannot leave more images right than there are clean, AutoAttack not more than a plain attack of the same
    radius, and no attack more than at a smaller radius. Half a percent is granted to random starts.
    """
    found = []
    for weak in evaluations:
        for strong in evaluations:
            if weak.images == strong.images and _stronger(strong, weak) and strong.accuracy > weak.accuracy + 0.005:
                found.append(
                    f"{strong} cannot be more than {weak}: the stronger attack fails, or the weaker is not sound"
                )
    return found


def _stronger(one: Evaluation, other: Evaluation) -> bool:
    if "clean" in (one.attack, other.attack):
        return one.attack != other.attack == "clean"
    if one.norm != other.norm or one.eps is None or other.eps is None:
        return False
    if one.attack == other.attack:
        return one.eps > other.eps
    strength = {"autoattack": 1, "settled": 2}
    return strength.get(one.attack, 0) > strength.get(other.attack, 0) and one.eps >= other.eps
