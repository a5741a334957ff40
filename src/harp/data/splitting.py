"""Cut a part off a split, so that an image's part does not depend on which other images there are."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from harp.data.augment import hash_index
from harp.data.images import Images, InMemory
from harp.data.streamed import Streamed


def split(images: Images, fraction: float, seed: int) -> tuple[Images, Images]:
    """Cut a validation split of about `fraction` of every class off `images`: (the rest, validation).

    Images that have names are drawn by them, see `drawn_by_name`; of others, exactly round(fraction · n) of every class
    by their positions, where a class of one image stays whole. The same arguments give the same parts on every machine.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction={fraction}: expected a fraction between 0 and 1, for example 0.1")
    names = images.names if isinstance(images, InMemory | Streamed) else None
    if names is not None:
        chosen = drawn_by_name(names, images.labels, fraction, seed, part="validation")
    else:
        chosen = _drawn_by_position(images.labels, fraction, seed)
    return images.subset((~chosen).nonzero()[:, 0]), images.subset(chosen.nonzero()[:, 0])


def drawn_by_name(
    names: Sequence[str], labels: Int64[Tensor, " n"], fraction: float, seed: int, *, part: str
) -> Bool[Tensor, " n"]:
    """Which images belong to `part`: those for which a hash of (part, seed, name) falls below `fraction`.

    That is `fraction` of them in expectation, and no image changes its part when others are added. A class of which
    none falls below gives the image with the smallest hash; it returns to the rest once another falls below. So an image
    of the rest never moves to `part` when images are added. Raises ValueError for a class that cannot be in both.
    """
    key = hashlib.blake2b(f"{part} {seed}".encode(), digest_size=32).digest()
    draws = torch.tensor([_draw(name, key) for name in names], dtype=torch.float64)
    chosen = draws < fraction
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        if len(members) > 1 and not chosen[members].any():
            chosen[members[draws[members].argmin()]] = True
        if len(members) < 2 or chosen[members].all():
            raise ValueError(
                f"the class of {names[int(members[0])]} has {len(members)} images, too few to have some in {part} and some "
                f"outside: add images, remove the class, or bring {part}/<class>/ directories of your own"
            )
    return chosen


def _draw(name: str, key: bytes) -> float:
    """A number in [0, 1) that follows from the name alone."""
    hashed = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8, key=key).digest()
    return (int.from_bytes(hashed, "big") >> 11) / 2**53


def _drawn_by_position(labels: Int64[Tensor, " n"], fraction: float, seed: int) -> Bool[Tensor, " n"]:
    rank = hash_index(torch.arange(len(labels)), seed)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen[members[rank[members].argsort()[:count]]] = True
    if not chosen.any():
        raise ValueError(f"{len(labels)} images are too few to split: every class has a single image")
    return chosen
