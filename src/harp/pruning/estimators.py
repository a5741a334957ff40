"""What a layer would gain from keeping more: dL/dkeep from dL/dmask. One signature: ``(grad_mask, scores, mask) -> scalar``.

All three tensors have the shape of the scores; ``mask`` is the one in force.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from harp.pruning.selection import top


def layer_sum(
    grad_mask: Float[Tensor, "*entries"], scores: Float[Tensor, "*entries"], mask: Bool[Tensor, "*entries"]
) -> Float[Tensor, ""]:
    """dL/da = Σ_i dL/dM_i over every entry of the layer (HARP, eq. 5).

    Most of the sum is noise of entries that will never be kept, and the kept ones add what scaling the whole layer
    would do: both favour small layers, and a last layer without batch norm most of all.
    """
    return grad_mask.sum()


def marginal(
    grad_mask: Float[Tensor, "*entries"], scores: Float[Tensor, "*entries"], mask: Bool[Tensor, "*entries"]
) -> Float[Tensor, ""]:
    """dL/da = n · mean of dL/dM over the entries next in line: as many as are kept now, just below the threshold."""
    entries = mask.numel()
    # A few more, so that a layer with a handful of entries does not hang on one of them.
    next_in_line = top(scores, (2 * mask.count_nonzero() + 8).clamp_max(entries)) & ~mask
    return entries * (grad_mask * next_in_line).sum() / next_in_line.count_nonzero().clamp_min(1)
