"""In which order a test set is taken."""

import torch
from jaxtyping import Int
from torch import Tensor


def evaluation_order(images: int) -> Int[Tensor, " images"]:
    """The order in which a test set of this size is taken, for every model and every attack.

    Files often lie sorted by class, so the first 1,000 as they come might be one class: this is one fixed random
    permutation (``torch.randperm`` with seed 0).
    """
    return torch.randperm(images, generator=torch.Generator().manual_seed(0))
